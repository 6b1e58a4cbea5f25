# SPDX-License-Identifier: LGPL-2.1-or-later
"""Queries and answers as they go over the wire; no socket is used here.

A query is one frame, a JSON object. An answer has one frame for each message, or a single frame
that begins with ``error:``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fedmsg import encoding
from fedmsg.exceptions import QueryError

__all__ = [
    "ASK_FOR_LESS",
    "AT_ONCE",
    "ERROR",
    "NO_MATCH",
    "Walk",
    "check",
    "encode_query",
    "error_frame",
    "is_busy",
]

#: How many numbers one query asks for.
AT_ONCE = 1000
#: The beginning of the only frame of an answer without messages.
ERROR = b"error: "
#: What a server answers that has nothing.
NO_MATCH = "There was no match for the given query"
#: The end of an error after which a narrower query may be answered.
ASK_FOR_LESS = "ask for less"
#: The end of an error after which the same query may be answered later.
ASK_AGAIN = "ask again"


def encode_query(query: Mapping[str, Any]) -> bytes:
    """Return the frame of a query."""
    return encoding.dumps(query).encode()


def error_frame(reason: str) -> bytes:
    """Return the only frame of an answer without messages."""
    return ERROR + f"'{reason}'".encode(errors="replace")


def check(frames: Sequence[bytes]) -> Sequence[bytes]:
    """Return the frames of an answer when they are messages.

    Raises:
        QueryError: The answer is an error; the text is that of the server.
    """
    if len(frames) == 1 and frames[0].startswith(ERROR[:-1]):
        raise QueryError(frames[0].decode(errors="replace"))
    return frames


def is_busy(frames: Sequence[bytes]) -> bool:
    """Return whether an answer means that the server is busy."""
    return len(frames) == 1 and frames[0].startswith(ERROR) and frames[0].endswith(f"{ASK_AGAIN}'".encode())


class Walk:
    """The way through a range of numbers, a part at a time.

    A part has at most `AT_ONCE` numbers, or fewer once the server finds that too many. Where
    there is nothing the parts grow, so that a hole of any size takes a few queries.
    """

    def __init__(self, first: int, last: int, *, grows: bool = True) -> None:
        self.first = first
        self.last = last
        self._grows = grows
        self._width = AT_ONCE

    def answers(self, ask: Callable[[int, int], Sequence[bytes]]) -> Iterator[tuple[tuple[int, int], Sequence[bytes]]]:
        """Yield each part that has messages, with the frames of its answer.

        Args:
            ask: Asks for a part, from the first number of it to the last.

        Raises:
            QueryError: The answer to a part is another error than that it is empty or too large.
        """
        while (part := self.part) is not None:
            try:
                frames = check(ask(*part))
            except QueryError as error:
                if NO_MATCH in str(error):
                    self.step(found=False)
                elif ASK_FOR_LESS not in str(error) or not self.narrow():
                    raise
            else:
                yield part, frames
                self.step(found=True)

    @property
    def part(self) -> tuple[int, int] | None:
        """The numbers to ask for next, the first and the last of them; None at the end."""
        if self.first > self.last:
            return None
        return self.first, min(self.first + self._width - 1, self.last)

    def step(self, *, found: bool) -> None:
        """Move on to the part after this one; after an empty one, a larger part."""
        assert self.part is not None
        self.first = self.part[1] + 1
        if found:
            self._width = min(self._width, AT_ONCE)
        elif self._grows:
            self._width *= 10

    def narrow(self) -> bool:
        """Take a smaller part, because this one was too large."""
        assert self.part is not None
        width = self.part[1] - self.part[0] + 1
        self._width = max(1, width // (2 if width <= AT_ONCE else 10))
        return self._width < width
