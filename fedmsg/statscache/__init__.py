# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics of what passes on the bus, kept up to date by plugins, in a database."""

from __future__ import annotations
