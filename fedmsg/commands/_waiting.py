# SPDX-License-Identifier: LGPL-2.1-or-later
"""A queue whose items wait until none has come for a while."""

from __future__ import annotations

import queue
import time
from collections import deque
from typing import Generic, TypeVar

from fedmsg._util.service import Closeable, Waker

__all__ = ["Waiting"]

Item = TypeVar("Item")


class Waiting(Closeable, Generic[Item]):
    """What waits, in order: the main thread puts items in, one worker takes them.

    The main thread may be interrupted at any instruction, so that it shares no lock with the worker.

    Args:
        delay: Seconds; nothing is taken until so long no more has come.
        most: When more than so many wait they are taken at once; 0 sets no limit.
        limit: When so many wait, `put` waits too.
    """

    def __init__(self, delay: float, most: int, limit: int) -> None:
        self._delay = delay
        self._most = min(most or limit - 1, limit - 1)
        self._limit = limit
        # With the time when it came; None wakes the worker.
        self._incoming: queue.SimpleQueue[tuple[float, Item] | None] = queue.SimpleQueue()
        self._room, self._end = Waker(), Waker()
        self._put = 0
        self._ending = False
        # The worker's own: what it has seen, how many of these have waited long enough.
        self._items: deque[Item] = deque()
        self._latest = 0.0
        self._due = 0
        self._taken = 0

    def __len__(self) -> int:
        return self._put - self._taken

    def put(self, item: Item) -> None:
        """Add an item; all that wait begin to wait anew. Waits itself while there are too many."""
        try:
            while len(self) >= self._limit and not self._ending:
                self._room.wait()
        finally:
            # A signal may have ended the wait: the item has been accepted all the same.
            self._incoming.put((time.monotonic(), item))
            self._put += 1

    def take(self) -> Item | None:
        """Take the next item when it is due; None when nothing is left and nothing will come."""
        while not (self._due and self._items):
            self._look(wait=False)
            left = self._latest + self._delay - time.monotonic()
            if self._items and (self._ending or len(self._items) > self._most or left <= 0):
                self._due = len(self._items)
            elif self._ending and self._incoming.empty():
                return None
            else:
                self._look(wait=True, timeout=left if self._items else None)
        self._due -= 1
        self._taken += 1
        self._room.wake()
        return self._items.popleft()

    def _look(self, *, wait: bool, timeout: float | None = None) -> None:
        """Move what has come to the items of the worker."""
        try:
            while True:
                found = self._incoming.get(wait, timeout)
                if found is not None:
                    self._latest = found[0]
                    self._items.append(found[1])
                wait = False
        except queue.Empty:
            pass

    def end(self) -> None:
        """Release all items that wait: no more will be added."""
        self._ending = True
        self._incoming.put(None)
        self._end.wake()

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end; return whether it has come."""
        return self._ending or self._end.wait(seconds)

    def rest(self) -> list[Item]:
        """Take all that is left."""
        self._look(wait=False)
        rest = []
        while self._items:
            rest.append(self._items.popleft())
        return rest

    def _close(self) -> None:
        self._room.close()
        self._end.close()
