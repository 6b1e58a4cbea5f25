# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing while the database is away: messages wait, and are stored in order when it is back."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg.testing import wait_until
from tests import postgres
from tests.hubs import Feed, Taker, taker
from tests.satellites.nommers import Stored, storing, totals

QUEUE = 20


@pytest.fixture
def stored(history: Any, history_url: str) -> Iterator[Stored]:
    with Stored(history_url) as made:
        yield made


class Away:
    """Keeps the history from being written, as a database that is away does."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def _rename(self, one: str, other: str) -> None:
        with self._stored.engine.begin() as connection:
            connection.execute(sa.text(f"ALTER TABLE {one} RENAME TO {other}"))

    def __enter__(self) -> None:
        self._rename("message_positions", "gone")

    def __exit__(self, *_: object) -> None:
        self._rename("gone", "message_positions")


def full_postgresql(cluster: postgres.Cluster) -> Iterator[None]:
    """Have no file of the server grow any more, but those of its journal."""

    def limit(size: int | None) -> None:
        for process in cluster.processes():
            # Some end by themselves.
            with suppress(subprocess.CalledProcessError):
                cluster.limit_files(process, size)

    limit(17 << 20)
    try:
        yield
    finally:
        limit(None)


def full_sqlite(engine: sa.Engine) -> Iterator[None]:
    """Have the file grow no more, which is what SQLite reports of a full disk."""
    most = 4 << 10

    def set_up(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count={most}").fetchall()

    sa.event.listen(engine, "checkout", set_up)
    try:
        yield
    finally:
        sa.event.remove(engine, "checkout", set_up)
        most = 2**32 - 2
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={most}").all()


def test_the_disk_of_the_database_is_full_for_a_while(
    stored: Stored,
    history_engine: sa.Engine,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Messages wait, as while the database is away; the hub goes on with others, and all are stored in order, once."""
    settings = {"state_directory": str(tmp_path), "test.enabled": True}
    if history_engine.dialect.name == "postgresql":
        full = contextmanager(full_postgresql)(request.getfixturevalue("postgresql"))
        error = "could not extend file"
    else:
        full = contextmanager(full_sqlite)(history_engine)
        error = "database or disk is full"
    # What can't be compressed.
    text = random.Random(1).randbytes(400_000).hex()
    with Feed() as feed, storing(feed.config, taker(queue_limit=10_000), **settings) as hub:
        other: Taker = hub.consumers[1]
        feed.wait()
        with full:
            number = 0
            while error not in caplog.text:
                assert number < 200
                feed.send("test", {"n": number, "text": text})
                number += 1
                wait_until(lambda: stored.count() == number or error in caplog.text)  # noqa: B023 - called in this round
            before = stored.count()
            assert before < number
            for more in range(number, number + 20):
                feed.send("test", {"n": more})
            wait_until(lambda: len(other.taken) == number + 20)
            assert stored.numbers() == [*range(before)]
        stored.wait_for(range(number + 20))
        assert (totals(hub)["spooled"], totals(hub)["dead"], totals(hub)["skipped"]) == (0, 0, 0)


def test_messages_wait_on_disk_and_the_hub_goes_on_with_others(stored: Stored, tmp_path: Path) -> None:
    settings = {"state_directory": str(tmp_path), "consumer_queue_limit": QUEUE, "test.enabled": True}
    with Feed() as feed, storing(feed.config, taker(queue_limit=10_000), **settings) as hub:
        other: Taker = hub.consumers[1]
        feed.wait()
        feed.send("test", {"n": 0})
        stored.wait_for([0])
        with Away(stored):
            for number in range(1, 3000):
                feed.send("test", {"n": number})
            wait_until(lambda: len(other.taken) == 3000)
            wait_until(lambda: totals(hub)["spooled"] + totals(hub)["received"] == 3000)
            assert totals(hub)["spooled"] > 0
            assert stored.numbers() == [0]
        stored.wait_for(range(3000))
        feed.send("test", {"n": 3000})
        stored.wait_for(range(3001))
        assert (totals(hub)["spooled"], totals(hub)["dead"], totals(hub)["failed"]) == (0, 0, 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_waits_when_the_hub_stops_is_stored_after_the_next_start(stored: Stored, tmp_path: Path) -> None:
    settings = {"state_directory": str(tmp_path), "consumer_queue_limit": QUEUE, "stop_timeout": 1}
    with Feed() as feed:
        with Away(stored):
            with storing(feed.config, **settings) as hub:
                feed.wait()
                for number in range(2500):
                    feed.send("test", {"n": number})
                wait_until(lambda: totals(hub)["spooled"] + totals(hub)["received"] == 2500)
                outcome = hub.stop()
            assert (sum(outcome.left.values()), outcome.kept) == (2500, True)
            # The second start finds it no better, and loses nothing either.
            feed.wait_until_gone()
            with storing(feed.config, **settings) as hub:
                feed.wait()
                before = totals(hub)["spooled"]
                feed.send("test", {"n": 2500})
                wait_until(lambda: totals(hub)["spooled"] == before + 1)
                assert hub.stop().kept
        with storing(feed.config, **settings) as hub:
            stored.wait_for(range(2501))
            assert totals(hub)["skipped"] == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_a_state_directory_messages_wait_in_memory(stored: Stored) -> None:
    with Feed() as feed, storing(feed.config, consumer_queue_limit=QUEUE) as hub:
        feed.wait()
        with Away(stored):
            for number in range(500):
                feed.send("test", {"n": number})
            wait_until(lambda: totals(hub)["waiting"] >= QUEUE)
        stored.wait_for(range(500))
