# SPDX-License-Identifier: LGPL-2.1-or-later
"""The index of the text of messages: by three characters in a row, made some time after the messages are stored.

To put a message into it takes ten times as long as to store it. So the writer only notes which messages are not
in it yet, and `index_texts` goes on with them when there is time. A query looks into the index, and at those
messages themselves that are not in it yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer.models import containing, opening, query, schema
from fedmsg.datanommer.models.query import Filters
from fedmsg.store import database

__all__ = ["candidates", "clear", "forget", "index_texts", "is_indexed", "note"]

#: Held in PostgreSQL by the one who fills the index, until the end of the transaction.
_LOCK_INDEX = sa.select(sa.func.pg_advisory_xact_lock(0x6665646D736A))
# Of a long text so many places are looked up; the rest is compared.
_PLACES_MAX = 40
_WIDTH = 3

_texts = sa.table(
    "message_texts", sa.column("msg_timestamp", sa.DateTime()), sa.column("msg_id", sa.BigInteger()),
    sa.column("topic_id", sa.Integer()), sa.column("text", sa.Text()),
)  # fmt: skip
_waiting = schema.waiting_texts
_has_index: WeakKeyDictionary[sa.Engine, bool] = WeakKeyDictionary()

_FILL = {
    "sqlite": """INSERT INTO message_texts (rowid, msg) SELECT id, msg FROM messages
        WHERE id BETWEEN :first_id AND :last_id""",
    "postgresql": """INSERT INTO message_texts (msg_timestamp, msg_id, topic_id, text)
        SELECT messages.timestamp, messages.id, topics.id, CAST(messages.msg AS TEXT)
        FROM messages JOIN topics ON topics.topic = messages.topic
        WHERE messages.id BETWEEN :first_id AND :last_id AND messages.timestamp BETWEEN :first_time AND :last_time
        ON CONFLICT DO NOTHING""",
}


def is_indexed(connection: sa.Connection) -> bool:
    """Return whether the database has such an index: older SQLite and a PostgreSQL without pg_trgm have none."""
    engine = connection.engine
    if engine not in _has_index:
        _has_index[engine] = sa.inspect(connection).has_table("message_texts")
    return _has_index[engine]


# ---------------------------------------------------------------- writing


def note(connection: sa.Connection, ids: Sequence[int], times: Sequence[Any]) -> None:
    """Note messages that are not in the index yet."""
    if is_indexed(connection):
        noted = {"first_id": min(ids), "last_id": max(ids), "first_time": min(times), "last_time": max(times)}
        connection.execute(sa.insert(_waiting), [noted])


def index_texts(limit: int = 5000) -> int:
    """Put some of the messages that are not in the index of texts into it, in a transaction of its own.

    Args:
        limit: How many messages, at about; a batch that was stored is not split.

    Returns:
        How many ids were gone through; 0 when nothing is left to do.

    Raises:
        StoreError: The database could not be written.
    """
    session = opening.current_session()()
    session.rollback()

    def fill() -> int:
        with database.before_commit() as committing:
            try:
                done = _fill(session, limit)
                committing.set()
                session.commit()
            except BaseException:
                session.rollback()
                raise
        return done

    with database.errors_mapped(session.get_bind().engine, "can't be written"):
        return database.retried(fill)


def _fill(session: orm.Session, limit: int) -> int:
    connection = session.connection()
    if not is_indexed(connection):
        return 0
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_INDEX)
    done, finished = 0, []
    for row in connection.execute(sa.select(_waiting).order_by(_waiting.c.first_id).limit(limit)).mappings().all():
        connection.execute(_filling(connection.dialect.name), dict(row))
        finished.append(row["first_id"])
        done += row["last_id"] - row["first_id"] + 1
        if done >= limit:
            break
    if finished:
        connection.execute(sa.delete(_waiting).where(_waiting.c.first_id.in_(finished)))
    return done


def _filling(dialect: str) -> sa.TextClause:
    times = [sa.bindparam(name, type_=sa.DateTime()) for name in ("first_time", "last_time") if dialect == "postgresql"]
    return sa.text(_FILL[dialect]).bindparams(*times)


def forget(connection: sa.Connection, condition: Any) -> None:
    """Remove messages from the index, by a condition on ``msg_timestamp`` and ``msg_id``, before they are removed.

    In SQLite what stays of them is found and dropped, as the message is not there.
    """
    if connection.dialect.name == "postgresql" and is_indexed(connection):
        connection.execute(sa.delete(_texts).where(condition(_texts.c)))


def clear(connection: sa.Connection) -> None:
    """Remove everything from the index."""
    if is_indexed(connection):
        is_sqlite = connection.dialect.name == "sqlite"
        command = (
            "INSERT INTO message_texts (message_texts) VALUES ('delete-all')"
            if is_sqlite
            else "DELETE FROM message_texts"
        )
        connection.execute(sa.text(command))


# ---------------------------------------------------------------- reading


def candidates(connection: sa.Connection, model: Any, wanted: Filters) -> Any:
    """Return the query for the keys of messages that have some texts, by the index; None where it is of no use.

    Args:
        connection: Of the database.
        model: The messages.
        wanted: Of these filters, those by text, time, topic and category.
    """
    if not is_indexed(connection):
        return None
    others = ("msg_id", "users", "not_users", "packages", "not_packages", "agents", "not_agents", "more")
    wanted = replace(wanted, **dict.fromkeys(others))
    found = _in_sqlite(model, wanted) if connection.dialect.name == "sqlite" else _in_postgresql(wanted)
    if found is None:
        return None
    left = sa.select(model.timestamp.label("timestamp"), model.id.label("id")).join(
        _waiting,
        sa.and_(
            model.timestamp.between(_waiting.c.first_time, _waiting.c.last_time),
            model.id.between(_waiting.c.first_id, _waiting.c.last_id),
        ),
    )
    both = sa.union(found, left.where(*query.conditions(model, wanted))).subquery()
    return sa.select(both.c.timestamp, both.c.id)


def _in_postgresql(wanted: Filters) -> Any:
    asked = sa.select(_texts.c.msg_timestamp.label("timestamp"), _texts.c.msg_id.label("id"))
    if wanted.times:
        asked = asked.where(_texts.c.msg_timestamp.between(*wanted.times))
    if (topics := query.topic_ids(wanted)) is not None:
        asked = asked.where(_texts.c.topic_id.in_(topics))
    return asked.where(*containing.conditions(_texts.c.text, wanted.contains or (), wanted.search or ()))


def _in_sqlite(model: Any, wanted: Filters) -> Any:
    terms = [containing.alternatives(text, "sqlite") for text in wanted.contains or ()]
    terms += [[word] for text in wanted.search or () for word in containing.needed_words(text)]
    looked_up = [one for term in terms if (one := _expression(term))]
    if not looked_up:
        return None
    rows = sa.text("SELECT rowid FROM message_texts WHERE message_texts MATCH :expression")
    rows = rows.bindparams(expression=" AND ".join(f"({one})" for one in looked_up))
    ids = rows.columns(sa.column("rowid", sa.Integer())).scalar_subquery()
    asked = sa.select(model.timestamp.label("timestamp"), model.id.label("id"))
    return asked.where(model.id.in_(ids), *query.conditions(model, wanted))


def _expression(texts: Iterable[str]) -> str | None:
    """Return what to look up for one of some texts; None where one of them is too short."""
    found = []
    for text in texts:
        places = len(text) - _WIDTH + 1
        if places < 1:
            return None
        parts = {text[at : at + _WIDTH] for at in range(0, places, max(1, places // _PLACES_MAX))}
        found.append(" AND ".join('"{}"'.format(part.replace('"', '""')) for part in sorted(parts)))
    return " OR ".join(f"({one})" for one in found)
