# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics of the bus that are kept up to date: plugins that count, and their numbers over HTTP."""

from __future__ import annotations
