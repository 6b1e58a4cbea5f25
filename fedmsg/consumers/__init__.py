# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that listen to the bus, and what they share."""

from __future__ import annotations
