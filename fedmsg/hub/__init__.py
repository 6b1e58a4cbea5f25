# SPDX-License-Identifier: LGPL-2.1-or-later
"""The loop that daemons run in, and what tells the world how they are."""

from __future__ import annotations
