# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the commands of the history have in common."""

from __future__ import annotations

import datetime as dt
import re
import sys
from typing import Any, ClassVar

from fedmsg._util import plugins
from fedmsg.commands import BaseCommand, Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer import database_url

__all__ = ["CATEGORY", "DATABASE", "TOPIC", "HistoryCommand", "moment_of"]

DATABASE: Declaration = flag(
    "--database",
    dest="datanommer.sqlalchemy.url",
    metavar="URL",
    help="The database with the history; default: datanommer.sqlalchemy.url.",
)
TOPIC: Declaration = flag("--topic", metavar="TOPIC", help="Only messages with this topic.")
CATEGORY: Declaration = flag("--category", metavar="CATEGORY", help="Only messages of this category, such as git.")


class HistoryCommand(BaseCommand):
    """A command that works on the database of the history."""

    prints_data = True
    unused_flags = frozenset(
        {"topic_prefix", "io_threads", "post_init_sleep", "timeout", "high_water_mark", "zmq_linger"}
    )
    extra_args: ClassVar[list[Declaration]] = [DATABASE]

    @property
    def history(self) -> Any:
        """The module that works with the database, imported when it is first used."""
        return plugins.lazy("history")

    @property
    def url(self) -> str:
        """The URL of the database."""
        return database_url(self.config)


def moment_of(text: str) -> dt.datetime:
    """Return the time that a text in ISO 8601 stands for, in UTC and without a zone; without one it is in UTC.

    Raises:
        ValueError: It is none.
    """
    # Before Python 3.11 it does not know the Z.
    found = dt.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
    return found.astimezone(dt.timezone.utc).replace(tzinfo=None) if found.tzinfo else found


def is_terminal() -> bool:
    """Return whether someone sees what is written to standard error."""
    return sys.stderr is not None and sys.stderr.isatty()
