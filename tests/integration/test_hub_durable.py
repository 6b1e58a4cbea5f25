# SPDX-License-Identifier: LGPL-2.1-or-later
"""Durable consumers: a hub that reads the stream of a relay, and acknowledges what is handled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.exceptions import ConfigError, NotConfirmed, PositionGone, UsageError
from fedmsg.hub import Hub
from fedmsg.stream import asking, protocol
from fedmsg.testing import HubRunner, wait_until
from tests.certificates import Bench
from tests.hubs import ENABLED, Taker, taker
from tests.stream_relays import Raw, StreamBus, body_of, running, sqlite_url

TOPIC = "org.fedoraproject.dev.m"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


@contextmanager
def hub_of(bus: StreamBus, *kinds: type, begin: Any = None, **settings: Any) -> Iterator[Hub]:
    """Run a hub with some consumers; new names begin with the first message."""
    config = {**bus.config, **ENABLED, **settings}
    hub = Hub(config, kinds, [], begin={"after": 0} if begin is None else begin)
    with hub:
        yield hub


def publish(bus: StreamBus, numbers: Iterable[int], topic: str = "t") -> list[int]:
    """Publish numbers, confirmed; return their positions."""
    with bus.confirming() as context:
        messages = [{"topic": topic, "modname": "m", "msg": {"n": number}} for number in numbers]
        return list(context.publish_many(messages))


def taken(consumer: Any) -> list[int]:
    """Return the numbers that a consumer has got."""
    return [msg["n"] for msg in consumer.said]


def wait_for(consumer: Any, numbers: Iterable[int]) -> None:
    """Wait until a consumer has got these numbers, and no others."""
    wanted = [*numbers]
    wait_until(lambda: len(taken(consumer)) >= len(wanted), what=lambda: f"{wanted}; there are {taken(consumer)}")
    assert taken(consumer) == wanted


def cursor(bus: StreamBus, name: str = "Made") -> int | None:
    """Return the cursor that the relay keeps for a name; None when it does not know it."""
    rows = asking.subscriptions(bus.config, bus.config["relay_stream"][0])
    return next((row["cursor"] for row in rows if row["name"] == name), None)


def wait_for_cursor(bus: StreamBus, position: int, name: str = "Made") -> None:
    """Wait until the relay has a cursor."""
    wait_until(lambda: cursor(bus, name) == position, what=lambda: f"the cursor {position}; it is {cursor(bus, name)}")


def dawdle(self: Any, message: Any) -> None:
    """Take a message, and time for it."""
    time.sleep(0.005)
    Taker.consume(self, message)


# ---------------------------------------------------------------- reading


def test_durable_consumer_reads_history_and_live_messages_and_goes_on_where_it_stopped(bus: StreamBus) -> None:
    kind = taker(durable=True)
    publish(bus, range(5))
    with hub_of(bus, kind) as hub:
        wait_for(hub.consumers[0], range(5))
        publish(bus, range(5, 10))
        wait_for(hub.consumers[0], range(10))
    assert cursor(bus) == 10
    publish(bus, range(10, 13))
    with hub_of(bus, kind) as hub:
        wait_for(hub.consumers[0], range(10, 13))


def test_durable_consumer_with_a_new_name_begins_with_new_messages(bus: StreamBus) -> None:
    publish(bus, range(5))
    with hub_of(bus, taker(durable=True), begin={}) as hub:
        wait_until(lambda: cursor(bus) == 5)
        publish(bus, range(5, 7))
        wait_for(hub.consumers[0], range(5, 7))


@pytest.mark.parametrize(
    ("member", "settings", "name"),
    [
        (True, {}, "Made"),
        ("orders", {}, "orders"),
        (False, {"test.enabled.durable": True}, "Made"),
        ("orders", {"test.enabled.durable": "bills"}, "bills"),
        ("orders", {"test.enabled.durable": None}, "orders"),
        ("orders", {"test.enabled.durable": False}, None),
    ],
)
def test_setting_of_a_consumer_wins_over_its_class(
    bus: StreamBus, member: Any, settings: dict[str, Any], name: str | None
) -> None:
    with hub_of(bus, taker(durable=member), begin={}, **settings) as hub:
        if name is None:
            assert hub.topics
        else:
            wait_until(lambda: cursor(bus, name) == 0)
            # It does not ask for live messages.
            assert hub.topics == {}


def test_durable_consumer_gets_nothing_by_the_endpoints(bus: StreamBus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plain = taker(name="Plain")
    endpoints = {**bus.config["endpoints"], "shop.web1": ["tcp://127.0.0.1:9"]}
    with hub_of(bus, taker(durable=True), taker(name="Other", durable="x"), plain, endpoints=endpoints) as hub:
        wait_until(lambda: publish(bus, [-1]) and hub.consumers[2].taken)
        count = publish(bus, range(20))[-1]
        wait_until(lambda: all(taken(consumer)[-1:] == [19] for consumer in hub.consumers))
        assert len(hub.consumers[0].taken) == len(hub.consumers[1].taken) == count
    (line,) = (record.getMessage() for record in caplog.records if "what comes by other endpoints" in record.msg)
    assert line.startswith("Made, x: durable, and read only what passes the relay")
    assert "(shop.web1)" in line


def test_hub_without_endpoints_runs_durable_consumers(bus: StreamBus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    publish(bus, range(3))
    with hub_of(bus, taker(durable=True), endpoints={}) as hub:
        wait_for(hub.consumers[0], range(3))
    assert not any("what comes by other endpoints" in record.msg for record in caplog.records)


@pytest.mark.parametrize(
    ("topics", "strict", "wanted"),
    [
        ("", False, {"one", "two", "one.more"}),
        (f"{TOPIC}.one", False, {"one", "one.more"}),
        ([f"{TOPIC}.one.*", f"{TOPIC}.two"], False, {"two", "one.more"}),
        (f"{TOPIC}.one", True, {"one"}),
    ],
)
def test_topics_of_a_durable_consumer_mean_what_they_mean_at_the_endpoints(
    bus: StreamBus, topics: Any, strict: bool, wanted: set[str]
) -> None:
    for word in ("one", "two", "one.more"):
        publish(bus, [1], word)
    with hub_of(bus, taker(durable=True, topic=topics), zmq_strict=strict) as hub:
        wait_for_cursor(bus, 3)
        assert {message["topic"].removeprefix(f"{TOPIC}.") for message in hub.consumers[0].taken} == wanted


def test_several_durable_consumers_of_a_hub_have_a_cursor_each(bus: StreamBus) -> None:
    release = threading.Event()

    def wait(self: Any, message: Any) -> None:
        release.wait(20)
        Taker.consume(self, message)

    publish(bus, range(10))
    with hub_of(bus, taker(name="Slow", durable=True, consume=wait), taker(name="Quick", durable=True)) as hub:
        wait_for(hub.consumers[1], range(10))
        wait_for_cursor(bus, 10, "Quick")
        assert cursor(bus, "Slow") == 0
        release.set()
        wait_for(hub.consumers[0], range(10))


def test_durable_consumer_that_is_slow_loses_nothing_whatever_its_queue(bus: StreamBus) -> None:
    kind = taker(durable=True, queue_limit=3, queue_policy="drop", consume=dawdle)
    publish(bus, range(500))
    with hub_of(bus, kind, consumer_queue_policy="drop") as hub:
        wait_for(hub.consumers[0], range(500))
        assert hub.consumers[0].totals()["dropped"] == 0
        assert hub.consumers[0].incoming.received == 500


def test_durable_consumer_in_blocking_mode_takes_one_at_a_time(bus: StreamBus) -> None:
    publish(bus, range(50))
    most: list[int] = []

    def look(self: Any, message: Any) -> None:
        most.append(self.incoming.unfinished)
        Taker.consume(self, message)

    with hub_of(bus, taker(durable=True, consume=look), **{"moksha.blocking_mode": True}) as hub:
        wait_for(hub.consumers[0], range(50))
    assert max(most) == 1


# ---------------------------------------------------------------- what moves the cursor


def test_what_is_not_valid_is_rejected_as_at_the_endpoints_and_does_not_hold_the_cursor(
    bus: StreamBus, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    keys = Bench(tmp_path / "keys")
    signing = {**keys.config, "sign_messages": True, "certnames": {"m": keys.config["certname"]}, "name": "m"}
    allowed = {f"{TOPIC}.closed": ["shop.of.another"]}
    publish(bus, [1])
    with bus.confirming(**signing) as context:
        for topic, msg in (("t", {"n": 2}), ("closed", {"n": 3}), ("t", {"n": 4, "x": "x" * 20_000}), ("t", {"n": 5})):
            context.publish(topic=topic, modname="m", msg=msg)
    with Raw(bus.confirmed) as client:
        client.greet()
        client.publish(6)
        assert client.receive().kind == protocol.OK
        client.send(protocol.PUB, b"7", {}, TOPIC.encode(), body_of(7))
        assert client.receive().kind == protocol.OK
    checking = {**keys.config, "validate_signatures": True, "routing_policy": allowed, "max_message_size": 16_384}
    with hub_of(bus, taker(durable=True), **checking) as hub:
        wait_for_cursor(bus, 7)
        assert taken(hub.consumers[0]) == [2, 5]
        # Without a signature, under a policy that forbids it, and under another topic than its own; one is too large.
        assert hub.consumers[0].totals()["rejected"] == 4
        assert sum(hub.rejections.counts.values()) == 5
        assert hub.rejections.counts["size"] == 1


def test_messages_that_the_filter_drops_do_not_hold_the_cursor(bus: StreamBus) -> None:
    kind = taker(durable=True, only={"where": ["msg.n>2"]})
    publish(bus, [1, 5, 2])
    with hub_of(bus, kind) as hub:
        wait_for_cursor(bus, 3)
        assert taken(hub.consumers[0]) == [5]


def test_message_is_not_acknowledged_before_those_before_it(bus: StreamBus) -> None:
    release = threading.Event()

    def wait_for_first(self: Any, message: Any) -> None:
        if message["body"]["msg"]["n"] == 0:
            release.wait(30)
        Taker.consume(self, message)

    publish(bus, range(20))
    kind = taker(durable=True, consume=wait_for_first)
    with hub_of(bus, kind, **{"moksha.workers_per_consumer": 4}) as hub:
        wait_until(lambda: len(hub.consumers[0].taken) == 19)
        publish(bus, [20])
        wait_until(lambda: len(hub.consumers[0].taken) == 20)
        assert cursor(bus) == 0
        outcome = hub.stop(1)
        assert len(outcome.stuck) == 1
    release.set()
    assert cursor(bus) == 0
    with hub_of(bus, taker(durable=True)) as hub:
        wait_for(hub.consumers[0], range(21))


def test_what_is_handled_is_acknowledged_before_the_hub_ends_and_the_rest_comes_again(bus: StreamBus) -> None:
    publish(bus, range(300))
    found: list[int] = []
    kind = taker(durable=True, consume=dawdle)
    for count in (5, 50, 300):
        with hub_of(bus, kind) as hub:
            consumer = hub.consumers[0]
            wait_until(lambda: len(found) + len(consumer.taken) >= count)  # noqa: B023 - called in this round
            start = time.monotonic()
            outcome = hub.stop()
            # What waits is left to the next start, and not handled on the way out.
            assert time.monotonic() - start < 4
        assert outcome.kept
        found += taken(consumer)
        assert found == list(range(len(found)))
        assert cursor(bus) == len(found)


@pytest.mark.parametrize("workers", [1, 4])
def test_dead_letters_do_not_hold_the_cursor(bus: StreamBus, tmp_path: Path, workers: int) -> None:
    def fail(self: Any, message: Any) -> None:
        if message["body"]["msg"]["n"] % 3 == 0:
            raise ValueError("not this one")
        Taker.consume(self, message)

    publish(bus, range(9))
    kind, folder = taker(durable=True, consume=fail), tmp_path / "dead"
    settings: dict[str, Any] = {
        "consume_retries": 1,
        "consume_retry_delay": 0.01,
        "moksha.workers_per_consumer": workers,
    }
    with hub_of(bus, kind, dead_letter_directory=str(folder), **settings) as hub:
        wait_for_cursor(bus, 9)
        assert sorted(taken(hub.consumers[0])) == [1, 2, 4, 5, 7, 8]
        assert hub.consumers[0].totals()["dead"] == 3
    (path,) = folder.rglob("*.jsonl")
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("place", ["none", "not a folder"])
def test_message_that_fails_is_tried_until_it_is_handled_where_no_dead_letter_can_be_kept(
    bus: StreamBus, tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    failures = 4

    def fail(self: Any, message: Any) -> None:
        nonlocal failures
        if message["body"]["msg"]["n"] == 1 and failures:
            failures -= 1
            assert cursor(bus) in {0, 1}
            raise ValueError("not yet")
        Taker.consume(self, message)

    publish(bus, range(3))
    (tmp_path / "file").touch()
    settings: dict[str, Any] = {"consume_retry_delay": 0.05}
    if place != "none":
        settings["dead_letter_directory"] = str(tmp_path / "file")
    with hub_of(bus, taker(durable=True, consume=fail), **settings) as hub:
        wait_for(hub.consumers[0], range(3))
        wait_for_cursor(bus, 3)
        totals = hub.consumers[0].totals()
    assert (totals["handled"], totals["failed"], totals["retried"]) == (3, 0, 4)
    (line,) = (record.getMessage() for record in caplog.records if "no file of dead letters" in record.msg)
    assert "at position 2" in line


def test_message_that_fails_comes_again_after_a_stop_and_nothing_overtakes_it(bus: StreamBus) -> None:
    def fail(self: Any, message: Any) -> None:
        if message["body"]["msg"]["n"] == 1:
            raise ValueError("never")
        Taker.consume(self, message)

    publish(bus, range(4))
    with hub_of(bus, taker(durable=True, consume=fail), consume_retry_delay=20) as hub:
        wait_until(lambda: hub.consumers[0].totals()["handled"] == 1 and hub.consumers[0]._exception_count)
        assert hub.stop(3).kept
        assert taken(hub.consumers[0]) == [0]
    with hub_of(bus, taker(durable=True)) as hub:
        wait_for(hub.consumers[0], [1, 2, 3])


def test_consume_many_acknowledges_its_batch_and_what_it_raises_sends_it_through_consume(bus: StreamBus) -> None:
    def store(self: Any, messages: list[Any]) -> None:
        self.sizes.append(len(messages))
        if len(self.sizes) % 2:
            raise ValueError("all of them")
        self.taken += messages

    publish(bus, range(2000))
    with hub_of(bus, taker(durable=True, consume_many=store, sizes=[])) as hub:
        wait_until(lambda: cursor(bus) == 2000)
        assert taken(hub.consumers[0]) == list(range(2000))
        assert max(hub.consumers[0].sizes) > 1


# ---------------------------------------------------------------- beside it


def test_counts_of_a_durable_consumer_are_in_report_and_metrics(bus: StreamBus) -> None:
    release = threading.Event()

    def wait(self: Any, message: Any) -> None:
        release.wait(20)
        Taker.consume(self, message)

    publish(bus, range(7))
    with hub_of(bus, taker(durable=True, consume=wait)) as hub:
        wait_until(lambda: hub.consumers[0].totals()["lag"] == 7)
        assert hub.consumers[0].totals()["position"] == 0
        release.set()
        wait_until(lambda: hub.consumers[0].totals()["lag"] == 0)
        totals = hub.report()["consumers"][0]["totals"]
        assert (totals["position"], totals["lag"], totals["connected"], totals["connections"]) == (7, 0, 1, 1)
        assert totals["lost"] == totals["gaps"] == totals["duplicates"] == 0
        samples = {sample.name: sample for sample in hub.metrics()}
        assert samples["consumer_position"].value == 7
        assert not samples["consumer_lag"].grows
        assert samples["consumer_lost"].grows


def test_durable_consumer_has_no_status_file_and_asks_for_no_replay(
    bus: StreamBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    publish(bus, range(3))
    kind = taker(durable=True, replay_name="relay_outbound")
    replay = {"relay_outbound": "tcp://127.0.0.1:9"}
    with hub_of(bus, kind, status_directory=str(tmp_path / "status"), replay_endpoints=replay) as hub:
        wait_for(hub.consumers[0], range(3))
        assert hub.consumers[0].status_filename is None
    assert not list(tmp_path.glob("status/**/Made*"))
    assert sum("are not used for it" in record.msg for record in caplog.records) == 1


def test_consumer_waits_for_a_relay_that_is_not_there_yet(tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus, hub_of(bus, taker(durable=True)) as hub:
        assert hub.consumers[0].totals()["connected"] == 0
        bus.start_relay()
        publish(bus, range(3))
        wait_for(hub.consumers[0], range(3))


# ---------------------------------------------------------------- what can't be


@pytest.mark.parametrize(
    ("member", "settings", "words"),
    [
        (5, {}, "test.enabled.durable is 5: it is no name; write True, False or a short name"),
        ("", {}, "test.enabled.durable is ''"),
        (True, {"test.enabled.durable": "a\nb"}, "test.enabled.durable is 'a\\\\nb': it is no name"),
        (True, {"test.enabled.durable": "é" * 200}, "has more than 255 bytes"),
        (True, {"relay_stream": []}, "relay_stream has no address, and Made is durable"),
        (True, {"relay_stream": ["nowhere"]}, "relay_stream"),
    ],
)
def test_hub_with_a_durable_consumer_that_can_not_be_does_not_start(
    bus: StreamBus, member: Any, settings: dict[str, Any], words: str
) -> None:
    hub = Hub({**bus.config, **ENABLED, **settings}, [taker(durable=member)], [])
    with pytest.raises(ConfigError, match=words):
        hub.start()
    assert not hub.running


def test_two_consumers_of_a_hub_can_not_have_one_name(bus: StreamBus) -> None:
    hub = Hub({**bus.config, **ENABLED}, [taker(durable=True), taker(durable=True)], [])
    with pytest.raises(ConfigError, match=r"are both durable as 'Made': set test\.enabled\.durable to another name"):
        hub.start()


@pytest.mark.parametrize("method", ["_consume", "_do_work"])
def test_consumer_with_a_way_of_its_own_to_take_messages_can_not_be_durable(bus: StreamBus, method: str) -> None:
    def own(self: Any, message: Any) -> None:
        raise NotImplementedError

    members: dict[str, Callable[..., Any]] = {method: own}
    hub = Hub({**bus.config, **ENABLED}, [taker(durable=True, **members)], [])
    with pytest.raises(ConfigError, match=rf"has a {method}\(\) of its own"):
        hub.start()


def test_place_to_begin_without_a_durable_consumer_is_an_error(bus: StreamBus) -> None:
    with pytest.raises(UsageError, match="none of this hub is durable"), hub_of(bus, taker()):
        pass


def test_hub_ends_when_there_is_no_such_place_to_begin(bus: StreamBus, caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub({**bus.config, **ENABLED}, [taker(durable=True)], [], begin={"after": 17})
    with pytest.raises(PositionGone), hub:
        wait_until(lambda: not hub.running)
    assert any("Made can't read as Made, so the hub ends" in line.getMessage() for line in caplog.records)


# ---------------------------------------------------------------- publishing


def test_message_of_a_consumer_is_confirmed(bus: StreamBus) -> None:
    def answer(self: Any, message: Any) -> None:
        number = message["body"]["msg"]["n"]
        topic = f"{TOPIC}.answer"
        made = {"topic": topic, "msg": {"n": number + 100}, "msg_id": f"2026-{number}"}
        self.taken.append(self.send_message(topic, made, confirm=True))

    publish(bus, range(3))
    with hub_of(bus, taker(durable=True, topic=f"{TOPIC}.t", consume=answer)) as hub:
        wait_until(lambda: len(hub.consumers[0].taken) == 3)
        # Doubled by a second run, it would have its first position.
        assert hub.consumers[0].taken == [4, 5, 6]
        assert hub.send_message(f"{TOPIC}.t2", {"topic": f"{TOPIC}.t2", "msg": {"n": 1}}, confirm=True) == 7
    assert bus.numbers() == [0, 1, 2, 100, 101, 102, 1]


def test_setting_confirms_what_the_hub_publishes(bus: StreamBus) -> None:
    with hub_of(bus, taker(), begin={}, publish_confirm=True, timeout=1) as hub:
        topics = [f"{TOPIC}.a", f"{TOPIC}.b"]
        for number, topic in enumerate(topics, 1):
            assert hub.send_message(topic, {"topic": topic, "msg": {}}) == number
        bus.kill_relay()
        with pytest.raises(NotConfirmed):
            hub.send_message(topics[0], {"topic": topics[0], "msg": {"n": 2}})
    assert len(bus.entries()) == 2


def test_dead_letters_of_a_durable_consumer_are_tried_again_before_the_stream(bus: StreamBus, tmp_path: Path) -> None:
    def fail(self: Any, message: Any) -> None:
        raise ValueError("not yet")

    publish(bus, [0])
    settings = {"dead_letter_directory": str(tmp_path / "dead")}
    with hub_of(bus, taker(durable=True, consume=fail, __module__="shop"), **settings):
        wait_for_cursor(bus, 1)
    publish(bus, [1])
    hub = Hub(
        {**bus.config, **ENABLED, **settings}, [taker(durable=True, __module__="shop")], [], retry_dead_letters=True
    )
    with hub:
        wait_for(hub.consumers[0], [0, 1])
        wait_for_cursor(bus, 2)
    assert not list((tmp_path / "dead").rglob("*.jsonl*"))


def test_durable_consumer_in_a_runner_for_tests_gets_what_the_test_publishes() -> None:
    kind = taker(durable=True, topic=TOPIC)
    with HubRunner(kind, config={"test.enabled.durable": "other"}) as runner:
        runner.publish(f"{TOPIC}.t", {"n": 1})
        runner.wait_until_handled()
        assert taken(runner.consumer) == [1]
