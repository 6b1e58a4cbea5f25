# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-create-db``: makes the tables of the history."""

from __future__ import annotations

from fedmsg.datanommer.commands.base import HistoryCommand

__all__ = ["CreateCommand", "create"]


class CreateCommand(HistoryCommand):
    """Make the tables of the history, or bring them up to date.

    It may be run again, and after each update; a hub that stores messages does the same when it starts.
    """

    name = "datanommer-create-db"

    def run(self) -> None:
        """Make what is missing.

        Raises:
            StoreError: The database can't be used.
        """
        self.history.prepare(self.url)
        self.log.info("the tables of the history are up to date")


def create() -> None:
    """Run the command: the entry point of ``datanommer-create-db``."""
    CreateCommand().execute()
