# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-stats``: counts the messages of the history."""

from __future__ import annotations

from typing import ClassVar

from fedmsg._util.text import safe_line
from fedmsg.commands import Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer.commands.base import CATEGORY, DATABASE, HistoryCommand

__all__ = ["StatsCommand", "stats"]


class StatsCommand(HistoryCommand):
    """Print how many messages there are of each category, or of each topic."""

    name = "datanommer-stats"
    extra_args: ClassVar[list[Declaration]] = [
        DATABASE,
        flag("--topic", action="store_true", help="Count by topic."),
        CATEGORY,
    ]

    def run(self) -> None:
        """Print a line for each of them.

        Raises:
            StoreError: The database can't be used.
        """
        with self.history.opened(self.url):
            for name, count in self.history.stats(self.config["category"], by_topic=self.config["topic"]):
                print(f"{safe_line(name)} has {count} entries")


def stats() -> None:
    """Run the command: the entry point of ``datanommer-stats``."""
    StatsCommand().execute()
