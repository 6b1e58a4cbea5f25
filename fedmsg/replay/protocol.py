# SPDX-License-Identifier: LGPL-2.1-or-later
"""Questions and answers as they go over the wire; no socket is touched here.

A question is one frame, a JSON object. An answer is one frame for each message, or a
single one that begins with ``error:``. A server speaks REP; whoever asks through a DEALER
socket puts an id and an empty frame in front, which come back before the answer.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fedmsg import encoding
from fedmsg.exceptions import QueryError

__all__ = ["ASK_FOR_LESS", "AT_ONCE", "ERROR", "NO_MATCH", "Question", "Walk", "check", "encode_query", "error_frame"]

#: So many numbers are asked for at a time.
AT_ONCE = 1000
#: What the only frame of an answer begins with that has no messages.
ERROR = b"error: "
#: What a server says that has nothing.
NO_MATCH = "There was no match for the given query"
#: What a server's refusal ends with when a narrower question would be answered.
ASK_FOR_LESS = "ask for less"

_ids = itertools.count(1)
# Two processes may share a way to the server; ids of one must mean nothing to the other.
_own = os.urandom(4)


class Question:
    """One question, for a DEALER socket.

    Args:
        query: What is asked for: ``seq_id``, ``seq_ids``, ``seq_id_range``, ``msg_id``,
            ``msg_ids`` or ``time``.

    Attributes:
        frames: What to send. It may be sent again, on a new connection too.
    """

    def __init__(self, query: Mapping[str, Any]) -> None:
        self._id = _own + next(_ids).to_bytes(8, "big")
        self.frames = [self._id, b"", encode_query(query)]

    def answer(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """Give the frames of the answer, out of what was received.

        Returns:
            None when it is the answer to another question, which came too late.
        """
        if len(frames) < 3 or frames[0] != self._id or frames[1]:
            return None
        return list(frames[2:])


def encode_query(query: Mapping[str, Any]) -> bytes:
    """Write a question as its frame."""
    return encoding.dumps(query).encode()


def error_frame(reason: str) -> bytes:
    """Write the only frame of an answer that has no messages."""
    return ERROR + f"'{reason}'".encode(errors="replace")


def check(frames: Sequence[bytes]) -> Sequence[bytes]:
    """Give the frames of an answer when they are messages.

    Raises:
        QueryError: The answer is an error; the text is what the server said.
    """
    if len(frames) == 1 and frames[0].startswith(ERROR[:-1]):
        raise QueryError(frames[0].decode(errors="replace"))
    return frames


class Walk:
    """The way through a range of numbers, a part at a time.

    A part has at most `AT_ONCE` numbers, or fewer once the server finds that too much. Where
    there is nothing the parts grow, so that a hole of any size takes a few questions.

    Args:
        first: The first number.
        last: The last one, included.
        grows: Whether the parts do so; they can't where each number has to be written down.
    """

    def __init__(self, first: int, last: int, *, grows: bool = True) -> None:
        self.first = first
        self.last = last
        self._grows = grows
        self._width = AT_ONCE

    @property
    def part(self) -> tuple[int, int] | None:
        """The numbers to ask for next, the first and the last of them; None at the end."""
        if self.first > self.last:
            return None
        return self.first, min(self.first + self._width - 1, self.last)

    def step(self, *, found: bool) -> None:
        """Go on behind this part.

        Args:
            found: Whether there were messages in it.
        """
        assert self.part is not None
        self.first = self.part[1] + 1
        if found:
            self._width = min(self._width, AT_ONCE)
        elif self._grows:
            self._width *= 10

    def narrow(self) -> bool:
        """Take a smaller part, since this one was too much.

        Returns:
            Whether there is one.
        """
        assert self.part is not None
        width = self.part[1] - self.part[0] + 1
        self._width = max(1, width // (2 if width <= AT_ONCE else 10))
        return self._width < width
