# SPDX-License-Identifier: LGPL-2.1-or-later
"""A queue whose items wait until none has come for a while."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Waiting"]

Item = TypeVar("Item")


class Waiting(Generic[Item]):
    """What waits, in order.

    Args:
        delay: Seconds; nothing is taken until so long no more has come.
        most: When more than so many wait they are taken at once; 0 sets no limit.
        limit: When so many wait, whoever brings one more waits too.
    """

    def __init__(self, delay: float, most: int, limit: int) -> None:
        self._delay = delay
        self._most = min(most or limit - 1, limit - 1)
        self._limit = limit
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._latest = 0.0
        # How many of the items have waited long enough.
        self._due = 0
        self._ending = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Add an item; all that wait begin to wait anew."""
        with self._changed:
            try:
                while len(self._items) >= self._limit and not self._ending:
                    self._changed.wait()
            finally:
                # A signal may have ended the wait: the item has been accepted all the same.
                self._items.append(item)
                self._latest = time.monotonic()
                self._changed.notify_all()

    def take(self) -> Item | None:
        """Take the next item when it is due; None when nothing is left and nothing will come."""
        with self._changed:
            while not self._due:
                now = time.monotonic()
                wait = self._latest + self._delay - now if self._items else None
                if self._items and (self._ending or len(self._items) > self._most or (wait or 0.0) <= 0):
                    self._due = len(self._items)
                elif self._ending:
                    return None
                else:
                    self._changed.wait(wait)
            self._due -= 1
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """Let nothing wait any more, for no more will come."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def rest(self) -> list[Item]:
        """Take all that is left."""
        with self._changed:
            rest = list(self._items)
            self._items.clear()
            self._due = 0
            return rest
