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
from typing import Any

import sqlalchemy as sa

from fedmsg.store import database

__all__ = ["count", "day_of", "ids", "insert", "known", "take_ids"]

_STATEMENTS = {
    "postgresql": {
        "known": """SELECT jsonb_agg(jsonb_build_array(there.msg_id, wanted.at))
            FROM jsonb_to_recordset(:values) AS wanted (id TEXT, at TEXT)
            JOIN messages AS there ON there.msg_id = wanted.id AND there.timestamp = wanted.at::timestamp""",
        "take": "SELECT jsonb_agg(nextval('messages_id_seq')) FROM generate_series(1, :values)",
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
        "known": """SELECT json_group_array(json_array(there.msg_id, there.timestamp))
            FROM json_each(:values) AS wanted CROSS JOIN messages AS there
            ON there.msg_id = json_extract(wanted.value, '$.id')
            AND there.timestamp = json_extract(wanted.value, '$.at')""",
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


def _run(connection: sa.Connection, statement: str, values: Any, **names: str) -> Any:
    """Run a statement of the dialect, and return the JSON that it returns, if it does."""
    text = sa.text(_STATEMENTS[connection.dialect.name][statement].format(**names))
    if connection.dialect.name == "postgresql" and not isinstance(values, int):
        text = sa.text(str(text).replace(":values", "CAST(:values AS JSONB)"))
    given = values if isinstance(values, int) else json.dumps(values)
    result = connection.execute(text, {"values": given})
    found = result.scalar() if result.returns_rows else None
    return json.loads(found) if isinstance(found, str) else found


def known(connection: sa.Connection, wanted: Iterable[tuple[str, dt.datetime]]) -> set[tuple[str, dt.datetime]]:
    """Return which messages, by id and time, are there."""
    texts = {(msg_id, _time(moment)): moment for msg_id, moment in wanted}
    found = _run(connection, "known", [{"id": msg_id, "at": moment} for msg_id, moment in texts])
    return {(msg_id, texts[msg_id, moment]) for msg_id, moment in found or ()}


def take_ids(connection: sa.Connection, number: int) -> Sequence[int]:
    """Return so many new ids of messages."""
    if connection.dialect.name == "postgresql":
        taken: list[int] = _run(connection, "take", number)
        return taken
    last = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM messages").scalar_one()
    return range(last + 1, last + number + 1)


def ids(connection: sa.Connection, table: str, wanted: Mapping[str, str | None]) -> dict[str, int]:
    """Return the ids of names; rows for those that have none are made.

    Args:
        connection: In whose transaction rows are made.
        table: ``users``, ``packages`` or ``topics``.
        wanted: The names; those of topics have their category.
    """
    if not wanted:
        return {}
    text = "topic" if table == "topics" else "name"
    found = _run(connection, "find", list(wanted), table=table, text=text) or {}
    if missing := [name for name in wanted if name not in found]:
        if table == "topics":
            _run(connection, "make_topics", [{"topic": name, "category": wanted[name]} for name in missing])
        else:
            _run(connection, "make", missing, table=table)
        found.update(_run(connection, "find", missing, table=table, text=text))
    return dict(found)


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
            {"topic_id": topic, "start": _time(start), "count": found[topic, start]} for topic, start in sorted(found)
        ]
        _run(connection, "count", values, table=table)


def insert(connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of text, numbers, booleans, times and None."""
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
            is_sqlite = connection.dialect.name == "sqlite"
            marks = ", ".join(["?" if is_sqlite else "%s"] * len(columns))
            statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 names of ours
            cursor.executemany(statement, map(_for_sqlite, rows) if is_sqlite else rows)
        finally:
            cursor.close()


def _line(row: tuple[Any, ...]) -> str:
    """Return a row in the text format of COPY."""
    return "\t".join(["\\N" if value is None else _WRITE[type(value)](value) for value in row]) + "\n"


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\\\")
    return text if text.isprintable() else text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _time(moment: dt.datetime) -> str:
    return moment.isoformat(" ", "microseconds")


_WRITE: dict[type, Callable[[Any], str]] = {str: _escaped, int: str, bool: str, dt.datetime: _time}


def _for_sqlite(row: tuple[Any, ...]) -> list[Any]:
    return [_time(value) if isinstance(value, dt.datetime) else value for value in row]
