# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the commands of the history have in common."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import click

from fedmsg._util import plugins
from fedmsg.commands import BaseCommand, Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer import database_url

__all__ = ["CATEGORY", "DATABASE", "END", "START", "TOPIC", "HistoryCommand", "moment_of", "with_progress"]

DATABASE: Declaration = flag(
    "--database",
    dest="datanommer.sqlalchemy.url",
    metavar="URL",
    help="The database with the history; default: datanommer.sqlalchemy.url.",
)
TOPIC: Declaration = flag("--topic", metavar="TOPIC", help="Only messages with this topic.")
CATEGORY: Declaration = flag("--category", metavar="CATEGORY", help="Only messages of this category, such as git.")


def moment_of(text: str) -> dt.datetime:
    """Return the time that a text in ISO 8601 stands for, in UTC and without a zone; without one it is in UTC.

    Raises:
        ValueError: It is none.
    """
    try:
        # Before Python 3.11 it does not know the Z.
        found = dt.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
    except ValueError:
        raise ValueError(f"{text!r} is no time in ISO 8601, such as 2026-02-14T08:05:59") from None
    return found.astimezone(dt.timezone.utc).replace(tzinfo=None) if found.tzinfo else found


START: Declaration = flag("--start", type=moment_of, metavar="TIME", help="Only messages from this time on.")
END: Declaration = flag("--end", type=moment_of, metavar="TIME", help="Only messages up to this time.")


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


def with_progress(parts: Iterable[tuple[int, Any]], length: int | None, label: str) -> Iterator[Any]:
    """Yield what comes, and show on a terminal how far that is.

    Args:
        parts: How much each part is of the whole, and what is to be yielded.
        length: The whole; None where it is not known.
        label: What is done.
    """
    if not (sys.stderr is not None and sys.stderr.isatty()):
        yield from (found for _, found in parts)
        return
    with click.progressbar(length=length or 0, label=label, file=sys.stderr, show_pos=True) as bar:
        for size, found in parts:
            yield found
            bar.update(size)
