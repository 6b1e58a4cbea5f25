# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stores messages with nothing but the driver of a database: what storing costs at least.

Run as a program, with the URL of an empty database and how many messages, it prints how many it stored in a second.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterable

import psycopg

from tests.bench.programs.history import messages

_BATCH = 500
_TABLE = "CREATE TABLE bare (id TEXT, topic TEXT, at BIGINT, msg {json}); CREATE UNIQUE INDEX bare_id ON bare (id)"


def bodies(count: int, days: float = 150) -> list[bytes]:
    """Return messages as they are received, over so many days."""
    return [json.dumps(message["body"]).encode() for message in messages(count, days=days)]


def _rows(received: Iterable[bytes]) -> list[tuple[str, str, int, str]]:
    found = map(json.loads, received)
    return [(one["msg_id"], one["topic"], one["timestamp"], json.dumps(one["msg"])) for one in found]


def store_sqlite(path: str, received: list[bytes]) -> float:
    """Return how many messages a second go into SQLite, by executemany."""
    with sqlite3.connect(path) as connection:
        connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _TABLE.format(json="TEXT"))
        began = time.perf_counter()
        for batch in _batches(received):
            connection.executemany("INSERT INTO bare VALUES (?, ?, ?, ?)", _rows(batch))
            connection.commit()
        return len(received) / (time.perf_counter() - began)


def store_postgresql(url: str, received: list[bytes]) -> float:
    """Return how many messages a second go into PostgreSQL, by COPY."""
    with psycopg.connect(url) as connection:
        connection.execute(_TABLE.format(json="JSONB").encode())
        connection.commit()
        began = time.perf_counter()
        for batch in _batches(received):
            with connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN") as copy:
                for row in _rows(batch):
                    copy.write_row(row)
            connection.commit()
        return len(received) / (time.perf_counter() - began)


def _batches(received: list[bytes]) -> Iterable[list[bytes]]:
    return (received[first : first + _BATCH] for first in range(0, len(received), _BATCH))


def main() -> None:
    """Store messages."""
    url, count = sys.argv[1], int(sys.argv[2])
    received = bodies(count)
    if url.startswith("sqlite:///"):
        print(store_sqlite(url.removeprefix("sqlite:///"), received))
    else:
        print(store_postgresql(url.replace("+psycopg", ""), received))


if __name__ == "__main__":
    main()
