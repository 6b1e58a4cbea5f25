# SPDX-License-Identifier: LGPL-2.1-or-later
"""Producers in a hub, and what consumers and producers publish through it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import zmq

from fedmsg.exceptions import AddressInUse, ConfigError, MessageError
from fedmsg.hub import Hub, PollingProducer, Producer
from fedmsg.hub.producer import MonitoringProducer, runner_of
from fedmsg.testing import free_address, wait_until
from tests.hubs import PREFIX, Feed, Taker, taker


class Ticker(PollingProducer):
    """Notes when it was polled, and does what a test says."""

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.polls: list[float] = []
        self.threads: set[str] = set()

    def poll(self) -> None:
        """Note it."""
        self.polls.append(time.monotonic())
        self.threads.add(threading.current_thread().name)
        self.work()

    def work(self) -> None:
        """Do nothing."""


def ticker(**members: Any) -> type[Ticker]:
    """Make a class of producers."""
    return type("Made", (Ticker,), members)


def own(hub: Hub) -> Any:
    """Give the one producer of a hub that is not its own."""
    (one,) = [producer for producer in hub.producers if not isinstance(producer, MonitoringProducer)]
    return one


# ---------------------------------------------------------------- when they are polled


@pytest.mark.parametrize("frequency", [0.01, timedelta(milliseconds=10), None, 0])
def test_it_is_polled_again_and_again(frequency: Any) -> None:
    with Hub({}, [], [ticker(frequency=frequency)]) as hub:
        producer = own(hub)
        wait_until(lambda: len(producer.polls) >= 5)
        assert producer.threads == {"fedmsg-Made"}
    ended = len(producer.polls)
    if frequency:
        assert min(after - before for before, after in zip(producer.polls, producer.polls[1:])) >= 0.009  # noqa: B905
    wait_until(lambda: not any(thread.name == "fedmsg-Made" for thread in threading.enumerate()))
    assert len(producer.polls) == ended


def test_the_first_comes_after_the_pause_or_now() -> None:
    with Hub({}, [], [ticker(frequency=3600), ticker(frequency=3600, now=True)]) as hub:
        later, now = hub.producers[:2]
        wait_until(lambda: now.polls)
        assert later.polls == []
        assert len(now.polls) == 1


def test_one_that_dies_is_polled_no_more() -> None:
    def work(self: Ticker) -> None:
        self.die = len(self.polls) == 3

    with Hub({}, [], [ticker(work=work)]) as hub:
        producer = own(hub)
        wait_until(lambda: producer.die)
        thread = vars(runner_of(producer))["_thread"]
        wait_until(lambda: not thread.alive)
        assert len(producer.polls) == 3


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), GeneratorExit(), MemoryError()])
def test_an_exception_is_logged_counted_and_the_next_poll_comes(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    go = threading.Event()

    def work(self: Any) -> None:
        if len(self.polls) <= 3:
            raise error
        go.wait(10)

    with Hub({}, [], [ticker(frequency=0.001, work=work)]) as hub:
        producer = own(hub)
        wait_until(lambda: len(producer.polls) == 4)
        row = producer.__json__()
        # Failures in a row.
        assert row["exceptions"] == 3
        go.set()
        wait_until(lambda: len(producer.polls) > 4)
        wait_until(lambda: producer.__json__()["exceptions"] == 0)
    assert caplog.text.count("Made failed in poll()") == 3


def test_one_that_always_fails_does_not_spin() -> None:
    def work(self: Ticker) -> None:
        raise ValueError("no")

    with Hub({}, [], [ticker(work=work)]) as hub:
        producer = own(hub)
        wait_until(lambda: len(producer.polls) >= 2)
        assert producer.polls[1] - producer.polls[0] >= 0.9


def test_its_row_says_how_it_is() -> None:
    with Hub({}, [], [ticker(frequency=timedelta(seconds=1.5)), ticker(frequency=0.001, now=True)]) as hub:
        slow, fast = hub.producers[:2]
        assert slow.__json__() == {
            "name": "Made", "module": Ticker.__module__, "initialized": True, "exceptions": 0,
            "frequency": 1.5, "now": False, "last_ran": None,
        }  # fmt: skip
        wait_until(lambda: fast.polls and fast.__json__()["last_ran"])
        row = fast.__json__()
        assert (row["frequency"], row["now"]) == (0.001, True)
        assert abs(row["last_ran"] - time.time()) < 60
        assert fast._last_ran == pytest.approx(row["last_ran"], abs=60)
        json.dumps(hub.report())


def test_a_plain_producer_is_kept_and_stopped() -> None:
    class Plain(Producer):
        stopped = False

        def stop(self) -> None:
            self.stopped = True

    with Hub({"k": 1}, [], [Plain]) as hub:
        producer = own(hub)
        assert producer.hub is hub
        assert producer.hub.config["k"] == 1
        assert callable(producer.log.info)
        assert producer.__json__() == {
            "name": "Plain", "module": __name__, "initialized": True, "exceptions": 0,
        }  # fmt: skip
        assert hub.num_producers == len(hub.producers)
    assert producer.stopped


# ---------------------------------------------------------------- publishing through the hub


class Listener:
    """A plain subscriber that reads both frames."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.subscribe(b"")
        self._socket.connect(address)

    def take(self, count: int) -> list[list[bytes]]:
        """Read so many messages."""
        taken = []
        for _ in range(count):
            assert self._socket.poll(10_000), "nothing arrived"
            taken.append(self._socket.recv_multipart())
        return taken

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def listener(address: str) -> Iterator[Listener]:
    made = Listener(address)
    yield made
    made.close()


@pytest.mark.parametrize("way", ["name", "setting", "text", "list"])
def test_messages_leave_at_the_address_of_the_hub(address: str, listener: Listener, way: str) -> None:
    ways: dict[str, dict[str, Any]] = {
        "name": {"name": "me.here", "endpoints": {"me.here": [address]}},
        "setting": {"zmq_publish_endpoints": address},
        "text": {"zmq_publish_endpoints": f" {address} , {free_address()}"},
        "list": {"zmq_publish_endpoints": [address]},
    }
    message = {"topic": "a.b", "msg": {"é": [1.5, None]}, "i": 1}
    with Hub({"post_init_sleep": 20, **ways[way]}, [], []) as hub:
        hub.send_message("a.b", message)
        hub.send_message(topic=["a.c", "a.d"], message={"n": 1})
        hub.send_message("a.e", '{"as": "it is"}', jsonify=False)
        assert listener.take(4) == [
            [b"a.b", b'{"i":1,"msg":{"\\u00e9":[1.5,null]},"topic":"a.b"}'],
            [b"a.c", b'{"n":1}'],
            [b"a.d", b'{"n":1}'],
            [b"a.e", b'{"as": "it is"}'],
        ]


def test_consumers_and_producers_have_a_short_way(address: str, listener: Listener) -> None:
    def consume(self: Taker, message: Any) -> None:
        self.send_message("from.consumer", message["body"])

    def work(self: Ticker) -> None:
        self.send_message("from.producer", {"n": len(self.polls)})
        self.die = True

    with Feed(zmq_publish_endpoints=address, post_init_sleep=20) as feed:
        with Hub(feed.config, [taker(consume=consume)], [ticker(work=work)]) as hub:
            feed.wait()
            sent = feed.send("shop")
            frames = {topic: json.loads(body) for topic, body in listener.take(2)}
        assert hub.num_consumers == 1
    assert frames == {b"from.consumer": sent, b"from.producer": {"n": 1}}


def test_many_threads_publish_at_once(address: str, listener: Listener) -> None:
    def publish(n: int) -> None:
        for i in range(100):
            hub.send_message(f"t.{n}", {"n": i})

    with Hub({"zmq_publish_endpoints": address, "post_init_sleep": 20}, [], []) as hub:
        threads = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        frames = listener.take(800)
        for thread in threads:
            thread.join()
    for n in range(8):
        assert [json.loads(body)["n"] for topic, body in frames if topic == f"t.{n}".encode()] == list(range(100))


def test_a_hub_without_an_address_says_so() -> None:
    with Hub({}, [], []) as hub, pytest.raises(ConfigError, match="no address to publish at"):
        hub.send_message("a.b", {})


def test_what_is_too_big_is_not_sent(address: str) -> None:
    with Hub({"zmq_publish_endpoints": address, "max_message_size": 100, "post_init_sleep": 0}, [], []) as hub:
        with pytest.raises(MessageError, match=r"more than max_message_size allows \(100\)"):
            hub.send_message("a.b", {"text": "x" * 100})
        with pytest.raises(MessageError, match="its topic has 5000 bytes"):
            hub.send_message("a" * 5000, {})
        with pytest.raises(MessageError, match="UTF-8"):
            hub.send_message("a.\ud800", {})


def test_a_full_queue_keeps_nobody_from_publishing(address: str, listener: Listener) -> None:
    go = threading.Event()

    def consume(self: Taker, message: Any) -> None:
        go.wait(30)

    settings = {"zmq_publish_endpoints": address, "post_init_sleep": 20, "consumer_queue_limit": 1}
    with Feed(**settings) as feed, Hub(feed.config, [taker(consume=consume)], []) as hub:
        feed.wait()
        for number in range(5000):
            feed.send("shop", number)
        wait_until(lambda: hub.consumers[0].incoming.full)
        for number in range(100):
            hub.send_message("a.b", {"n": number})
        assert [json.loads(body)["n"] for _, body in listener.take(100)] == list(range(100))
        assert hub.well()
        go.set()
        wait_until(lambda: hub.consumers[0].totals()["handled"] == 5000)


def test_an_address_that_is_taken_is_said(address: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.bind(address)
    with Hub({"zmq_publish_endpoints": address}, [], []) as hub, pytest.raises(AddressInUse, match=address):
        hub.send_message("a.b", {})
    context.destroy(linger=0)


def test_nothing_leaves_a_hub_that_has_stopped(address: str) -> None:
    hub = Hub({"zmq_publish_endpoints": address, "post_init_sleep": 0}, [], [])
    with hub:
        hub.send_message("a.b", {})
    with pytest.raises(ConfigError, match="has stopped"):
        hub.send_message("a.b", {})


def test_a_hub_may_bind_where_it_receives(address: str) -> None:
    settings = {"zmq_subscribe_endpoints": address, "zmq_subscribe_method": "bind", "test.enabled": True}
    with Hub(settings, [taker()], []) as hub:
        context = zmq.Context()
        socket = context.socket(zmq.XPUB)
        socket.connect(address)
        assert socket.poll(10_000)
        assert socket.recv() == b"\x01"
        topic = f"{PREFIX}.shop"
        socket.send_multipart([topic.encode(), json.dumps({"topic": topic, "msg": 1}).encode()])
        wait_until(lambda: hub.consumers[0].taken)
        context.destroy(linger=0)
        with pytest.raises(AddressInUse, match=address), Hub(settings, [taker()], []):
            pass
