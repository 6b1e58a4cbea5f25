# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-latest``: prints the newest message of each category."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, ClassVar

from fedmsg import encoding
from fedmsg.commands import Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer.commands.base import CATEGORY, DATABASE, TOPIC, HistoryCommand
from fedmsg.exceptions import UsageError

__all__ = ["LatestCommand", "latest"]


class LatestCommand(HistoryCommand):
    """Print the newest message of each category of the last 365 days, as a JSON list.

    The order is that of the categories. With --timestamp or --timesince only times are printed.
    """

    name = "datanommer-latest"
    extra_args: ClassVar[list[Declaration]] = [
        DATABASE,
        TOPIC,
        CATEGORY,
        flag("--overall", action="store_true", help="Only the newest message of all."),
        flag("--timestamp", action="store_true", help="Only its time, in seconds since the epoch."),
        flag("--timesince", action="store_true", help="Only how many seconds ago that was."),
        flag(
            "--human",
            action="store_true",
            help="These times for people: a date, or hours, minutes, seconds.",
        ),
    ]

    def run(self) -> None:
        """Print what was asked for.

        Raises:
            StoreError: The database can't be used.
            UsageError: The flags exclude each other.
        """
        config = self.config
        if sum(bool(config[name]) for name in ("topic", "category", "overall")) > 1:
            raise UsageError("--topic, --category and --overall exclude each other")
        with self.history.opened(self.url):
            found = self.history.latest(config["topic"], config["category"], overall=config["overall"])
        now = time.time()
        print(encoding.dumps([self._shown(name, message, now) for name, message in found]))

    def _shown(self, category: str, message: dict[str, Any], now: float) -> Any:
        """Return what is printed of a message."""
        config = self.config
        then = dt.datetime.fromtimestamp(message["timestamp"], dt.timezone.utc).replace(tzinfo=None)
        since = dt.timedelta(seconds=max(0.0, now - message["timestamp"]))
        if config["timestamp"]:
            return str(then) if config["human"] else message["timestamp"]
        if config["timesince"]:
            return str(since) if config["human"] else str(since // dt.timedelta(seconds=1))
        return {category: message}


def latest() -> None:
    """Run the command: the entry point of ``datanommer-latest``."""
    LatestCommand().execute()
