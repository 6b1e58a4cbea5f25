# SPDX-License-Identifier: LGPL-2.1-or-later
"""The newest messages of the stream in memory, for the readers that are near its end."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from fedmsg.stream.records import Entry

__all__ = ["Window"]

# What was trimmed is cut off when it is so many messages: cutting costs as much as what remains.
_CUT = 1024


class Window:
    """The newest messages, without a gap; one thread appends, any thread reads.

    Args:
        newest: The newest position of the stream.
        messages: How many messages are kept at most.
        size: How many bytes of topics and bodies are kept at most; the newest message is kept in any case.
    """

    def __init__(self, newest: int, messages: int = 50_000, size: int = 32 * 1024 * 1024) -> None:
        self._max_messages = messages
        self._max_size = size
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        # How many at the beginning of the list are no longer in the window.
        self._trimmed = 0
        self._size = 0
        self.newest = newest

    @property
    def low(self) -> int:
        """A reader that has come to this position, or further, finds all that follows here."""
        return self.newest - (len(self._entries) - self._trimmed)

    @property
    def size(self) -> int:
        """How many bytes of topics and bodies there are."""
        return self._size

    def append(self, entries: Sequence[Entry]) -> None:
        """Add what was stored, in the order of positions."""
        with self._lock:
            for entry in entries:
                if entry.position <= self.newest:
                    continue
                if entry.position != self.newest + 1:
                    self._clear()
                self._entries.append(entry)
                self._size += _size(entry)
                self.newest = entry.position
            self._trim()

    def _clear(self) -> None:
        self._entries.clear()
        self._trimmed = self._size = 0

    def _trim(self) -> None:
        entries = self._entries
        count = len(entries)
        while count - self._trimmed > 1 and (count - self._trimmed > self._max_messages or self._size > self._max_size):
            self._size -= _size(entries[self._trimmed])
            # Its memory is free at once; the place in the list follows.
            entries[self._trimmed] = _GONE
            self._trimmed += 1
        if self._trimmed >= _CUT:
            del entries[: self._trimmed]
            self._trimmed = 0

    def read(self, after: int, limit: int) -> list[Entry] | None:
        """Return at most so many messages after a position; None where the window does not reach back so far."""
        with self._lock:
            start = after - self.low
            if start < 0:
                return None
            start += self._trimmed
            return self._entries[start : start + limit]


_GONE = Entry(0, 0.0, b"", b"", ())


def _size(entry: Entry) -> int:
    return len(entry.topic) + len(entry.body)
