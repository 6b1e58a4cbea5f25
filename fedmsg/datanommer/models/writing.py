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

#: Held in PostgreSQL by the one writer, until the end of its transaction.
_LOCK_WRITER = sa.select(sa.func.pg_advisory_xact_lock(0x6665646D7369))
_messages: sa.Table = Message.__table__  # type: ignore[assignment] # the type is FromClause, the thing a Table
_TAKE = sa.update(schema.counter).values(newest=schema.counter.c.newest + sa.bindparam("count", type_=sa.BigInteger()))
_NEWEST = sa.select(schema.counter.c.newest)
_COLUMNS = ("id", "position", *rows.COLUMNS)

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
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_WRITER)
    # On SQLite the first statement that writes makes others wait.
    connection.execute(_TAKE, {"count": 0})
    return connection


def _store(session: orm.Session, batch: Sequence[Row], *, is_import: bool) -> int:
    connection = lock(session)
    is_postgresql = connection.dialect.name == "postgresql"
    fresh = _without_known(connection, batch)
    if not fresh:
        return 0
    if is_postgresql:
        partitions.ensure(connection, {row.timestamp for row in fresh})
    positions: Iterable[int | None] = itertools.repeat(None)
    if not is_import:
        connection.execute(_TAKE, {"count": len(fresh)})
        newest = int(connection.scalar(_NEWEST) or 0)
        positions = range(newest - len(fresh) + 1, newest + 1)
    ids = bulk.take_ids(connection, len(fresh))
    if not is_postgresql:
        fresh = [row._replace(msg=values.searchable(row.msg)) if "\\u" in row.msg else row for row in fresh]
    columns = [(number, position, *row[:-2]) for number, position, row in zip(ids, positions, fresh, strict=False)]
    bulk.insert(connection, _messages, _COLUMNS, columns)
    texts.note(connection, ids, [row.timestamp for row in fresh])
    topic_ids = bulk.ids(connection, "topics", {row.topic: row.category for row in fresh})
    _associate(connection, fresh, ids, topic_ids)
    _count(connection, fresh, topic_ids)
    return len(fresh)


def _without_known(connection: sa.Connection, batch: Sequence[Row]) -> list[Row]:
    """Return the messages that are not there yet."""
    fresh: dict[tuple[str, dt.datetime], Row] = {}
    twice = [row for row in batch if fresh.setdefault((row.msg_id, row.timestamp), row) is not row]
    known = _known(connection, list(fresh.values()))
    twice += [fresh.pop(key) for key in list(fresh) if key in known]
    for row in twice:
        log.info("Skipping the message %s: it is there already", quoted(row.msg_id))
    return list(fresh.values())


def _known(connection: sa.Connection, batch: Sequence[Row]) -> set[tuple[str, dt.datetime]]:
    """Return which messages are there: the same id at the same time, or the same bytes."""
    if not batch:
        return set()
    found = bulk.known(connection, [(row.msg_id, row.timestamp) for row in batch])
    # The time of an arrival is not in the message.
    odd = {row.msg_id: row for row in batch if row.is_time_of_arrival}
    if odd:
        columns = _messages.c
        there = sa.select(columns.msg_id, columns.original).where(columns.msg_id.in_(list(odd)))
        for msg_id, original in connection.execute(there):
            if original == odd[msg_id].original:
                found.add((msg_id, odd[msg_id].timestamp))
    return found


def _associate(connection: sa.Connection, batch: Sequence[Row], ids: Sequence[int], topics: Mapping[str, int]) -> None:
    for table, association in (("users", schema.users_messages), ("packages", schema.packages_messages)):
        pairs = [(name, place) for place, row in enumerate(batch) for name in getattr(row, table)]
        numbers = bulk.ids(connection, table, dict.fromkeys(sorted({name for name, _ in pairs})))
        found = [
            (numbers[name], batch[place].timestamp, ids[place], topics[batch[place].topic]) for name, place in pairs
        ]
        bulk.insert(connection, association, [column.name for column in association.c], found)


def _count(connection: sa.Connection, batch: Sequence[Row], topics: Mapping[str, int]) -> None:
    """Add to the counts of the days and months."""
    bulk.count(connection, Counter((topics[row.topic], bulk.day_of(row.timestamp)) for row in batch))
