# SPDX-License-Identifier: LGPL-2.1-or-later
"""The queries of a stream: messages after a position, a position by ``msg_id`` or by time."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fedmsg.stream.ids import key_of, msg_id_of, newest_of, split
from fedmsg.stream.records import Chunk, Entry

if TYPE_CHECKING:
    import sqlalchemy as sa

    from fedmsg.stream.idindex import IdIndex
    from fedmsg.stream.tables import Database, Head

__all__ = ["bisect", "chunk", "find"]

# A filtered read looks at so many positions for each message that it may return.
_LOOK_AT_FACTOR = 10

_SELECT = (
    "SELECT position, stored, topic, body, via FROM fedmsg_stream_messages"
    " WHERE position > ? AND position <= ?{} ORDER BY position LIMIT ?"
)
# PostgreSQL packs the rows into one, whose values the driver has not to take one by one: a tenth of the time. It ends
# a chunk where it is large enough, for the driver reads an answer whole.
_PACKED = (
    "SELECT string_agg(int8send(position) || float8send(stored) || int4send(length(topic)) || int4send(length(body))"
    " || int4send(coalesce(octet_length(via), 0)), ''::bytea),"
    " string_agg(topic || body || coalesce(convert_to(via, 'UTF8'), ''::bytea), ''::bytea)"
    " FROM (SELECT *, sum(length(topic) + length(body)) OVER"
    " (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"
    " FROM (SELECT * FROM fedmsg_stream_messages WHERE position > ? AND position <= ?{} ORDER BY position LIMIT ?)"
    " AS found) AS counted WHERE before IS NULL OR before <= ?"
)
# Position, time; the lengths of topic, body and via.
_NUMBERS = struct.Struct(">qdiii")

# Quicker than by the names.
_make = tuple.__new__


def chunk(
    db: Database, connection: sa.Connection, after: int, prefixes: tuple[bytes, ...], *, rows: int, max_bytes: int
) -> Chunk:
    """Read the messages after a position; see `StreamLog.read`."""
    # Read first: what is committed meanwhile comes with the next chunk.
    head = db.head(connection)
    first = max(after, head.oldest - 1)
    until = min(head.newest, first + rows * (_LOOK_AT_FACTOR if prefixes else 1))
    if until <= first:
        return Chunk([], first)
    condition, wanted = _matching(prefixes)
    found: Iterable[tuple[Any, ...]]
    if db.is_sqlite:
        found = db.rows(connection, _SELECT.format(condition), (first, until, *wanted, rows))
    else:
        [packed] = db.rows(connection, _PACKED.format(condition), (first, until, *wanted, rows, max_bytes))
        found = _unpacked(*packed)
    entries: list[Entry] = []
    size = 0
    for position, stored, topic, body, via in found:
        size += len(topic) + len(body)
        if size > max_bytes and entries:
            return Chunk(entries, entries[-1].position)
        values = position, stored, topic, body, tuple(via.split(" ")) if via else ()
        entries.append(_make(Entry, values))
    # The server may have ended it because of its size.
    is_whole = len(entries) < rows and (db.is_sqlite or size <= max_bytes)
    return Chunk(entries, until if is_whole else entries[-1].position)


def _unpacked(numbers: bytes | None, content: bytes) -> Iterator[tuple[int, float, bytes, bytes, str]]:
    """Yield the rows that the server has packed; None stands for none."""
    at = 0
    for position, stored, topic_length, body_length, via_length in _NUMBERS.iter_unpack(numbers or b""):
        middle = at + topic_length
        end = middle + body_length
        topic, body = content[at:middle], content[middle:end]
        at = end + via_length
        yield position, stored, topic, body, content[end:at].decode()


def _matching(prefixes: tuple[bytes, ...]) -> tuple[str, list[bytes]]:
    """Return the condition for topics with one of these prefixes, and its values."""
    conditions, values = [], []
    for prefix in prefixes:
        conditions.append("topic >= ?")
        values.append(prefix)
        # The next text that does not begin with it.
        if after := prefix.rstrip(b"\xff"):
            conditions[-1] += " AND topic < ?"
            values.append(after[:-1] + bytes([after[-1] + 1]))
    return (f" AND ({' OR '.join(conditions)})" if conditions else ""), values


def find(db: Database, ids: IdIndex, connection: sa.Connection, msg_id: str) -> int | None:
    """Return the position of the first message with an id; None where there is none."""
    wanted = msg_id.encode("utf-8", "surrogatepass")
    statement = "SELECT body FROM fedmsg_stream_messages WHERE position = ?"
    for entry in split(ids.find(connection, key_of(wanted))):
        position = newest_of(entry)
        # Where the message was removed since, its key has to do.
        if all(msg_id_of(body) == wanted for (body,) in db.rows(connection, statement, (position,))):
            return position
    return None


def bisect(db: Database, connection: sa.Connection, head: Head, before: float) -> int:
    """Return the position up to which messages were stored before a time."""
    low, high = head.oldest - 1, head.newest
    statement = "SELECT stored FROM fedmsg_stream_messages WHERE position = ?"
    while low < high:
        middle = (low + high + 1) // 2
        stored = db.run(connection, statement, (middle,)).scalar()
        # One that is not there was removed meanwhile.
        if stored is None or stored < before:
            low = middle
        else:
            high = middle - 1
    return low
