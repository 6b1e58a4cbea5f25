# SPDX-License-Identifier: LGPL-2.1-or-later
"""Appends messages to a stream and reads them: by StreamLog, or by the bare database."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from tests.bench.programs.link import serve

BATCH, SIZE = 500, 500
TOPIC = b"org.fedoraproject.dev.bench.update"
CACHE_KIB = 65_536

# Position, time, topic, body, 8 bytes of a digest.
_Row = tuple[int, float, bytes, bytes, int]

_append: list[Callable[[list[bytes]], Callable[[], None]]] = []
_read: list[Callable[[int], int]] = []


def _body(number: int) -> bytes:
    envelope = {
        "i": number,
        "msg": {"text": ""},
        "msg_id": f"2026-{uuid.uuid4()}",
        "timestamp": time.time(),
        "topic": TOPIC.decode(),
        "username": "bench",
    }
    text = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
    return text.replace('"text":""', f'"text":"{"x" * (SIZE - len(text))}"').encode()


def open_ours(url: str) -> None:
    """Append to a stream of ours."""
    from fedmsg.stream.log import Incoming, StreamLog

    stream = StreamLog(url)

    def prepare(bodies: list[bytes]) -> Callable[[], None]:
        batch = [Incoming(TOPIC, body) for body in bodies]

        def append() -> None:
            stream.append(batch)

        return append

    def read(count: int) -> int:
        found = after = 0
        while found < count:
            chunk = stream.read(after, rows=min(1000, count - found))
            after = chunk.looked_at
            found += len(chunk.entries)
        return found

    _append.append(prepare)
    _read.append(read)


def open_limit(url: str) -> None:
    """Append to a bare table."""
    insert, query = _bare_sqlite(url) if url.startswith("sqlite") else _bare_postgresql(url)
    newest = 0

    def prepare(bodies: list[bytes]) -> Callable[[], None]:
        nonlocal newest
        now = time.time()
        numbered = enumerate(bodies, newest + 1)
        rows = [
            (number, now, TOPIC, body, int.from_bytes(os.urandom(8), "big", signed=True)) for number, body in numbered
        ]
        newest += len(rows)
        return lambda: insert(rows)

    def read(count: int) -> int:
        found = 0
        while found < count:
            found += len(query(found, min(1000, count - found)))
        return found

    _append.append(prepare)
    _read.append(read)


def _bare_sqlite(url: str) -> tuple[Callable[[Sequence[_Row]], None], Callable[[int, int], list[Any]]]:
    import sqlite3

    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    for statement in (
        "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", f"PRAGMA cache_size=-{CACHE_KIB}",
        "CREATE TABLE messages (position INTEGER PRIMARY KEY, stored REAL, topic BLOB, body BLOB, digest INTEGER)",
        "CREATE INDEX digests ON messages (digest)",
    ):  # fmt: skip
        connection.execute(statement)

    def insert(rows: Sequence[_Row]) -> None:
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()

    def query(after: int, rows: int) -> list[Any]:
        statement = "SELECT position, stored, topic, body FROM messages WHERE position > ? ORDER BY position LIMIT ?"
        return connection.execute(statement, (after, rows)).fetchall()

    return insert, query


def _bare_postgresql(url: str) -> tuple[Callable[[Sequence[_Row]], None], Callable[[int, int], list[Any]]]:
    import psycopg

    connection = psycopg.connect(url.replace("+psycopg", ""))
    connection.execute(
        "CREATE TABLE messages (position BIGINT PRIMARY KEY, stored DOUBLE PRECISION, topic BYTEA, body BYTEA,"
        " digest BIGINT)"
    )
    connection.execute("CREATE INDEX digests ON messages (digest)")
    connection.commit()

    def insert(rows: Sequence[_Row]) -> None:
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


def append(count: int) -> float:
    """Append so many messages; returns how many in a second."""
    batches = [_append[0]([_body(number) for number in range(BATCH)]) for _ in range(count // BATCH)]
    start = time.perf_counter()
    for store in batches:
        store()
    return count / (time.perf_counter() - start)


def read(count: int) -> dict[str, float]:
    """Read so many messages from the first on; returns how many, and how many in a second."""
    start = time.perf_counter()
    found = _read[0](count)
    return {"count": found, "speed": count / (time.perf_counter() - start)}


serve({"open_ours": open_ours, "open_limit": open_limit, "append": append, "read": read})
