# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the tables of the history came to be, step by step; Alembic runs the steps."""

from __future__ import annotations
