# SPDX-License-Identifier: LGPL-2.1-or-later
"""Collections that never grow beyond a limit: ids that were seen, and a cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["LRU", "SEEN_MESSAGES", "SeenIds"]

#: A listener with more than one relay drops a message that is one of its last so many.
SEEN_MESSAGES = 100_000

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SeenIds(Generic[Key]):
    """Remembers the last ids that were added; any thread may use it.

    Args:
        limit: How many ids are remembered; the oldest is evicted first. 0 remembers none.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._ids: dict[Key, None] = {}
        self._lock = threading.Lock()

    def add(self, key: Key) -> bool:
        """Remember an id; return whether it was new. A duplicate is not made younger."""
        with self._lock:
            if key in self._ids:
                return False
            if self.limit > 0:
                if len(self._ids) >= self.limit:
                    del self._ids[next(iter(self._ids))]
                self._ids[key] = None
            return True

    def renew(self, key: Key) -> None:
        """Remember an id as the youngest, whether it was there or not."""
        with self._lock:
            self._ids.pop(key, None)
        self.add(key)

    def discard(self, key: Key) -> None:
        """Forget an id, if it is there."""
        with self._lock:
            self._ids.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Key]:
        """Iterate over a copy, from the oldest to the youngest."""
        with self._lock:
            return iter(list(self._ids))


class LRU(Generic[Key, Value]):
    """Caches values up to a total size, and evicts those that were not used for longest; any thread may use it."""

    def __init__(self, limit: int, size: Callable[[Value], int] = lambda _value: 1) -> None:
        self.limit = limit
        self._measure = size
        self._total = 0
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """Return a cached value, or None."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value) -> None:
        """Cache a value; one that is larger than the limit is not kept."""
        size = self._measure(value)
        with self._lock:
            self._total -= self._values.pop(key, (None, 0))[1]
            if size > self.limit:
                return
            self._values[key] = value, size
            self._total += size
            while self._total > self.limit:
                self._total -= self._values.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._values)
