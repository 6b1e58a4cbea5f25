# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stores messages: many in one transaction, with what belongs to them."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg._util.text import quoted
from fedmsg.datanommer.models import bulk, opening, partitions, rows, schema, texts, values
from fedmsg.datanommer.models.message import Message
from fedmsg.datanommer.models.rows import Row
from fedmsg.store import database

__all__ = ["add", "add_many", "add_rows", "lock"]

log = logging.getLogger("fedmsg.datanommer")

_messages: sa.Table = Message.__table__  # type: ignore[assignment] # the type is FromClause, the thing a Table
_newest = schema.counter.c.newest
_TAKE = sa.update(schema.counter).values(newest=_newest + sa.bindparam("count", type_=sa.BigInteger()))
#: Held in PostgreSQL by the one writer, until the end of its transaction.
_LOCK_AND_TAKE = sa.text(
    "UPDATE message_positions SET newest = newest + CAST(:count AS BIGINT)"
    " FROM (SELECT pg_advisory_xact_lock(:key) AS held) AS writer WHERE writer.held IS NOT NULL RETURNING newest"
).bindparams(key=0x6665646D7369)
_NEWEST = sa.select(_newest)
_COLUMNS = ("id", "position", *rows.COLUMNS)
_PLACE_OF_TIME = rows.COLUMNS.index("timestamp")

BeforeCommit = Callable[[orm.Session], None]


def add(message: Mapping[str, Any]) -> None:
    """Store one message, see `add_many`.

    Args:
        message: What a consumer receives: a dict with ``topic``, ``body``, which is the envelope, and perhaps
            ``headers``.
    """
    add_many([message])


def add_many(
    messages: Iterable[Mapping[str, Any]],
    *,
    before_commit: BeforeCommit | None = None,
    config: Mapping[str, Any] | None = None,
) -> int:
    """Store messages in one transaction, all or none; those that are there already are skipped with a log line.

    Args:
        messages: Dicts as for `add`; ``stored`` may be the time of arrival, in seconds since the epoch.
        before_commit: Called with the session when the messages are in and nothing is committed yet, to write what has
            to be there together with them, such as a `StreamCursor` by ``session.merge``. It may be called again
            where the transaction has to be repeated; what it raises leaves everything as it was.
        config: For `fedmsg.meta`, whose processors are loaded then; by default that of ``load_config``.

    Returns:
        How many were stored.

    Raises:
        MessageError: One of them can't be stored.
        StoreError: The database could not be written.
    """
    config = rows.configuration() if config is None else config
    return add_rows([rows.row_of(message, config) for message in messages], before_commit=before_commit)


def add_rows(batch: Sequence[Row], *, before_commit: BeforeCommit | None = None, is_import: bool = False) -> int:
    """Store rows as `add_many` does; those of an import get no positions."""
    session = opening.current_session()()
    engine = session.get_bind()
    is_new = not session.in_transaction()

    def store() -> int:
        with database.before_commit() as committing:
            try:
                count = _store(session, batch, is_import=is_import)
                if before_commit is not None:
                    before_commit(session)
                session.flush()
                committing.set()
                session.commit()
            except BaseException:
                session.rollback()
                raise
        return count

    with database.errors_mapped(engine.engine, "can't be written"):
        # What a caller has begun can't be begun again here.
        return database.retried(store) if is_new else store()


def lock(session: orm.Session) -> sa.Connection:
    """Wait until no other writer is in a transaction, and keep others waiting until the end of this one."""
    connection = session.connection()
    _lock(connection, 0)
    return connection


def _lock(connection: sa.Connection, count: int) -> int:
    """Lock as `lock` does, and take so many positions; return the last of them."""
    if connection.dialect.name == "postgresql":
        return int(connection.execute(_LOCK_AND_TAKE, {"count": count}).scalar() or 0)
    # On SQLite the first statement that writes makes others wait.
    connection.execute(_TAKE, {"count": count})
    return int(connection.scalar(_NEWEST) or 0)


def _store(session: orm.Session, batch: Sequence[Row], *, is_import: bool) -> int:
    connection = session.connection()
    taken = 0 if is_import else len(batch)
    newest = _lock(connection, taken)
    found, fresh = _without_known(connection, batch)
    positions: Iterable[int | None] = itertools.repeat(None)
    if not is_import:
        if len(fresh) < taken:
            connection.execute(_TAKE, {"count": len(fresh) - taken})
        positions = range(newest - taken + 1, newest + 1)
    if not fresh:
        return 0
    if connection.dialect.name == "sqlite":
        fresh = [row._replace(msg=values.searchable(row.msg)) if "\\u" in row.msg else row for row in fresh]
    ids = found.ids[: len(fresh)]
    times = [bulk.time_text(row.timestamp) for row in fresh]
    columns = [
        (number, position, *row[:_PLACE_OF_TIME], time, *row[_PLACE_OF_TIME + 1 : -2])
        for number, position, time, row in zip(ids, positions, times, fresh, strict=False)
    ]
    bulk.insert(connection, _messages, _COLUMNS, columns)
    texts.note(connection, ids, [row.timestamp for row in fresh])
    topic_ids = bulk.ids(connection, "topics", {row.topic: row.category for row in fresh}, found.names["topics"])
    keys = [(time, number, topic_ids[row.topic]) for time, number, row in zip(times, ids, fresh, strict=True)]
    _associate(connection, fresh, keys, found)
    _count(connection, fresh, topic_ids)
    return len(fresh)


def _without_known(connection: sa.Connection, batch: Sequence[Row]) -> tuple[bulk.Found, list[Row]]:
    """Return what is in the database, and the messages that are not there yet; they have their partitions then."""
    fresh: dict[tuple[str, dt.datetime], Row] = {}
    twice = [row for row in batch if fresh.setdefault((row.msg_id, row.timestamp), row) is not row]
    names = {
        "topics": {row.topic for row in batch},
        "users": frozenset().union(*(row.users for row in batch)),
        "packages": frozenset().union(*(row.packages for row in batch)),
    }
    is_postgresql = connection.dialect.name == "postgresql"
    tables = partitions.names([row.timestamp for row in batch]) if is_postgresql else ()
    found = bulk.look_up(connection, fresh, names, tables)
    known = found.known | _known_at_other_times(connection, list(fresh.values()))
    twice += [fresh.pop(key) for key in list(fresh) if key in known]
    for row in twice:
        log.info("Skipping the message %s: it is there already", quoted(row.msg_id))
    if not found.tables.issuperset(tables):
        partitions.ensure(connection, {row.timestamp for row in fresh.values()})
    return found, list(fresh.values())


def _known_at_other_times(connection: sa.Connection, batch: Sequence[Row]) -> set[tuple[str, dt.datetime]]:
    """Return which messages, whose time is that of an arrival, have come before: the same bytes."""
    odd = {row.msg_id: row for row in batch if row.is_time_of_arrival}
    if not odd:
        return set()
    columns = _messages.c
    there = sa.select(columns.msg_id, columns.original).where(columns.msg_id.in_(list(odd)))
    return {
        (msg_id, odd[msg_id].timestamp)
        for msg_id, original in connection.execute(there)
        if original == odd[msg_id].original
    }


def _associate(
    connection: sa.Connection, batch: Sequence[Row], keys: Sequence[tuple[str, int, int]], found: bulk.Found
) -> None:
    """Store which users and packages messages are about; their keys are time, id and the id of the topic."""
    for table, association in (("users", schema.users_messages), ("packages", schema.packages_messages)):
        pairs = [(name, key) for key, row in zip(keys, batch, strict=True) for name in getattr(row, table)]
        wanted = dict.fromkeys(sorted({name for name, _ in pairs}))
        numbers = bulk.ids(connection, table, wanted, found.names[table])
        lines = [(numbers[name], *key) for name, key in pairs]
        bulk.insert(connection, association, [column.name for column in association.c], lines)


def _count(connection: sa.Connection, batch: Sequence[Row], topics: Mapping[str, int]) -> None:
    """Add to the counts of the days and months."""
    bulk.count(connection, Counter((topics[row.topic], bulk.day_of(row.timestamp)) for row in batch))
