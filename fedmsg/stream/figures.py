# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures of a stream that have to be read from its store, read every few seconds for all who ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmsg.stream import jobs
from fedmsg.stream.names import Names
from fedmsg.stream.records import Cursor
from fedmsg.stream.window import Window
from fedmsg.stream.worker import Worker

__all__ = ["NAMES_MAX", "Figures"]

#: The lags of so many durable subscriptions are metrics: the largest ones.
NAMES_MAX = 100
# Seconds between two reads.
_INTERVAL = 5.0

_Found = tuple[Mapping[str, Any], tuple[int, list[Cursor]]]


class Figures:
    """Reads how much is kept, and how far the durable subscriptions are behind.

    Any thread may take them: a scrape of metrics never waits for the store.

    Args:
        stream: The stream.
        names: The durable names that are read.
        worker: The thread that may wait for the store.
        window: The newest messages.
        first: The oldest position at the start.
    """

    def __init__(self, stream: jobs.Readable, names: Names, worker: Worker, window: Window, first: int) -> None:
        self._stream = stream
        self._names = names
        self._worker = worker
        self._window = window
        self._next = 0.0
        #: The oldest position, as far as it is known.
        self.first = first
        self._bytes: int | None = None
        self._durables = 0
        self._behind: list[Cursor] = []

    def tick(self, now: float) -> None:
        """Have them read, where that is due."""
        if now >= self._next:
            self._next = now + _INTERVAL
            self._worker.ask(lambda: (self._stream.statistics(), self._stream.cursors_behind(NAMES_MAX)), self._take)

    def _take(self, found: _Found | Exception) -> None:
        # A failure is reported by what cannot do without the store.
        if not isinstance(found, Exception):
            statistics, (self._durables, self._behind) = found
            self.first, self._bytes = statistics["first"], statistics["bytes"]

    def statistics(self) -> dict[str, Any]:
        """Return the first position, how much is kept, and how many durable subscriptions there are."""
        if self._bytes is None:
            return {}
        return {
            "first": self.first,
            "messages": max(0, self._window.newest + 1 - self.first),
            "bytes": self._bytes,
            "durable": self._durables,
        }

    def lags(self) -> dict[str, int]:
        """Return the lag of each durable subscription; of many, those with the largest."""
        newest = self._window.newest
        return {one.name: max(0, newest - self._names.newest_of(one)) for one in self._behind}
