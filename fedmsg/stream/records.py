# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes into a stream and comes out of it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Chunk", "Cursor", "Entry", "HandedOn", "Incoming", "Missing", "Stored"]


class Incoming(NamedTuple):
    """A message to be stored.

    Args:
        topic: Its first frame, as it came.
        body: Its second frame, as it came.
        via: The ids of the streams that it has passed.
        again: Whether its sender marks it as possibly sent before.
    """

    topic: bytes
    body: bytes
    via: tuple[str, ...] = ()
    again: bool = False


class Stored(NamedTuple):
    """Where a message is stored; ``is_new`` is False for one that was there already."""

    position: int
    is_new: bool


class Entry(NamedTuple):
    """A message of the stream; ``stored`` is when it was stored, in epoch seconds."""

    position: int
    stored: float
    topic: bytes
    body: bytes
    via: tuple[str, ...]


class Chunk(NamedTuple):
    """A part of the stream: everything up to the position ``looked_at`` was looked at."""

    entries: list[Entry]
    looked_at: int


class Cursor(NamedTuple):
    """The position of a durable subscription, when it was last seen, and the address it came from."""

    name: str
    position: int
    seen: float
    address: str


class Missing(NamedTuple):
    """What a durable subscription can't have of the stream: all after a position that was stored since a time."""

    name: str
    position: int
    since: float


class HandedOn(NamedTuple):
    """Up to where this stream was handed on to another relay.

    Args:
        stream: The id of the stream there.
        position: The position here up to which everything was handed on.
        there: The newest position that the other relay has confirmed.
        seen: When that was, in epoch seconds.
        address: The address of the other relay.
    """

    stream: str
    position: int
    there: int
    seen: float
    address: str
