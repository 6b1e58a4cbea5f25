# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages were counted last, and by which plugins: what comes again is counted once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fedmsg.statscache.items import KEY_BYTES, Item

__all__ = ["Counted", "Ledger"]

#: How many messages are remembered, at least.
REMEMBERED = 100_000


class Counted(NamedTuple):
    """Messages that were counted in one transaction by the same plugins.

    Attributes:
        number: The number of the transaction.
        plugins: Labels of the plugins.
        newest: The time of the newest of the messages.
        keys: The keys of all of them, one after the other.
    """

    number: int
    plugins: frozenset[str]
    newest: float
    keys: bytes

    def each(self) -> Iterator[bytes]:
        """Yield the keys."""
        return (self.keys[at : at + KEY_BYTES] for at in range(0, len(self.keys), KEY_BYTES))


class Ledger:
    """Remembers which plugins have counted which messages, as far as the rows that it is made of go back."""

    def __init__(self, rows: Iterable[Counted] = ()) -> None:
        self._rows: deque[Counted] = deque()
        self._by: dict[bytes, frozenset[str]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Counted) -> None:
        """Remember what was counted in a transaction."""
        self._rows.append(row)
        by, plugins = self._by, row.plugins
        for key in row.each():
            before = by.get(key)
            by[key] = plugins if before is None else before | plugins

    def known(self, items: Sequence[Item]) -> dict[bytes, frozenset[str]]:
        """Return which of some messages were counted before, with the labels of the plugins that have."""
        by = self._by
        return {item.key: by[item.key] for item in items if item.key in by}

    def forgettable(self) -> list[Counted]:
        """Return the oldest rows, as many as are not needed."""
        spare, found = len(self._by) - REMEMBERED, []
        for row in self._rows:
            spare -= len(row.keys) // KEY_BYTES
            if spare < 0:
                break
            found.append(row)
        return found

    def forget(self, rows: Sequence[Counted]) -> None:
        """Forget the oldest rows."""
        for row in rows:
            self._rows.popleft()
            for key in row.each():
                self._forget(key, row.plugins)

    def _forget(self, key: bytes, plugins: frozenset[str]) -> None:
        by = self._by.get(key, plugins)
        if by is plugins or by <= plugins:
            self._by.pop(key, None)
        else:
            # A later row has the others.
            self._by[key] = by - plugins
