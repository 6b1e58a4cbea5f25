# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-check``: looks whether something is missing from the history."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from fedmsg import encoding
from fedmsg._util.text import safe_line
from fedmsg.commands import Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer.commands.base import DATABASE, END, START, HistoryCommand

__all__ = ["CheckCommand", "check"]

_WEEK = dt.timedelta(days=7)
_SHOWN = 10


class CheckCommand(HistoryCommand):
    """Look whether something is missing from the history, and how large it is.

    It lists minutes without any message, holes in the numbers of publishers that have a store,
    and ids that several messages have; how old the newest message is; what grows fastest. It looks
    at the last seven days, or from --start to --end. Status 1: something is missing or doubled.
    """

    name = "datanommer-check"
    extra_args: ClassVar[list[Declaration]] = [
        DATABASE,
        START,
        END,
        flag("--json", dest="as_json", action="store_true", help="Print JSON, for programs."),
    ]

    def run(self) -> int:
        """Print what was found; return the exit status.

        Raises:
            StoreError: The database can't be used.
        """
        with self.history.opened(self.url):
            end = self.config["end"] or self.history.now()
            found = self.history.check(self.config["start"] or end - _WEEK, end)
        if self.config["as_json"]:
            print(encoding.dumps(found))
        else:
            _print(found)
        return 1 if found["silent_minutes"] or found["missing"] or found["doubled"] else 0


def _print(found: Mapping[str, Any]) -> None:
    print(f"{found['messages']} messages from {found['start']} to {found['end']}")
    if found["newest"] is not None:
        print(f"the newest of all is {found['lag']:.1f} s old")
    print(f"{found['silent_minutes']} minutes without a message")
    for one in found["silent"][:_SHOWN]:
        print(f"  from {one['from']} to {one['to']}")
    print(f"{found['missing']} numbers of publishers are missing")
    for one in found["holes"][:_SHOWN]:
        print(f"  of {safe_line(str(one['username']))}: {one['first']} to {one['last']}")
    print(f"{found['doubled']} messages have an id that another one has")
    for one in found["duplicates"][:_SHOWN]:
        print(f"  {safe_line(one['msg_id'])}: {one['count']} times")
    for name, position in found["streams"].items():
        print(f"{safe_line(name)} is stored up to position {position}")
    for name, number in found["services"].items():
        print(f"{safe_line(name)} is stored up to number {number}")
    if found["bytes"] is not None:
        print(f"{found['bytes']} bytes on disk")
    for one in found["topics"][:_SHOWN]:
        print(f"  {safe_line(one['topic'])}: {one['messages']} messages, {one['bytes']} bytes in the last day")


def check() -> None:
    """Run the command: the entry point of ``datanommer-check``."""
    sys.exit(CheckCommand().execute())
