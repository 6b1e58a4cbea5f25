# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history: how quickly a hub stores what a stream has, how quickly it is imported, what a dump costs."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from fedmsg.stream.log import StreamLog
from fedmsg.stream.records import Incoming
from fedmsg.testing import command_path, wait_until
from tests.bench.harness import REPOSITORY, Bench, expect, memory_mib, progress
from tests.bench.programs.storing import bodies
from tests.bench.table import Goal, Row
from tests.postgres import Cluster

STORED = 60_000
DUMPED = 300_000
DATABASES = ("SQLite", "PostgreSQL")


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    with Cluster(durable=True) as cluster:
        return [*_measure_storing(bench, cluster), *_measure_import(bench, cluster), _measure_dump(bench, cluster)]


class StoredCounter:
    """Counts what is stored in a database, by one connection: to connect again and again would be work for it.

    Args:
        url: The URL of the database.
        statement: What returns the count.
    """

    def __init__(self, url: str, statement: str = "SELECT newest FROM message_positions") -> None:
        self._url = url
        self._statement = statement
        self._connection: Any = None

    def __call__(self) -> int:
        """Return how many messages are stored."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            found = self._connection.execute(self._statement).fetchone()
        except (sqlite3.Error, psycopg.Error):
            # It has no tables yet.
            return 0
        return int(found[0] or 0) if found else 0

    def _connect(self) -> Any:
        if self._url.startswith("sqlite"):
            return sqlite3.connect(f"file:{self._url.removeprefix('sqlite:///')}?mode=ro", uri=True)
        return psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


def url_of(bench: Bench, cluster: Cluster, database: str, name: str) -> str:
    return cluster.create() if database == "PostgreSQL" else f"sqlite:///{bench.folder}/{name}.db"


def _bare(url: str, count: int) -> float:
    """Return how many messages a second the driver alone stores."""
    program = [sys.executable, "-m", "tests.bench.programs.storing", url, str(count)]
    return float(subprocess.run(program, capture_output=True, check=True, cwd=REPOSITORY).stdout)


# ---------------------------------------------------------------- storing


def _measure_storing(bench: Bench, cluster: Cluster) -> list[Row]:
    count = bench.size(STORED)
    rows = [Row(f"stored by a hub, {name}", "msg/s", Goal("at least", 0.68)) for name in DATABASES]
    with streaming(bench, count) as config:
        for number in range(bench.rounds):
            for row, database in zip(rows, DATABASES, strict=True):
                progress(f"history: storing, {database}, round {number + 1}")
                row.limit.append(_bare(url_of(bench, cluster, database, f"bare-{number}"), count))
                url = url_of(bench, cluster, database, f"ours-{number}")
                # Each reads from the beginning under a name of its own.
                mine: dict[str, object] = {"datanommer.enabled": True, "datanommer.sqlalchemy.url": url}
                mine["datanommer.durable"] = f"bench-{time.time_ns()}"
                row.ours.append(rate_of_hub(bench, StoredCounter(url), {**config, **mine}, count))
    return rows


@contextmanager
def streaming(bench: Bench, count: int, days: float = 150) -> Iterator[dict[str, object]]:
    """Run a relay whose stream has so many messages; yields the settings of a hub that reads it."""
    store = f"sqlite:///{bench.folder}/stream.db"
    with StreamLog(store) as log:
        waiting = [Incoming(json.loads(body)["topic"].encode(), body) for body in bodies(count, days)]
        for first in range(0, count, 1000):
            log.append(waiting[first : first + 1000])
    config: dict[str, object] = {
        "relay_store": store, "relay_inbound": bench.address(), "relay_confirmed": bench.address(),
        "relay_stream": bench.address(), "endpoints": {"relay_outbound": [bench.address()]},
        "relay_retention_age": 0, "logging": {},
    }  # fmt: skip
    path = bench.folder / "history-relay.py"
    path.write_text(f"config = {config!r}\n")
    relay = subprocess.Popen([command_path("fedmsg-relay"), "--config-filename", str(path)])
    try:
        yield config
    finally:
        relay.terminate()
        relay.wait()


def rate_of_hub(
    bench: Bench,
    counter: StoredCounter,
    config: dict[str, object],
    count: int,
    *,
    begin: tuple[str, ...] = ("--first",),
) -> float:
    """Return how many messages a second a hub stores, without its start."""
    path = bench.folder / "history-hub.py"
    path.write_text(f"config = {config!r}\n")
    hub = subprocess.Popen([command_path("fedmsg-hub"), *begin, "--config-filename", str(path)])
    try:
        first, began = _wait(counter, 1)
        last, ended = _wait(counter, count)
    finally:
        counter.close()
        hub.terminate()
        hub.wait()
    expect("" if last == count else f"{last} of {count} messages are stored", "ours")
    return (last - first) / (ended - began)


def _wait(counter: StoredCounter, count: int) -> tuple[int, float]:
    """Wait for so many messages; return how many there are then, and when that is."""
    found = wait_until(lambda: now if (now := counter()) >= count else 0, 300)
    return found, time.perf_counter()


# ---------------------------------------------------------------- import


def _measure_import(bench: Bench, cluster: Cluster) -> list[Row]:
    count = bench.size(STORED)
    source = bench.folder / "published.db"
    _make_published(source, count)
    rows = [Row(f"import of datanommer 0.9, {name}", "msg/s", Goal("min", 5000.0)) for name in DATABASES]
    for number in range(bench.rounds):
        for row, database in zip(rows, DATABASES, strict=True):
            progress(f"history: import, {database}, round {number + 1}")
            url = url_of(bench, cluster, database, f"import-{number}")
            took = _timed(lambda url=url: _command("load", url, "--from", f"sqlite:///{source}"))  # type: ignore[misc]
            row.ours.append(count / took)
    return rows


def _make_published(path: Path, count: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, msg_id TEXT UNIQUE, i INTEGER, topic TEXT,"
            " timestamp DATETIME, certificate TEXT, signature TEXT, category TEXT, username TEXT, crypto TEXT,"
            " source_name TEXT, source_version TEXT, _msg TEXT, _headers TEXT);"
            "CREATE TABLE user_messages (username TEXT, msg INTEGER);"
            "CREATE TABLE package_messages (package TEXT, msg INTEGER);"
            "CREATE INDEX of_user ON user_messages (msg); CREATE INDEX of_package ON package_messages (msg);"
        )
        for number, body in enumerate(map(json.loads, bodies(count)), 1):
            when = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime(body["timestamp"]))
            row = (number, body["msg_id"], body["i"], body["topic"], when, None, None, "x", "bench", None, "datanommer")
            content = ("0.9", json.dumps(body["msg"]), None)
            connection.execute(f"INSERT INTO messages VALUES ({', '.join('?' * 14)})", (*row, *content))
            people = {(name, number) for name in body["msg"]["people"]}
            connection.executemany("INSERT INTO user_messages VALUES (?, ?)", sorted(people))
            builds = {(name, number) for name in body["msg"]["builds"]}
            connection.executemany("INSERT INTO package_messages VALUES (?, ?)", sorted(builds))


def _command(name: str, url: str, *arguments: str) -> None:
    subprocess.run(
        [command_path(f"datanommer-{name}"), "--database", url, *arguments], check=True, stdout=-3, stderr=-3
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ---------------------------------------------------------------- dump


def _measure_dump(bench: Bench, cluster: Cluster) -> Row:
    count = bench.size(DUMPED)
    row = Row(f"memory of a dump of {count:,} messages", "MiB", Goal("max", 100.0))
    url = cluster.create()
    program = [sys.executable, "-m", "tests.bench.programs.history", url, str(count)]
    subprocess.run(program, check=True, cwd=REPOSITORY, stdout=-3)
    progress("history: dump")
    dump = subprocess.Popen([command_path("datanommer-dump"), "--database", url], stdout=subprocess.PIPE)
    assert dump.stdout is not None
    largest = 0.0
    lines = 0
    for lines, _ in enumerate(dump.stdout):
        if lines % 10_000 == 0:
            largest = max(largest, memory_mib(dump))
    expect("" if dump.wait() == 0 and lines == count + 1 else f"{lines} lines", "ours")
    row.ours.append(largest)
    return row
