# SPDX-License-Identifier: LGPL-2.1-or-later
"""What consumer and commands do with the database of the history; imported when it is first used."""

from __future__ import annotations

from fedmsg.datanommer.upkeep.opened import engine, open_once, opened, prepare, used
from fedmsg.datanommer.upkeep.progress import store, stored_numbers, stored_position
from fedmsg.datanommer.upkeep.reading import count, latest, pages, records, stats

__all__ = [
    "count",
    "engine",
    "latest",
    "open_once",
    "opened",
    "pages",
    "prepare",
    "records",
    "stats",
    "store",
    "stored_numbers",
    "stored_position",
    "used",
]
