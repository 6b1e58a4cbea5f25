# SPDX-License-Identifier: LGPL-2.1-or-later
"""Durable subscriptions at the relay: who reads under a name, who waits for it, and its cursor."""

from __future__ import annotations

import time
from collections import deque

from fedmsg.stream.readers import Reader
from fedmsg.stream.records import Cursor

__all__ = ["Names"]


class _Name:
    """A name that is read."""

    __slots__ = ("holder", "waiting")

    def __init__(self, holder: Reader) -> None:
        self.holder = holder
        self.waiting: deque[Reader] = deque()


class Names:
    """The names that are read at the moment, and cursors that are not stored yet."""

    def __init__(self) -> None:
        self._held: dict[str, _Name] = {}
        #: Cursors that are newer than the stored ones.
        self.unsaved: dict[str, Cursor] = {}
        self._cursors: dict[str, int] = {}

    def take(self, name: str, reader: Reader) -> Reader | None:
        """Let a reader have a name, or wait for it.

        Returns:
            The reader that has it, where that is another one.
        """
        held = self._held.get(name)
        if held is None:
            self._held[name] = _Name(reader)
            return None
        if held.holder is reader:
            return None
        if reader not in held.waiting:
            held.waiting.append(reader)
        return held.holder

    def release(self, name: str, reader: Reader) -> Reader | None:
        """Let go of a name, or wait for it no more.

        Returns:
            The reader that has it now, where it has changed.
        """
        held = self._held.get(name)
        if held is None:
            return None
        if held.holder is not reader:
            if reader in held.waiting:
                held.waiting.remove(reader)
            return None
        position = self._cursors.pop(name, None)
        if position is not None:
            self.unsaved[name] = Cursor(name, position, time.time(), reader.peer)
        if not held.waiting:
            del self._held[name]
            return None
        held.holder = held.waiting.popleft()
        return held.holder

    def started(self, name: str, position: int) -> None:
        """Note the cursor of a name whose reader is served from now on."""
        self._cursors[name] = position

    def acknowledge(self, reader: Reader, position: int) -> None:
        """Move the cursor of the name that a reader has; never back, and not beyond what the reader was sent."""
        name = reader.name
        held = self._held.get(name)
        before = self._cursors.get(name)
        if held is None or held.holder is not reader or before is None or not before < position <= reader.announced:
            return
        self._cursors[name] = position
        self.unsaved[name] = Cursor(name, position, time.time(), reader.peer)

    def saved(self, cursors: list[Cursor]) -> None:
        """Note that some cursors were stored."""
        for cursor in cursors:
            if self.unsaved.get(cursor.name) == cursor:
                del self.unsaved[cursor.name]

    def holder(self, name: str) -> Reader | None:
        """Return the reader that has a name."""
        held = self._held.get(name)
        return None if held is None else held.holder

    def newest_of(self, stored: Cursor) -> int:
        """Return the position of a stored cursor, or the newer one of its reader; any thread may ask."""
        unsaved = self.unsaved.get(stored.name)
        return max(
            stored.position,
            self._cursors.get(stored.name, 0),
            0 if unsaved is None else unsaved.position,
        )

    def served(self, name: str) -> Reader | None:
        """Return the reader that has a name, once it is known where it begins."""
        return self.holder(name) if name in self._cursors else None

    def waiting(self, name: str) -> int:
        """Return how many readers wait for a name."""
        held = self._held.get(name)
        return 0 if held is None else len(held.waiting)

    def contested(self) -> list[Reader]:
        """Return the readers whose names others wait for."""
        return [held.holder for held in self._held.values() if held.waiting]
