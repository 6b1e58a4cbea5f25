# SPDX-License-Identifier: LGPL-2.1-or-later
"""What waits for one consumer: a bounded queue that is filled and emptied in batches."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from fedmsg._util.service import SafeCondition

__all__ = ["MessageQueue"]


def _nothing() -> None:
    """Do nothing."""


class MessageQueue:
    """A queue with the methods of `queue.Queue`, and some that take many items at a time.

    Args:
        limit: How many items may wait.
        drop: Whether the oldest of them are dropped when there are more; otherwise the thread that
            fills it looks at `full`, and waits.

    Attributes:
        received: How many items were put in.
        dropped: How many of them were dropped.
        on_room: Called when a full queue has room again, and when nothing is unfinished any more.
    """

    def __init__(self, limit: int, *, drop: bool = False) -> None:
        self.limit = limit
        self.received = self.dropped = 0
        self.on_room: Callable[[], None] = _nothing
        self._drop = drop
        self._items: deque[Any] = deque()
        # How many were taken and are not finished. What waits is not counted: an interrupt of a thread that puts
        # something in can't make a count of it wrong.
        self._taken = 0
        # Re-entrant, so that a thread that was interrupted inside can still stop the hub.
        self._lock = threading.RLock()
        self._filled = SafeCondition(self._lock)
        # There is room, or nothing is unfinished.
        self._emptied = SafeCondition(self._lock)

    # ---------------------------------------------------------------- in batches

    @property
    def unfinished(self) -> int:
        """How many items were put in and neither finished nor dropped."""
        return len(self._items) + self._taken

    @property
    def full(self) -> bool:
        """Whether the thread that fills it should wait."""
        return not self._drop and len(self._items) >= self.limit

    def put_many(self, items: Iterable[Any]) -> list[Any]:
        """Put items in without ever waiting; return those that are dropped for them."""
        dropped: list[Any] = []
        with self._lock:
            before = len(self._items)
            self._items.extend(items)
            self.received += len(self._items) - before
            if self._drop and len(self._items) > self.limit:
                dropped = [self._items.popleft() for _ in range(len(self._items) - self.limit)]
                self.dropped += len(dropped)
            self._filled.notify_all()
        return dropped

    def take(self, most: int, timeout: float | None = None) -> list[Any]:
        """Take items out, waiting until there is one; return none when the wait has ended without one.

        Without a ``timeout`` it ends when there is one or `wake` is called.
        """
        if timeout != 0.0:
            with self._lock:
                waiter = None if self._items else self._filled.expect()
            if waiter is not None:
                self._filled.wait(waiter, timeout)
        with self._lock:
            before = len(self._items)
            if before <= most:
                items = list(self._items)
                self._items.clear()
            else:
                items = [self._items.popleft() for _ in range(most)]
            self._taken += len(items)
            if items:
                self._emptied.notify_all()
            has_room_again = before >= self.limit > len(self._items)
        if has_room_again:
            self.on_room()
        return items

    def give_back(self, items: Iterable[Any]) -> None:
        """Put items that were taken, and not worked on, back to the front."""
        with self._lock:
            before = len(self._items)
            self.put_first(items)
            self._taken -= len(self._items) - before

    def put_first(self, items: Iterable[Any]) -> None:
        """Put items in that come before all that wait."""
        with self._lock:
            self._items.extendleft(reversed(list(items)))
            self._filled.notify_all()

    def rest(self) -> list[Any]:
        """Take out all that waits, to be kept elsewhere."""
        with self._lock:
            items = list(self._items)
            self._items.clear()
            return items

    def withdraw(self, is_meant: Callable[[Any], bool]) -> list[Any]:
        """Take out the items that a function selects, to be had again from where they came from."""
        with self._lock:
            items = [item for item in self._items if is_meant(item)]
            left = [item for item in self._items if not is_meant(item)] if items else []
            if items:
                self._items = deque(left)
            return items

    def wake(self) -> None:
        """End the wait of every thread in `take`."""
        with self._lock:
            self._filled.notify_all()

    # ---------------------------------------------------------------- one by one, as queue.Queue does

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in, waiting for room.

        Raises:
            queue.Full: There was no room in time.
        """
        if not self._emptied.wait_for(lambda: not self.full, timeout if block else 0.0):
            raise queue.Full
        self.put_many((item,))

    def put_nowait(self, item: Any) -> None:
        """Put an item in, if there is room.

        Raises:
            queue.Full: There is none.
        """
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take an item out, waiting until there is one.

        Raises:
            queue.Empty: There was none in time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            items = self.take(1, left if block else 0.0)
            if items:
                return items[0]
            if not block or left == 0.0:
                raise queue.Empty

    def get_nowait(self) -> Any:
        """Take an item out.

        Raises:
            queue.Empty: There is none.
        """
        return self.get(block=False)

    def task_done(self, count: int = 1) -> None:
        """Count items that were taken as finished.

        Raises:
            ValueError: More than were taken.
        """
        with self._lock:
            if count > self._taken:
                raise ValueError("task_done() called too many times")
            self._taken -= count
            is_idle = self.unfinished == 0
            if is_idle:
                self._emptied.notify_all()
        if is_idle:
            self.on_room()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until everything that was put in is finished; whether it is."""
        return self._emptied.wait_for(lambda: self.unfinished == 0, timeout)

    def qsize(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def empty(self) -> bool:
        """Return whether none waits."""
        return not self._items
