# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-extract``: finds out anew which users and packages messages are about."""

from __future__ import annotations

import sys
from typing import ClassVar

from fedmsg import meta
from fedmsg.commands import Declaration
from fedmsg.datanommer.commands.base import CATEGORY, DATABASE, END, START, TOPIC, HistoryCommand, with_progress

__all__ = ["ExtractCommand", "extract"]


class ExtractCommand(HistoryCommand):
    """Find out anew which users and packages messages are about, and who did it.

    For messages that were stored before the plugin was installed that knows them.
    """

    name = "datanommer-extract"
    extra_args: ClassVar[list[Declaration]] = [DATABASE, TOPIC, CATEGORY, START, END]

    def run(self) -> None:
        """Ask the plugins.

        Raises:
            StoreError: The database can't be used.
        """
        config = self.config
        if not meta.processors:
            meta.make_processors(**config)
        wanted = (config["start"], config["end"], config["topic"], config["category"])
        looked_at = changed = 0
        with self.history.opened(self.url):
            length = self.history.count(*wanted) if sys.stderr is not None and sys.stderr.isatty() else None
            parts = ((part[0], part) for part in self.history.extract(config, *wanted))
            for count, new in with_progress(parts, length, "extracting"):
                looked_at += count
                changed += new
        print(f"{looked_at} messages looked at, {changed} changed")


def extract() -> None:
    """Run the command: the entry point of ``datanommer-extract``."""
    ExtractCommand().execute()
