# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counting what was missed: by new plugins from the stream, from a datagrepper that fails, whatever is killed when."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fedmsg.datanommer import models
from fedmsg.testing import wait_until
from tests.datagrepper_server import DatagrepperServer
from tests.hubs import PREFIX, Feed, install
from tests.postgres import Cluster
from tests.satellites import histories
from tests.satellites.numbers import Numbers, as_received, hub_process, message, recount
from tests.stream_relays import StreamBus, publish, running, sqlite_url

DURABLE = {"statscache.consumer.durable": True}
FULL = os.environ.get("FEDMSG_SOAK") == "1"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


def check(bus: StreamBus, numbers: Numbers) -> None:
    """Wait until the numbers are those of a recount of the stream."""
    everything = len(bus.entries())
    wait_until(lambda: numbers.total() >= everything, 120, what=lambda: f"{everything}; {numbers.total()}")
    numbers.check(as_received(entry.body for entry in bus.entries()))


def test_new_plugin_counts_what_the_stream_has(bus: StreamBus, database_url: str, tmp_path: Path) -> None:
    begin = {**bus.config, "statscache.consumer.epoch": int(time.time()) - 3600, **DURABLE}
    publish(bus, range(30))
    with Numbers(database_url) as numbers:
        with hub_process(tmp_path / "hub", database_url, begin).wait_ready() as hub:
            check(bus, numbers)
            assert hub.stop() == 0
        publish(bus, range(30, 40))
        install(tmp_path / "hub", "others", {}, {"statscache.plugin": ["edits = tests.satellites.numbers:Edits"]})
        with hub_process(tmp_path / "hub", database_url, begin).wait_ready() as hub:
            publish(bus, range(40, 50))
            check(bus, numbers)
            # The greetings of publishers have no number, and it can't count them.
            sent = [one for one in as_received(entry.body for entry in bus.entries()) if "n" in one["body"]["msg"]]
            wait_until(lambda: numbers.total("edits") >= len(sent), 60)
            assert hub.stop() == 0
        assert numbers.read("edits") == recount(sent, 3600, by_category=True)


def test_datagrepper_that_fails_is_asked_again(sqlite_url: str, tmp_path: Path) -> None:
    now = int(time.time())

    def envelope(number: int, when: int) -> dict[str, Any]:
        topic = f"org.fedoraproject.dev.shop{number % 3}.sold"
        return {"topic": topic, "msg": {"n": number}, "msg_id": f"2026-{number}", "i": 1, "timestamp": when}

    past = [envelope(number, now - 5000 + number) for number in range(250)]
    failing = {2, 3, 5}

    def fail(handler: Any, _query: Any, number: int) -> bool:
        # A page that is broken off, an error, an answer that is none.
        if number not in failing:
            return False
        handler.answer(*((500, {}), (200, b"<html>"), (200, {"raw_messages": None}))[number % 3])
        return True

    config = {"statscache.consumer.epoch": now - 10_000}
    with DatagrepperServer(past, fail) as server, Feed(**config) as feed, Numbers(sqlite_url) as numbers:
        endpoint = {"statscache.datagrepper.endpoint": server.url}
        with hub_process(tmp_path / "hub", sqlite_url, feed.config, **endpoint).wait_ready() as hub:
            feed.wait()
            # Live ones come meanwhile, and some of them are in the history too.
            live = [envelope(number, now - 5000 + number) for number in range(240, 260)]
            feed.publish(*live)
            numbers.wait_for(260)
            assert hub.stop() == 0
        numbers.check({"body": one} for one in past + live)
        assert failing < set(range(1, len(server.asked) + 1))


@pytest.mark.parametrize("recheck", [0.5, 0], ids=["looks again", "control"])
def test_message_that_the_history_gets_late_is_counted(recheck: float, sqlite_url: str, tmp_path: Path) -> None:
    history = f"sqlite:///{tmp_path / 'history.db'}"
    more = {"datanommer.sqlalchemy.url": history, "statscache.consumer.recheck": recheck}
    now = int(time.time())

    def envelope(number: int, age: float) -> dict[str, Any]:
        topic = f"org.fedoraproject.dev.shop{number % 3}.sold"
        return {"topic": topic, "msg": {"n": number}, "msg_id": f"2026-{number}", "i": 1, "timestamp": now - age}

    def store(*messages: dict[str, Any]) -> None:
        models.add_many([{"topic": one["topic"], "body": one} for one in messages])

    epoch = {"statscache.consumer.epoch": now - 7200}
    with Feed(**epoch) as feed, Numbers(sqlite_url) as numbers, histories.opened(history):
        sent = [envelope(number, 3000 - number) for number in range(20)]
        store(*sent)
        with hub_process(tmp_path / "hub", sqlite_url, feed.config, **more).wait_ready() as hub:
            # What comes live is counted after the history was read.
            feed.wait()
            live = [envelope(number, 0) for number in range(20, 25)]
            feed.publish(*live)
            numbers.wait_for(25)
            late = [envelope(number, 10) for number in range(25, 30)]
            store(*late, *live)
            if recheck:
                numbers.wait_for(30)
            else:
                feed.publish(envelope(99, 0))
                numbers.wait_for(26)
            assert hub.stop() == 0
        if recheck:
            numbers.check({"body": one} for one in sent + live + late)


@pytest.mark.parametrize("has_history", [True, False], ids=["history", "control"])
def test_plugin_counts_again_what_it_lost_with_the_database(has_history: bool, tmp_path: Path) -> None:
    history, folder = f"sqlite:///{tmp_path / 'history.db'}", tmp_path / "hub"
    hour = int(time.time()) // 3600 * 3600
    install(folder, "others", {}, {"statscache.plugin": ["edits = tests.satellites.numbers:HoldingEdits"]})
    more = {"datanommer.sqlalchemy.url": history, "statscache.consumer.recheck": 0} if has_history else {}
    sent: list[dict[str, Any]] = []
    with Cluster(durable=True) as cluster, Feed(**more) as feed, histories.opened(history):
        url = cluster.create()

        def say(count: int, hours_ago: int) -> None:
            made = [
                message(len(sent) + number, hour - 3600 * hours_ago + number, topic=f"{PREFIX}.shop.sold")["body"]
                for number in range(count)
            ]
            sent.extend(made)
            models.add_many([{"topic": one["topic"], "body": one} for one in made])
            feed.publish(*made)

        with Numbers(url) as numbers, hub_process(folder, url, feed.config).wait_ready() as hub:
            feed.wait()
            for hours_ago in (5, 4, 3):
                say(5, hours_ago)
                numbers.wait_for(len(sent))
            # The last hour is in memory, and lost when the next transaction fails.
            assert numbers.total("edits") == 10
            cluster.kill()
            say(2, 3)
            hub.wait_for("can't be written", 60)
            cluster.start_again()
            numbers.wait_for(len(sent))
            say(1, 2)
            numbers.wait_for(len(sent))
            wait_until(lambda: numbers.total("edits") >= (17 if has_history else 12), 60)
            assert hub.stop() == 0
            found = numbers.read("edits")
            wanted = recount(({"body": one} for one in sent[:-1]), 3600, by_category=True)
            assert (found == wanted) is has_history
            numbers.check({"body": one} for one in sent)


@settings(
    max_examples=25 if FULL else 1,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["kill", "stop", "relay"]), st.integers(0, 60)), min_size=4, max_size=4)
)
def test_any_order_of_kills_has_the_numbers_of_a_recount(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("kills")
    url, sent = sqlite_url(folder, "numbers.db"), 0
    with running(StreamBus(sqlite_url(folder))) as bus, Numbers(url) as numbers:
        config = {**bus.config, "statscache.consumer.epoch": int(time.time()) - 3600, **DURABLE}
        for step, count in steps:
            with hub_process(folder / "hub", url, config).wait_ready() as hub:
                publish(bus, range(sent, sent + count))
                goal, sent = numbers.total() + count // 2, sent + count
                wait_until(lambda: numbers.total() >= goal, 60)  # noqa: B023 - called in this round
                if step == "relay":
                    bus.kill_relay()
                    bus.start_relay()
                if step != "stop":
                    hub.popen.kill()
                    hub.wait()
                else:
                    assert hub.stop() == 0
        with hub_process(folder / "hub", url, config).wait_ready() as hub:
            check(bus, numbers)
            assert hub.stop() == 0
