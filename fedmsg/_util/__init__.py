# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every room needs: threads, files, text, limits, plugins, and the doors of libraries."""

from __future__ import annotations
