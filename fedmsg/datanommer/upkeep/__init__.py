# SPDX-License-Identifier: LGPL-2.1-or-later
"""What consumer and commands do with the database of the history; imported when it is first used."""

from __future__ import annotations

from fedmsg.datanommer import database_url
from fedmsg.datanommer.models import index_texts
from fedmsg.datanommer.upkeep.checking import check
from fedmsg.datanommer.upkeep.extracting import extract
from fedmsg.datanommer.upkeep.importing import Import, opened_source
from fedmsg.datanommer.upkeep.loading import load_file
from fedmsg.datanommer.upkeep.opened import open_once, opened, prepare, used
from fedmsg.datanommer.upkeep.progress import store, stored_numbers, stored_position
from fedmsg.datanommer.upkeep.reading import count, latest, now, records, stats
from fedmsg.datanommer.upkeep.removing import forget, prune

__all__ = [
    "Import",
    "check",
    "count",
    "database_url",
    "extract",
    "forget",
    "index_texts",
    "latest",
    "load_file",
    "now",
    "open_once",
    "opened",
    "opened_source",
    "prepare",
    "prune",
    "records",
    "stats",
    "store",
    "stored_numbers",
    "stored_position",
    "used",
]
