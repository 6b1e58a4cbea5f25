# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-prune``: removes old messages from the history."""

from __future__ import annotations

import datetime as dt
import re
import sys
from typing import ClassVar

from fedmsg.commands import Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer.commands.base import CATEGORY, DATABASE, HistoryCommand, moment_of, with_progress
from fedmsg.exceptions import UsageError

__all__ = ["PruneCommand", "prune"]

_AGE = re.compile(r"(\d+)(h|d|w|y)")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


def _limit(text: str) -> dt.datetime:
    """Return the time before which messages are old."""
    if (age := _AGE.fullmatch(text)) is not None:
        try:
            now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
            return now - dt.timedelta(hours=int(age[1]) * _HOURS[age[2]])
        except OverflowError:
            return dt.datetime.min  # noqa: DTZ901 the columns have no zone
    try:
        return moment_of(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither an age, such as 90d, 12w or 2y, nor a time in ISO 8601") from None


class PruneCommand(HistoryCommand):
    """Remove the messages that are older than an age, such as 90d, 12w or 2y, or than a time.

    In PostgreSQL whole months go at once, if all of their messages go.
    """

    name = "datanommer-prune"
    extra_args: ClassVar[list[Declaration]] = [
        DATABASE,
        flag("--older-than", dest="older_than", type=_limit, metavar="AGE|TIME", help="What is older is removed."),
        CATEGORY,
    ]

    def run(self) -> None:
        """Remove them.

        Raises:
            StoreError: The database can't be used.
            UsageError: No age is given.
        """
        limit, category = self.config["older_than"], self.config["category"]
        if limit is None:
            raise UsageError("--older-than is required: an age, such as 90d, or a time")
        with self.history.opened(self.url):
            length = None
            if sys.stderr is not None and sys.stderr.isatty():
                length = self.history.count(None, limit, None, category)
            parts = ((count, count) for count in self.history.prune(limit, category))
            removed = sum(with_progress(parts, length, "removing"))
        print(f"{removed} messages from before {limit.isoformat(' ', 'seconds')} UTC removed")


def prune() -> None:
    """Run the command: the entry point of ``datanommer-prune``."""
    PruneCommand().execute()
