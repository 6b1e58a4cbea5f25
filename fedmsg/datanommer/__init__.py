# SPDX-License-Identifier: LGPL-2.1-or-later
"""History: everything that passed on the bus, in a database."""

from __future__ import annotations
