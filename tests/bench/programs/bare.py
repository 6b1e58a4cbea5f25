# SPDX-License-Identifier: LGPL-2.1-or-later
"""A table of messages in a bare database, each commit on disk: the limit of a stream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["TOPIC", "Row", "opened", "rows"]

TOPIC = b"org.fedoraproject.dev.bench.update"
CACHE_KIB = 65_536

#: Position, time, topic, body, 8 bytes of a digest.
Row = tuple[int, float, bytes, bytes, int]


def rows(first: int, bodies: Sequence[bytes]) -> list[Row]:
    """Make rows with positions from the first one on."""
    now = time.time()
    numbered = enumerate(bodies, first)
    return [(number, now, TOPIC, body, int.from_bytes(os.urandom(8), "big", signed=True)) for number, body in numbered]


def opened(url: str) -> tuple[Callable[[Sequence[Row]], None], Callable[[int, int], list[Any]]]:
    """Make the table; returns what inserts rows and commits, and what reads so many after a position."""
    return _sqlite(url) if url.startswith("sqlite") else _postgresql(url)


def _sqlite(url: str) -> tuple[Callable[[Sequence[Row]], None], Callable[[int, int], list[Any]]]:
    import sqlite3

    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    for statement in (
        "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", f"PRAGMA cache_size=-{CACHE_KIB}",
        "CREATE TABLE messages (position INTEGER PRIMARY KEY, stored REAL, topic BLOB, body BLOB, digest INTEGER)",
        "CREATE INDEX digests ON messages (digest)",
    ):  # fmt: skip
        connection.execute(statement)

    def insert(rows: Sequence[Row]) -> None:
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()

    def query(after: int, rows: int) -> list[Any]:
        statement = "SELECT position, stored, topic, body FROM messages WHERE position > ? ORDER BY position LIMIT ?"
        return connection.execute(statement, (after, rows)).fetchall()

    return insert, query


def _postgresql(url: str) -> tuple[Callable[[Sequence[Row]], None], Callable[[int, int], list[Any]]]:
    import psycopg

    connection = psycopg.connect(url.replace("+psycopg", ""))
    connection.execute(
        "CREATE TABLE messages (position BIGINT PRIMARY KEY, stored DOUBLE PRECISION, topic BYTEA, body BYTEA,"
        " digest BIGINT)"
    )
    connection.execute("CREATE INDEX digests ON messages (digest)")
    connection.commit()

    def insert(rows: Sequence[Row]) -> None:
        with connection.cursor().copy("COPY messages FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "float8", "bytea", "bytea", "int8"])
            for row in rows:
                copy.write_row(row)
        connection.commit()

    def query(after: int, rows: int) -> list[Any]:
        statement = "SELECT position, stored, topic, body FROM messages WHERE position > %s ORDER BY position LIMIT %s"
        with connection.cursor(binary=True) as cursor:
            return cursor.execute(statement, (after, rows)).fetchall()

    return insert, query
