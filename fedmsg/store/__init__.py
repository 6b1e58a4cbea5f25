# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is kept on disk: messages for the next start, positions, and logs of messages.

A log has messages under positions, in order, without gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

__all__ = ["Finish", "MessageLog", "Position", "PositionLog"]

#: The place of a message in a log: 1, 2, 3 and so on, never assigned twice.
Position = int
#: Finishes an envelope that has its number, for example by signing it; returns it, or a changed copy, or
#: None where it has changed its argument.
Finish = Callable[[dict[str, Any]], "dict[str, Any] | None"]


class PositionLog(Protocol):
    """A store with positions, whatever it stores: envelopes, or the frames of a stream."""

    def last(self) -> Position:
        """Return the newest position; 0 when nothing was stored yet.

        Raises:
            StoreError: The log could not be read.
        """

    def trim(self, until: Position) -> int:
        """Remove the messages up to a position, included; their positions are not assigned again.

        Raises:
            StoreError: The log could not be written.
        """


class MessageLog(PositionLog, Protocol):
    """A store of envelopes with positions."""

    def append(self, batch: Iterable[Mapping[str, Any]], finish: Finish | None = None) -> list[dict[str, Any]]:
        """Assign positions to messages and store them, all of them or none; return them when they are on disk.

        Raises:
            StoreError: They could not be stored.
        """

    def read(
        self,
        after: Position = 0,
        until: Position | None = None,
        prefixes: Iterable[str] = (),
        limit: int | None = None,
    ) -> Iterator[tuple[Position, str]]:
        """Yield messages as JSON, with their positions, in order.

        Raises:
            StoreError: The log could not be read.
        """
