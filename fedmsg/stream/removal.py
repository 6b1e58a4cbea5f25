# SPDX-License-Identifier: LGPL-2.1-or-later
"""Removing the oldest messages of a stream, in steps that are too small to hold up anyone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fedmsg.config import settings
from fedmsg.stream.reading import bisect

if TYPE_CHECKING:
    import sqlalchemy as sa

    from fedmsg.stream.idindex import IdIndex
    from fedmsg.stream.tables import Database, Head

__all__ = ["Limits", "remove", "retention", "shrink"]

# A step ends after so many bytes.
_STEP_BYTES = 16 << 20
# Free pages that an SQLite file keeps for what comes next: 8 MiB, and a 16th of the file.
_FREE_PAGES = 2048
_FREE_SHARE = 16
# Pages returned to the file system in one step: more than a step of removal frees.
_VACUUM_PAGES = 8192
#: Held in PostgreSQL by the one that removes, until the end of the transaction.
_LOCK_REMOVAL = "SELECT pg_advisory_xact_lock(110386840822120)"
# Of durable subscriptions that have not handled what is removed now, from when on it is missing.
_NOTE_MISSING = (
    "INSERT INTO fedmsg_stream_missing (name, position, since) SELECT name, cursors.position, stored"
    " FROM fedmsg_stream_cursors AS cursors JOIN fedmsg_stream_messages AS messages"
    " ON messages.position = cursors.position + 1 WHERE cursors.position >= ? AND cursors.position < ?"
    " ON CONFLICT (name) DO UPDATE SET position = excluded.position, since = excluded.since"
    " WHERE fedmsg_stream_missing.position < excluded.position"
)


class Limits(NamedTuple):
    """What is too much; 0 for no limit.

    Args:
        age: Seconds since a message was stored.
        max_bytes: Bytes of topics and bodies that are kept.
        messages: Messages that are kept.
        until: The last position that goes in any case.
    """

    age: float = 0
    max_bytes: int = 0
    messages: int = 0
    until: int = 0


def retention(config: Mapping[str, Any]) -> dict[str, float]:
    """Return what a configuration keeps: ``age``, ``max_bytes`` and ``messages``; 0 for no limit."""
    return {
        "age": settings.get(config, "relay_retention_age"),
        "max_bytes": settings.get(config, "relay_retention_bytes"),
        "messages": settings.get(config, "relay_retention_messages"),
    }


def remove(db: Database, ids: IdIndex, connection: sa.Connection, limits: Limits, rows: int) -> tuple[int, int]:
    """Remove the oldest messages that are too many, no more than so many rows.

    It is one step, in a transaction of the caller.

    Returns:
        How many these were, and the oldest position now.
    """
    now = time.time()
    if db.is_sqlite:
        # Comes first, because it waits for another writer.
        db.run(connection, "UPDATE fedmsg_stream SET version = version")
    else:
        db.run(connection, _LOCK_REMOVAL)
    ids.expire(connection, now)
    head = db.head(connection)
    old = max(
        min(limits.until, head.newest),
        head.newest - limits.messages if limits.messages else 0,
        bisect(db, connection, head, now - limits.age) if limits.age else 0,
    )
    last, size = _choose(db, connection, head, min(old, head.oldest - 1 + rows), limits.max_bytes, rows)
    if last < head.oldest:
        return 0, head.oldest
    db.run(connection, _NOTE_MISSING, (head.oldest - 1, last))
    statement = "DELETE FROM fedmsg_stream_messages WHERE position >= ? AND position <= ?"
    db.run(connection, statement, (head.oldest, last))
    ids.mark_gone(connection, head.oldest, last, now)
    db.run(connection, "UPDATE fedmsg_stream SET oldest = ?, bytes = bytes - ? WHERE id = 1", (last + 1, size))
    return last + 1 - head.oldest, last + 1


def _choose(  # noqa: PLR0917 they are all of them numbers of one step
    db: Database, connection: sa.Connection, head: Head, old: int, max_bytes: int, rows: int
) -> tuple[int, int]:
    """Return the position up to which one step removes, and how many bytes that is.

    Args:
        db: The database.
        connection: Where to read.
        head: The head of the stream.
        old: Up to here messages are too old or too many.
        max_bytes: Others go until so many bytes are left; 0 for no limit.
        rows: A step removes no more than so many.
    """
    last, size = head.oldest - 1, 0
    is_over = bool(max_bytes) and head.bytes > max_bytes
    most = min(head.newest, last + rows) if is_over else old
    statement = (
        "SELECT position, length(topic) + length(body) FROM fedmsg_stream_messages"
        " WHERE position >= ? AND position <= ? ORDER BY position"
    )
    for position, one in db.rows(connection, statement, (head.oldest, most)):
        is_over = bool(max_bytes) and head.bytes - size > max_bytes
        if (position > old and not is_over) or (size and size + one > _STEP_BYTES):
            break
        last, size = position, size + one
    return last, size


def shrink(db: Database, connection: sa.Connection) -> None:
    """Return free pages of an SQLite file to the file system, where there are more than it needs soon."""
    free = db.run(connection, "PRAGMA freelist_count").scalar() or 0
    pages = db.run(connection, "PRAGMA page_count").scalar() or 0
    excess = free - max(_FREE_PAGES, pages // _FREE_SHARE)
    if excess > 0:
        db.script(connection, f"PRAGMA incremental_vacuum({min(excess, _VACUUM_PAGES)})")
