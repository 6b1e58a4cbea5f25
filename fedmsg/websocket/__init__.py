# SPDX-License-Identifier: LGPL-2.1-or-later
"""The WebSocket server of a hub."""

from __future__ import annotations
