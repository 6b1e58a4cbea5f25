# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-dump``: prints the messages of the history as JSON."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable
from typing import Any, ClassVar, NoReturn

from fedmsg import encoding
from fedmsg.commands import Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer.commands.base import DATABASE, HistoryCommand, moment_of, with_progress

__all__ = ["DumpCommand", "dump"]


class DumpCommand(HistoryCommand):
    """Print messages as JSON, in the order of time: what datanommer-load reads.

    A time without a zone is in UTC; messages of both times are printed, too.
    """

    name = "datanommer-dump"
    extra_args: ClassVar[list[Declaration]] = [
        DATABASE,
        flag("--since", metavar="TIME", help="From this time on, such as 2026-02-14T08:05:59.87."),
        flag("--before", metavar="TIME", help="Up to this time."),
        flag(
            "--format",
            choices=["json", "ndjson", "jsonl"],
            default="json",
            help="An array, or an object per line; default: json.",
        ),
    ]

    def run(self) -> None:
        """Print the messages.

        Raises:
            StoreError: The database can't be used.
        """
        since, before = self._moment("since"), self._moment("before")
        with self.history.opened(self.url):
            length = self.history.count(since, before) if sys.stderr is not None and sys.stderr.isatty() else None
            parts = ((1, record) for record in self.history.records(since, before))
            found = with_progress(parts, length, "dumping")
            if self.config["format"] == "json":
                _print_array(found)
            else:
                for record in found:
                    print(encoding.dumps(record))

    def _moment(self, name: str) -> dt.datetime | None:
        text = self.config[name]
        try:
            return moment_of(text) if text is not None else None
        except ValueError:
            _fail()


def _fail() -> NoReturn:
    # What scripts look for.
    print("Error: Invalid date format", file=sys.stderr)
    sys.exit(1)


def _print_array(found: Iterable[Any]) -> None:
    write = sys.stdout.write
    write("[")
    for number, record in enumerate(found):
        write(",\n" if number else "\n")
        write(encoding.dumps(record))
    write("\n]\n")


def dump() -> None:
    """Run the command: the entry point of ``datanommer-dump``."""
    DumpCommand().execute()
