# SPDX-License-Identifier: LGPL-2.1-or-later
"""The plugins that are there from the start."""

from __future__ import annotations
