# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the stream port asks the store for, in threads that may wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from fedmsg.exceptions import QueryError
from fedmsg.stream import protocol
from fedmsg.stream.begin import Begin
from fedmsg.stream.records import Chunk, Cursor, Entry, Missing

__all__ = ["Part", "Readable", "Refused", "Search", "find", "position_of", "read", "search_last", "start_durable"]

#: How many rows, and how many bytes of topics and bodies, are read at once.
ROWS_MAX = 1000
BYTES_MAX = 4 * 1024 * 1024
#: About what a message takes in memory beside its topic and body.
ENTRY_BYTES = 300
# So many topics are looked at in one step of a search.
_SEARCH_ROWS = 5000
# So many prefixes are filtered by the store.
_PREFIXES_MAX = 50
# How often a read that retention was faster than is repeated.
_TRIES = 3


class Readable(Protocol):
    """What is needed of a stream to serve it."""

    @property
    def stream(self) -> str:
        """The id of the stream."""

    def read(self, after: int, prefixes: Sequence[bytes] = (), *, rows: int = 1000, max_bytes: int = 4 << 20) -> Chunk:
        """Read a part of the stream."""

    def first(self) -> int:
        """Return the oldest position."""

    def newest(self) -> int:
        """Return the newest position."""

    def find(self, msg_id: str) -> int | None:
        """Return the position of a message."""

    def topics(self, until: int, rows: int) -> list[tuple[int, bytes]]:
        """Return positions and topics of the newest messages up to a position, the newest first."""

    def after_time(self, since: float) -> int:
        """Return the position after which the messages of a time begin."""

    def statistics(self) -> dict[str, Any]:
        """Return figures."""

    def cursor(self, name: str) -> Cursor | None:
        """Return a cursor."""

    def save_cursors(self, cursors: Iterable[Cursor]) -> None:
        """Store cursors."""

    def move_cursors(self, cursors: Iterable[Cursor]) -> list[str]:
        """Store cursors that are there; the names of the others."""

    def cursors(self, after: str = "", limit: int = 1000) -> list[Cursor]:
        """Return cursors by name, after a name."""

    def cursors_behind(self, limit: int) -> tuple[int, list[Cursor]]:
        """Return how many cursors there are, and those with the largest lag."""

    def missing(self, name: str) -> Missing | None:
        """Return what a durable subscription can't have of the stream."""

    def save_missing(self, missing: Missing) -> None:
        """Store what a durable subscription can't have of the stream."""


class Refused(QueryError):
    """The answer is no; ``code`` is one of the protocol."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Part(NamedTuple):
    """A part of the stream.

    Attributes:
        lost: The positions that retention has removed before they could be read, the first and the last.
        entries: What was read.
        looked_at: Everything up to here was looked at.
        memory: About how many bytes of memory it takes.
    """

    lost: tuple[int, int] | None
    entries: list[Entry]
    looked_at: int

    memory: int


# ---------------------------------------------------------------- where to begin


def position_of(log: Readable, begin: Begin) -> int:
    """Return the position after which a subscription begins.

    Raises:
        Refused: There is none.
    """
    newest = log.newest()
    if begin.since is not None:
        return min(newest, log.after_time(begin.since))
    if begin.last is not None:
        return max(newest - begin.last, log.first() - 1)
    if begin.after is None:
        return newest
    if isinstance(begin.after, str):
        found = log.find(begin.after)
        if found is None:
            raise Refused(protocol.CODE_GONE, "the stream has no message with this msg_id")
        return found
    if begin.after > newest:
        reason = f"there is no position {begin.after} yet: the newest position of the stream is {newest}"
        raise Refused(protocol.CODE_GONE, reason)
    if begin.after == 0 and not begin.resume:
        return log.first() - 1
    return begin.after


class Search(NamedTuple):
    """A search for the newest messages of some topics that is not at its end.

    Attributes:
        until: Up to here messages are still to be looked at.
        left: So many are still to be found.
    """

    until: int
    left: int


def search_last(log: Readable, last: int, prefixes: tuple[bytes, ...], search: Search | None) -> Search | Begin:
    """Find where the newest messages of some topics begin, in one small step.

    Args:
        log: The stream.
        last: How many of them are wanted.
        prefixes: What their topics begin with.
        search: What the step before this one has returned.

    Returns:
        Where to begin, or what to go on with.
    """
    until, left = search or Search(log.newest(), last)
    rows = log.topics(until, _SEARCH_ROWS)
    for position, topic in rows:
        if topic.startswith(prefixes):
            left -= 1
            if not left:
                return Begin(after=position - 1)
    # With the first one that is kept, where there are not so many.
    return Search(rows[-1][0] - 1, left) if rows else Begin(after=0)


def start_durable(
    log: Readable, name: str, begin: Begin, *, unsaved: Cursor | None, address: str, limit: int
) -> tuple[int, int, float | None]:
    """Return where a durable subscription begins; a new name is stored.

    Args:
        log: The stream.
        name: The name.
        begin: Where it begins when the name is new.
        unsaved: Its cursor, where that is newer than the stored one.
        address: Where the reader is connected from.
        limit: How many names there may be.

    Returns:
        The position after which it begins, its cursor, and since when messages may be missing before what comes.

    Raises:
        Refused: There are too many names, or no such position.
    """
    if unsaved is not None:
        log.move_cursors([unsaved])
    cursor = log.cursor(name)
    if cursor is None:
        if log.cursors_behind(0)[0] >= limit:
            reason = f"relay_durable_max allows only {limit} durable subscriptions: remove one, or set it higher"
            raise Refused(protocol.CODE_FULL, reason)
        position = position_of(log, begin)
        if begin.since is not None:
            # Until it is acknowledged, a reader that begins again has the same to do.
            log.save_missing(Missing(name, position, begin.since))
        log.save_cursors([Cursor(name, position, time.time(), address)])
        return position, position, begin.since
    position = min(cursor.position, log.newest())
    if begin.resume and isinstance(begin.after, int):
        # This reader has received more than it has acknowledged, and has it in work.
        return max(position, min(begin.after, log.newest())), position, None
    return position, position, _missing_since(log, cursor)


def _missing_since(log: Readable, cursor: Cursor) -> float | None:
    """Return since when messages are missing after a cursor; None where none is, as far as is known."""
    missing = log.missing(cursor.name)
    if missing is None:
        return None
    # It may have moved on since that was noted, and be as far behind again.
    is_here = missing.position >= cursor.position or cursor.position + 1 < log.first()
    return missing.since if is_here else None


# ---------------------------------------------------------------- messages


def read(log: Readable, after: int, prefixes: tuple[bytes, ...], rows: int, max_bytes: int) -> Part:
    """Read a part of the stream, and find out what of it was removed before it could be read."""
    lost: tuple[int, int] | None = None
    for _ in range(_TRIES):
        chunk = _read_chunk(log, after, prefixes, rows, max_bytes)
        # There are no gaps: where the first one that is wanted is there, all are.
        if not prefixes and chunk.entries and chunk.entries[0].position == after + 1:
            return _part(lost, chunk.entries, chunk.looked_at)
        first = log.first()
        # Nothing after this position was removed before it was read.
        if first <= after + 1:
            return _part(lost, chunk.entries, max(chunk.looked_at, after))
        if not prefixes:
            # What is missing was removed.
            begin = chunk.entries[0].position if chunk.entries else first
            if begin > after + 1:
                lost = (lost[0] if lost is not None else after + 1, begin - 1)
            return _part(lost, chunk.entries, max(chunk.looked_at, begin - 1))
        lost = (lost[0] if lost is not None else after + 1, first - 1)
        after = first - 1
    return _part(lost, [], after)


def _part(lost: tuple[int, int] | None, entries: list[Entry], looked_at: int) -> Part:
    size = sum([len(topic) + len(body) for _, _, topic, body, _ in entries])
    return Part(lost, entries, looked_at, size + ENTRY_BYTES * len(entries))


def _read_chunk(log: Readable, after: int, prefixes: tuple[bytes, ...], rows: int, max_bytes: int) -> Chunk:
    if len(prefixes) <= _PREFIXES_MAX:
        return log.read(after, prefixes, rows=rows, max_bytes=max_bytes)
    # Databases limit how long a condition may be.
    chunk = log.read(after, rows=rows, max_bytes=max_bytes)
    return Chunk([entry for entry in chunk.entries if entry.topic.startswith(prefixes)], chunk.looked_at)


def find(log: Readable, wanted: int | str, *, is_first: bool = False) -> Entry:
    """Return one message, by its position or its ``msg_id``.

    Args:
        log: The stream.
        wanted: The position or the ``msg_id``.
        is_first: Whether the first one that is kept at the position or after it is wanted.

    Raises:
        Refused: It is not there.
    """
    position = log.find(wanted) if isinstance(wanted, str) else wanted
    if position is not None and position > 0:
        entries = log.read(position - 1, rows=1).entries
        if entries and (is_first or entries[0].position == position):
            return entries[0]
    raise Refused(protocol.CODE_GONE, "the stream has no such message, or no longer")
