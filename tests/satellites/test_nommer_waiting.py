# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing while the database is away: messages wait, and are stored in order when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg.testing import wait_until
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
