# SPDX-License-Identifier: LGPL-2.1-or-later
"""The steps, from the first to the last."""

from __future__ import annotations
