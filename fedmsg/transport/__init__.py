# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that touches a socket: publishing, receiving, forwarding, and stopping cleanly."""

from __future__ import annotations
