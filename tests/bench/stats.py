# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statistics: how quickly a hub counts with ten plugins what a stream has, and what was missed in a history."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from contextlib import contextmanager
from typing import Any

import psycopg

from fedmsg.datanommer import models
from tests.bench.harness import Bench, progress
from tests.bench.history import DATABASES, StoredCounter, rate_of_hub, streaming, url_of
from tests.bench.programs.history import messages
from tests.bench.programs.storing import bodies
from tests.bench.table import Goal, Row
from tests.postgres import Cluster

COUNTED = 60_000
DAY = 1_000_000
# The goal for a day of that many is 90 seconds.
DAY_RATE = DAY / 90

_BATCH = 1000
_PLUGINS = 10
_COUNT = "SELECT sum(scalar) FROM stats_volume_1d"
_UPSERT = """INSERT INTO bare_{number} (at, category, scalar) VALUES ({mark}, {mark}, {mark})
    ON CONFLICT (at, category) DO UPDATE SET scalar = bare_{number}.scalar + excluded.scalar"""


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    with Cluster(durable=True) as cluster:
        return [*_measure_counting(bench, cluster), _measure_day(bench, cluster)]


def _config(url: str, **settings: Any) -> dict[str, object]:
    return {"statscache.consumer.enabled": True, "statscache.sqlalchemy.uri": url, **settings}


def _measure_counting(bench: Bench, cluster: Cluster) -> list[Row]:
    count = bench.size(COUNTED)
    rows = [Row(f"counted by ten plugins, {name}", "msg/s", Goal("min", 15_000)) for name in DATABASES]
    # As a bus has them that sends a million a day.
    days = count / DAY
    with streaming(bench, count, days) as config:
        for number in range(bench.rounds):
            for row, database in zip(rows, DATABASES, strict=True):
                progress(f"stats: counting, {database}, round {number + 1}")
                row.limit.append(_bare(url_of(bench, cluster, database, f"bare-{number}"), bodies(count, days)))
                url = url_of(bench, cluster, database, f"ours-{number}")
                mine = _config(url, **{"statscache.consumer.durable": f"bench-{time.time_ns()}"})
                row.ours.append(rate_of_hub(bench, StoredCounter(url, _COUNT), {**config, **mine}, count))
    return rows


def _measure_day(bench: Bench, cluster: Cluster) -> Row:
    """Measure how quickly a hub counts what it has missed."""
    count = bench.size(DAY)
    history = f"sqlite:///{bench.folder}/missed.db"
    progress(f"stats: a history of {count} messages is made")
    models.init(history, create=True)
    waiting = messages(count, days=count / DAY)
    for _ in range(0, count, _BATCH):
        models.add_many([one for _, one in zip(range(_BATCH), waiting, strict=False)])
    models.session.remove()
    row = Row("what was missed, from a history", "msg/s", Goal("min", DAY_RATE))
    more = {"statscache.consumer.epoch": 1, "datanommer.sqlalchemy.url": history, "logging": {}, "endpoints": {}}
    for number in range(bench.rounds):
        progress(f"stats: a missed day, round {number + 1}")
        url = url_of(bench, cluster, "PostgreSQL", f"day-{number}")
        row.ours.append(rate_of_hub(bench, StoredCounter(url, _COUNT), _config(url, **more), count, begin=()))
    return row


# ---------------------------------------------------------------- the bare parts


def _bare(url: str, received: list[bytes]) -> float:
    """Return how many messages a second the driver alone counts in ten tables."""
    with _connected(url) as (connection, mark):
        for number in range(_PLUGINS):
            connection.execute(
                f"CREATE TABLE bare_{number} (at BIGINT, category TEXT, scalar BIGINT, PRIMARY KEY (at, category))"
            )
        connection.commit()
        began = time.perf_counter()
        for first in range(0, len(received), _BATCH):
            batch = [json.loads(body) for body in received[first : first + _BATCH]]
            counts = Counter((int(one["timestamp"]) // 3600, one["topic"]) for one in batch)
            values = [(*key, value) for key, value in counts.items()]
            for number in range(_PLUGINS):
                connection.cursor().executemany(_UPSERT.format(number=number, mark=mark), values)
            connection.commit()
        return len(received) / (time.perf_counter() - began)


@contextmanager
def _connected(url: str) -> Any:
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
            yield connection, "?"
        return
    with psycopg.connect(url.replace("+psycopg", "")) as postgresql:
        yield postgresql, "%s"
