# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream on disk: what is stored, and what is read of it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Chunk", "Cursor", "Entry"]


class Entry(NamedTuple):
    """One message of the stream."""

    position: int
    stored: float
    topic: bytes
    body: bytes
    via: tuple[str, ...]


class Chunk(NamedTuple):
    """Messages that were read at once; everything up to ``looked_at`` was looked at."""

    entries: list[Entry]
    looked_at: int


class Cursor(NamedTuple):
    """How far a durable subscription has come."""

    name: str
    position: int
    seen: float
    address: str
