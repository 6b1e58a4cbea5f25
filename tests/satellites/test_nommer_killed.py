# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hubs that store, as processes: hub, relay and database are killed under load; nothing is lost, nothing is doubled."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fedmsg.testing import wait_until
from tests.hubs import Feed
from tests.postgres import Cluster
from tests.satellites.killing import kill_database, kill_hubs
from tests.satellites.nommers import Stored, hub_process
from tests.satellites.test_nommer_replay import Street
from tests.stream_relays import Flow, StreamBus, publish, running, sqlite_url

DURABLE = {"datanommer.durable": True}

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


def check(bus: StreamBus, stored: Stored, confirmed: dict[int, int]) -> None:
    """Wait until everything is stored, and check that it is stored in order, each message once."""
    wanted = bus.numbers()
    wait_until(lambda: stored.count() >= len(wanted), 120, what=lambda: f"{len(wanted)}; there are {stored.count()}")
    assert stored.numbers() == wanted
    assert set(confirmed) <= set(wanted)


def test_hub_is_killed(bus: StreamBus, database_url: str, tmp_path: Path, full_size: bool) -> None:
    start = partial(hub_process, tmp_path / "hub", database_url, bus.config, "--first", **DURABLE)
    with Stored(database_url) as stored:
        with Flow(bus, window=5, timeout=20) as flow:
            flow.wait_for(1)
            kill_hubs(start, stored.count, 100 if full_size else 2)
        with start().wait_ready() as hub:
            check(bus, stored, flow.confirmed)
            assert hub.stop() == 0


def test_relay_is_killed(bus: StreamBus, sqlite_url: str, tmp_path: Path, full_size: bool) -> None:
    with (
        Stored(sqlite_url) as stored,
        hub_process(tmp_path / "hub", sqlite_url, bus.config, "--first", **DURABLE).wait_ready() as hub,
        Flow(bus, window=5, timeout=20) as flow,
    ):
        for _ in range(100 if full_size else 2):
            flow.wait_for(20)
            bus.kill_relay()
            bus.start_relay()
        flow.wait_for(20)
        goal = max(flow.confirmed)
        wait_until(lambda: goal in stored.numbers(), 60)
        assert hub.popen.poll() is None
    with hub_process(tmp_path / "hub", sqlite_url, bus.config, **DURABLE).wait_ready() as hub:
        check(bus, stored, flow.confirmed)
        assert hub.stop() == 0


def test_database_is_killed(bus: StreamBus, tmp_path: Path, full_size: bool) -> None:
    with Cluster(durable=True) as cluster:
        url = cluster.create()
        with (
            Stored(url) as stored,
            hub_process(tmp_path / "hub", url, bus.config, "--first", **DURABLE).wait_ready() as hub,
        ):
            with Flow(bus, window=5, timeout=20) as flow:
                kill_database(cluster, flow, stored.count, 100 if full_size else 2)
            check(bus, stored, flow.confirmed)
            assert hub.stop() == 0


def test_database_is_away_when_the_hub_starts(tmp_path: Path, full_size: bool) -> None:
    with Cluster() as cluster, Feed() as feed:
        url = cluster.create()
        cluster.kill()
        with hub_process(tmp_path / "hub", url, feed.config, state_directory=str(tmp_path)).wait_ready() as hub:
            feed.wait()
            feed.send("test", {"n": 0})
            hub.wait_for("waits, and tries again")
            cluster.start_again()
            with Stored(url) as stored:
                stored.wait_for([0])
            assert hub.stop() == 0


def test_disk_is_full_while_messages_wait(tmp_path: Path) -> None:
    settings = {"state_directory": str(tmp_path / "state"), "consumer_queue_limit": 100}
    with Cluster() as cluster, Feed() as feed:
        url = cluster.create()
        cluster.kill()
        with hub_process(tmp_path / "hub", url, feed.config, **settings).wait_ready() as hub:
            feed.wait()
            _, hard = resource.prlimit(hub.popen.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(hub.popen.pid, resource.RLIMIT_FSIZE, (20_000, hard))
            for number in range(3000):
                feed.send("test", {"n": number})
            hub.wait_for("what waits can't be written")
            resource.prlimit(hub.popen.pid, resource.RLIMIT_FSIZE, (hard, hard))
            cluster.start_again()
            with Stored(url) as stored:
                stored.wait_for(range(3000), 60)
            assert hub.stop() == 0
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []


def test_hub_without_a_stream_is_killed(database_url: str, tmp_path: Path, full_size: bool) -> None:
    with Street.running() as street, Stored(database_url) as stored:
        number = 0
        for _ in range(100 if full_size else 2):
            with hub_process(tmp_path / "hub", database_url, street.config).wait_ready() as hub:
                street.wait()
                goal = number + 300
                street.say("shop", *range(number, goal))
                number = goal
                wait_until(lambda: stored.count() >= number - 200, 60)  # noqa: B023 - called in this round
                hub.popen.kill()
                hub.wait()
            street.say("shop", *range(number, number + 50), is_sent=False)
            number += 50
        with hub_process(tmp_path / "hub", database_url, street.config).wait_ready() as hub:
            stored.wait_for(range(number), 60)
            assert hub.stop() == 0


def test_message_that_is_sent_twice_is_stored_once(bus: StreamBus, sqlite_url: str, tmp_path: Path) -> None:
    with Feed() as feed, Stored(sqlite_url) as stored:
        with hub_process(tmp_path / "hub", sqlite_url, feed.config).wait_ready() as hub:
            feed.wait()
            message = feed.send("test", {"n": 1})
            feed.publish(message, message)
            feed.send("test", {"n": 2})
            stored.wait_for([1, 2])
            assert hub.stop() == 0
        # The same by the stream, into which it was published with all that it has.
        with bus.confirming() as context:
            context.republish(message)
        publish(bus, [3])
        with hub_process(tmp_path / "hub", sqlite_url, bus.config, "--first", **DURABLE).wait_ready() as hub:
            stored.wait_for([1, 2, 3])
            assert hub.stop() == 0
