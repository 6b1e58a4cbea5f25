# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hubs that count, as processes: they are killed under load, and the numbers are those of a recount."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedmsg.datanommer import models
from fedmsg.testing import wait_until
from tests.hubs import Feed
from tests.postgres import Cluster
from tests.satellites import histories
from tests.satellites.killing import kill_database, kill_hubs
from tests.satellites.numbers import Numbers, as_received, hub_process
from tests.stream_relays import Flow, StreamBus, publish, running, sqlite_url

DURABLE = {"statscache.consumer.durable": True}

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


def check(bus: StreamBus, numbers: Numbers, count: int) -> None:
    """Wait until everything is counted, and compare with a recount of the stream."""
    messages = as_received(entry.body for entry in bus.entries())
    messages = [one for one in messages if "n" in one["body"]["msg"]]
    assert len(messages) >= count
    everything = len(bus.entries())
    wait_until(lambda: numbers.total() >= everything, 120, what=lambda: f"{everything}; {numbers.total()}")
    numbers.check(as_received(entry.body for entry in bus.entries()))


def test_hub_is_killed(bus: StreamBus, database_url: str, tmp_path: Path, full_size: bool) -> None:
    start = partial(hub_process, tmp_path / "hub", database_url, bus.config, "--first", **DURABLE)
    with Numbers(database_url) as numbers:
        with Flow(bus, window=5, timeout=20) as flow:
            flow.wait_for(1)
            kill_hubs(start, numbers.total, 100 if full_size else 2)
        with start().wait_ready() as hub:
            check(bus, numbers, len(flow.confirmed))
            assert hub.stop() == 0


def test_database_is_killed(bus: StreamBus, tmp_path: Path, full_size: bool) -> None:
    with Cluster(durable=True) as cluster:
        url = cluster.create()
        with (
            Numbers(url) as numbers,
            hub_process(tmp_path / "hub", url, bus.config, "--first", **DURABLE).wait_ready() as hub,
        ):
            with Flow(bus, window=5, timeout=20) as flow:
                kill_database(cluster, flow, numbers.total, 100 if full_size else 2)
            check(bus, numbers, len(flow.confirmed))
            assert hub.stop() == 0


def test_first_start_begins_in_the_stream_at_the_epoch(bus: StreamBus, sqlite_url: str, tmp_path: Path) -> None:
    publish(bus, range(20))
    epoch = {"statscache.consumer.epoch": dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)}
    config = {**bus.config, "statscache.consumer.epoch": epoch["statscache.consumer.epoch"].isoformat()}
    with Numbers(sqlite_url) as numbers, hub_process(tmp_path / "hub", sqlite_url, config, **DURABLE) as hub:
        hub.wait_ready()
        check(bus, numbers, 20)
        assert hub.stop() == 0


def test_history_here_has_what_was_missed(database_url: str, tmp_path: Path) -> None:
    history = f"sqlite:///{tmp_path / 'history.db'}"
    with Feed() as feed, Numbers(database_url) as numbers, histories.opened(history):
        sent: list[dict[str, Any]] = []

        def say(count: int, *, is_sent: bool) -> None:
            for _ in range(count):
                made = {"topic": "org.fedoraproject.dev.shop.sold", "msg": {"n": len(sent)}, "i": 1,
                        "msg_id": f"2026-{len(sent)}", "timestamp": int(time.time())}  # fmt: skip
                sent.append({"topic": made["topic"], "body": made})
                models.add(sent[-1])
                if is_sent:
                    feed.publish(made)

        say(10, is_sent=False)
        for _ in range(2):
            say(5, is_sent=False)
            settings = {"datanommer.sqlalchemy.url": history, "statscache.consumer.epoch": "2026-01-01"}
            with hub_process(tmp_path / "hub", database_url, feed.config, **settings).wait_ready() as hub:
                feed.wait()
                numbers.wait_for(len(sent))
                say(10, is_sent=True)
                numbers.wait_for(len(sent))
                hub.popen.kill()
                hub.wait()
            feed.wait_until_gone()
        numbers.check(sent)
