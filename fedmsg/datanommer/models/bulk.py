# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inserts many rows as quickly as a database takes them: by COPY in PostgreSQL, else in one call of the driver."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from fedmsg.store import database

__all__ = ["insert"]


def insert(connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of text, numbers, booleans, times and None."""
    if not rows:
        return
    names = ", ".join(columns)
    if connection.dialect.driver == "psycopg":
        with database.driver(connection) as raw, raw.cursor() as cursor:
            with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                copy.write("".join(map(_line, rows)).encode())
        return
    is_sqlite = connection.dialect.name == "sqlite"
    marks = ", ".join(["?" if connection.dialect.paramstyle == "qmark" else "%s"] * len(columns))
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 names of ours
    with database.driver(connection) as raw:
        cursor = raw.cursor()
        try:
            cursor.executemany(statement, map(_for_sqlite, rows) if is_sqlite else rows)
        finally:
            cursor.close()


def _line(row: tuple[Any, ...]) -> str:
    """Return a row in the text format of COPY."""
    return "\t".join(["\\N" if value is None else _WRITE[type(value)](value) for value in row]) + "\n"


def _escaped(text: str) -> str:
    if text.isalnum():
        return text
    text = text.replace("\\", "\\\\")
    return text if text.isprintable() else text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _time(moment: dt.datetime) -> str:
    return moment.isoformat(" ", "microseconds")


_WRITE = {str: _escaped, int: str, bool: str, dt.datetime: _time}


def _for_sqlite(row: tuple[Any, ...]) -> list[Any]:
    return [_time(value) if isinstance(value, dt.datetime) else value for value in row]
