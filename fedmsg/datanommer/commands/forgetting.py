# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-forget``: takes a user out of the history."""

from __future__ import annotations

from typing import ClassVar

from fedmsg.commands import Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer.commands.base import DATABASE, HistoryCommand
from fedmsg.exceptions import UsageError

__all__ = ["ForgetCommand", "forget"]


class ForgetCommand(HistoryCommand):
    """Take a user out of the messages of the history.

    The name is replaced in what they say, and their signatures go, which would be wrong. Messages
    are changed that are known to be about the user; with --everywhere all are looked through.
    """

    name = "datanommer-forget"
    extra_args: ClassVar[list[Declaration]] = [
        DATABASE,
        flag("--user", metavar="NAME", help="The name of the user."),
        flag("--everywhere", action="store_true", help="Look through all messages, which takes its time."),
    ]

    def run(self) -> None:
        """Change the messages.

        Raises:
            StoreError: The database can't be used.
            UsageError: No user is given.
        """
        name = (self.config["user"] or "").strip()
        if not name:
            raise UsageError("--user is required: the name of a user")
        with self.history.opened(self.url):
            changed = sum(self.history.forget(name, everywhere=self.config["everywhere"]))
        print(f"{changed} messages changed")


def forget() -> None:
    """Run the command: the entry point of ``datanommer-forget``."""
    ForgetCommand().execute()
