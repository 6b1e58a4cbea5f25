# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statements for many values at once, in the dialects of SQLite and PostgreSQL.

Rows go into PostgreSQL by COPY. Other values go over as one JSON text, and come back as one: a driver
takes long for each value of its own.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from fedmsg.store import database

__all__ = ["Found", "count", "day_of", "ids", "insert", "look_up", "time_text"]

_STATEMENTS = {
    "postgresql": {
        "look_up": """SELECT jsonb_build_object(
            'known', (SELECT jsonb_agg(jsonb_build_array(there.msg_id, wanted.at))
                FROM jsonb_to_recordset(given.what -> 'known') AS wanted (id TEXT, at TEXT)
                JOIN messages AS there ON there.msg_id = wanted.id AND there.timestamp = wanted.at::timestamp),
            'topics', (SELECT jsonb_object_agg(topic, id) FROM topics
                WHERE topic IN (SELECT jsonb_array_elements_text(given.what -> 'topics'))),
            'users', (SELECT jsonb_object_agg(name, id) FROM users
                WHERE name IN (SELECT jsonb_array_elements_text(given.what -> 'users'))),
            'packages', (SELECT jsonb_object_agg(name, id) FROM packages
                WHERE name IN (SELECT jsonb_array_elements_text(given.what -> 'packages'))),
            'tables', (SELECT jsonb_agg(asked.name) FROM jsonb_array_elements_text(given.what -> 'tables')
                AS asked (name) WHERE to_regclass(asked.name) IS NOT NULL),
            'ids', (SELECT jsonb_agg(nextval('messages_id_seq'))
                FROM generate_series(1, jsonb_array_length(given.what -> 'known'))))
            FROM (SELECT :values AS what) AS given""",
        "find": """SELECT jsonb_object_agg({text}, id) FROM {table}
            WHERE {text} IN (SELECT jsonb_array_elements_text(:values))""",
        "make": "INSERT INTO {table} (name) SELECT jsonb_array_elements_text(:values) ON CONFLICT DO NOTHING",
        "make_topics": """INSERT INTO topics (topic, category) SELECT more.topic, more.category
            FROM jsonb_to_recordset(:values) AS more (topic TEXT, category TEXT) ON CONFLICT DO NOTHING""",
        "count": """INSERT INTO {table} (topic_id, start, count) SELECT more.topic_id, more.start, more.count
            FROM jsonb_to_recordset(:values) AS more (topic_id INTEGER, start TIMESTAMP, count BIGINT)
            ON CONFLICT (topic_id, start) DO UPDATE SET count = {table}.count + excluded.count""",
    },
    "sqlite": {
        "look_up": """SELECT json_object(
            'known', json((SELECT json_group_array(json_array(there.msg_id, there.timestamp))
                FROM json_each(given.what, '$.known') AS wanted CROSS JOIN messages AS there
                ON there.msg_id = json_extract(wanted.value, '$.id')
                AND there.timestamp = json_extract(wanted.value, '$.at'))),
            'topics', json((SELECT json_group_object(topic, id) FROM topics
                WHERE topic IN (SELECT value FROM json_each(given.what, '$.topics')))),
            'users', json((SELECT json_group_object(name, id) FROM users
                WHERE name IN (SELECT value FROM json_each(given.what, '$.users')))),
            'packages', json((SELECT json_group_object(name, id) FROM packages
                WHERE name IN (SELECT value FROM json_each(given.what, '$.packages')))),
            'newest', (SELECT coalesce(max(id), 0) FROM messages))
            FROM (SELECT :values AS what) AS given""",
        "find": """SELECT json_group_object({text}, id) FROM {table}
            WHERE {text} IN (SELECT value FROM json_each(:values))""",
        "make": "INSERT INTO {table} (name) SELECT value FROM json_each(:values) WHERE true ON CONFLICT DO NOTHING",
        "make_topics": """INSERT INTO topics (topic, category)
            SELECT json_extract(value, '$.topic'), json_extract(value, '$.category')
            FROM json_each(:values) WHERE true ON CONFLICT DO NOTHING""",
        "count": """INSERT INTO {table} (topic_id, start, count) SELECT json_extract(value, '$.topic_id'),
            json_extract(value, '$.start'), json_extract(value, '$.count') FROM json_each(:values) WHERE true
            ON CONFLICT (topic_id, start) DO UPDATE SET count = {table}.count + excluded.count""",
    },
}


class Found(NamedTuple):
    """What is in the database already, and what it has assigned.

    Attributes:
        known: Which messages are there, by id and time.
        names: The ids of topics, users and packages that are there, by table.
        tables: Which tables are there; none is looked for in SQLite.
        ids: As many new ids as messages were asked for.
    """

    known: set[tuple[str, dt.datetime]]
    names: dict[str, dict[str, int]]
    tables: set[str]
    ids: Sequence[int]


def _run(connection: sa.Connection, statement: str, values: Any, **names: str) -> Any:
    """Run a statement of the dialect, and return the JSON that it returns, if it does."""
    text = _STATEMENTS[connection.dialect.name][statement].format(**names)
    if connection.dialect.name == "postgresql":
        text = text.replace(":values", "CAST(:values AS JSONB)")
    result = connection.execute(sa.text(text), {"values": json.dumps(values)})
    found = result.scalar() if result.returns_rows else None
    return json.loads(found) if isinstance(found, str) else found


def look_up(
    connection: sa.Connection,
    messages: Iterable[tuple[str, dt.datetime]],
    names: Mapping[str, Iterable[str]],
    tables: Iterable[str],
) -> Found:
    """Return what is there of what is to be written, and new ids, by one statement: each takes its time to go over.

    Args:
        connection: In whose transaction this is.
        messages: Messages by id and time.
        names: Names by table: ``topics``, ``users`` and ``packages``.
        tables: Names of tables.
    """
    texts = {(msg_id, time_text(moment)): moment for msg_id, moment in messages}
    wanted: dict[str, list[Any]] = {"known": [{"id": msg_id, "at": moment} for msg_id, moment in texts]}
    wanted |= {table: list(some) for table, some in names.items()}
    found = _run(connection, "look_up", {**wanted, "tables": list(tables)})
    newest = found.get("newest", 0)
    return Found(
        known={(msg_id, texts[msg_id, moment]) for msg_id, moment in found["known"] or ()},
        names={table: dict(found[table] or {}) for table in names},
        tables=set(found.get("tables") or ()),
        ids=found.get("ids") or range(newest + 1, newest + 1 + len(texts)),
    )


def ids(
    connection: sa.Connection, table: str, wanted: Mapping[str, str | None], found: dict[str, int] | None = None
) -> dict[str, int]:
    """Return the ids of names; rows for those that have none are made.

    Args:
        connection: In whose transaction rows are made.
        table: ``users``, ``packages`` or ``topics``.
        wanted: The names; those of topics have their category.
        found: The ids of those that are there, where that is known.
    """
    if not wanted:
        return {}
    text = "topic" if table == "topics" else "name"
    if found is None:
        found = dict(_run(connection, "find", list(wanted), table=table, text=text) or {})
    if missing := [name for name in wanted if name not in found]:
        if table == "topics":
            _run(connection, "make_topics", [{"topic": name, "category": wanted[name]} for name in missing])
        else:
            _run(connection, "make", missing, table=table)
        found.update(_run(connection, "find", missing, table=table, text=text))
    return found


def day_of(moment: dt.datetime) -> dt.datetime:
    """Return the beginning of a day."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def count(connection: sa.Connection, days: Mapping[tuple[int, dt.datetime], int]) -> None:
    """Add to the counts of days, by topic and beginning of the day, and of their months."""
    months: Counter[tuple[int, dt.datetime]] = Counter()
    for (topic, day), number in days.items():
        months[topic, day.replace(day=1)] += number
    for table, found in (("day_counts", days), ("month_counts", months)):
        # In order, so that two that do this at once don't block each other.
        values = [
            {"topic_id": topic, "start": time_text(start), "count": found[topic, start]}
            for topic, start in sorted(found)
        ]
        _run(connection, "count", values, table=table)


def insert(connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of text, numbers, booleans and None; times are texts as `time_text` makes them."""
    if not rows:
        return
    names = ", ".join(columns)
    with database.driver(connection) as raw:
        cursor = raw.cursor()
        try:
            if connection.dialect.driver == "psycopg":
                with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                    copy.write("".join(map(_line, rows)).encode())
                return
            marks = ", ".join(["?" if connection.dialect.name == "sqlite" else "%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)  # noqa: S608 names of ours
        finally:
            cursor.close()


def _line(row: tuple[Any, ...]) -> str:
    """Return a row in the text format of COPY."""
    return "\t".join(["\\N" if value is None else _WRITE[type(value)](value) for value in row]) + "\n"


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\\\")
    return text if text.isprintable() else text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def time_text(moment: dt.datetime) -> str:
    """Return a time as SQLite has it and PostgreSQL takes it."""
    return moment.isoformat(" ", "microseconds")


_WRITE: dict[type, Callable[[Any], str]] = {str: _escaped, int: str, bool: str}
