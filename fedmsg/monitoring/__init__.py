# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a running process reports of itself."""

from __future__ import annotations
