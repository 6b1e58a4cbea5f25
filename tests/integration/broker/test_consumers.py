# SPDX-License-Identifier: LGPL-2.1-or-later
"""Consumers of a hub over RabbitMQ: queues that outlive the hub, acknowledgements, bindings."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.exceptions import UsageError
from fedmsg.hub import Hub
from fedmsg.testing import wait_until
from fedmsg.transport.amqp.consuming import ConsumerSource
from tests.hubs import ENABLED, Taker, taker
from tests.integration.broker.buses import PREFIX, BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")


def taken(consumer: Any) -> list[int]:
    """Return the numbers that a consumer has got."""
    return [msg["n"] for msg in consumer.said]


def wait_for(consumer: Any, count: int) -> list[int]:
    """Wait until a consumer has got so many messages; return their numbers."""
    wait_until(lambda: len(consumer.said) >= count, 30, what=lambda: f"{count}; {len(consumer.said)} came")
    return taken(consumer)


def unacked(bus: BrokerBus, queue: str) -> int:
    """Return how many messages of a queue are with consumers, and wait for those that have gone."""
    rows = {row["name"]: row for row in bus.node.api("GET", f"queues/{bus.vhost}?disable_stats=true")}
    return int(rows[queue].get("messages_unacknowledged", 0))


def test_consumer_has_a_durable_queue_and_goes_on_where_it_stopped(bus: BrokerBus) -> None:
    kind = taker(topic=f"{PREFIX}.m")
    with bus.hub(kind) as hub:
        bus.publish(range(500))
        assert wait_for(hub.consumers[0], 500) == list(range(500))
        assert "fedmsg.Made" in bus.queues()
        row = bus.node.api("GET", f"queues/{bus.vhost}/fedmsg.Made")
        assert (row["durable"], row["arguments"]["x-queue-type"]) == (True, "quorum")
    assert bus.count("fedmsg.Made") == 0
    bus.publish(range(500, 510))
    assert bus.count("fedmsg.Made") == 10
    with bus.hub(kind) as hub:
        assert wait_for(hub.consumers[0], 10) == list(range(500, 510))


def test_bindings_that_a_consumer_no_longer_has_are_removed(bus: BrokerBus) -> None:
    with bus.hub(taker(topic=[f"{PREFIX}.one.", f"{PREFIX}.two."])):
        assert bus.bindings("fedmsg.Made") == [f"{PREFIX}.one.#", f"{PREFIX}.two.#"]
    with bus.hub(taker(topic=[f"{PREFIX}.two.", f"{PREFIX}.three."])) as hub:
        assert bus.bindings("fedmsg.Made") == [f"{PREFIX}.three.#", f"{PREFIX}.two.#"]
        for number, name in enumerate(("one", "two", "three")):
            bus.publish([number], modname=name)
        assert wait_for(hub.consumers[0], 2) == [1, 2]
    with bus.hub(taker(topic=f"{PREFIX}.two.")):
        assert bus.bindings("fedmsg.Made") == [f"{PREFIX}.two.#"]


def test_message_is_acknowledged_when_consume_has_returned(bus: BrokerBus) -> None:
    going_on, begun = threading.Event(), threading.Event()

    def hold(self: Any, message: Any) -> None:
        begun.set()
        going_on.wait(60)
        Taker.consume(self, message)

    with bus.hub(taker(consume=hold)) as hub:
        bus.publish([1])
        assert begun.wait(30)
        assert hub.consumers[0].totals()["unacked"] == 1
        going_on.set()
        wait_until(lambda: hub.consumers[0].totals()["unacked"] == 0)
    assert bus.count("fedmsg.Made") == 0


def test_message_in_work_when_the_hub_dies_comes_again(bus: BrokerBus) -> None:
    """Its connection is closed in the middle of a message, as by a kill; a hub that is there already gets it."""
    going_on, begun = threading.Event(), threading.Event()

    def hold(self: Any, message: Any) -> None:
        begun.set()
        going_on.wait(60)

    with bus.hub(taker(consume=hold)):
        bus.publish([1])
        assert begun.wait(30)
        [name] = wait_until(lambda: bus.connections(":Made"), 30)
        with bus.hub(taker()) as other:
            bus.close_connection(name)
            try:
                assert wait_for(other.consumers[0], 1) == [1]
            finally:
                going_on.set()


def test_message_that_can_not_be_handled_becomes_a_dead_letter_and_is_acknowledged(
    bus: BrokerBus, tmp_path: Path
) -> None:
    def fail(self: Any, message: Any) -> None:
        raise RuntimeError("no")

    with bus.hub(taker(consume=fail), dead_letter_directory=str(tmp_path)) as hub:
        bus.publish(range(3))
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 3)
        wait_until(lambda: hub.consumers[0].totals()["unacked"] == 0)
    assert bus.count("fedmsg.Made") == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(len(path.read_text().splitlines()) for path in files) >= 3


def test_malformed_messages_are_rejected_and_acknowledged(bus: BrokerBus) -> None:
    nested: dict[str, Any] = {}
    for _ in range(3000):
        nested = {"a": nested}
    with bus.hub(taker()) as hub:
        import pika

        with bus.raw() as channel:
            for body, headers in (
                (b"no json", {}),
                (b"[" * 5000, {}),
                (b"{}", {"fedmsg-envelope": "[]"}),
                (b"{}", {"fedmsg-envelope": '{"topic":"other"}'}),
                (b"{}", {"fedmsg-envelope": 7}),
                (b"{}", {"fedmsg-envelope": '{"i":"x"}'}),
                (b'{},"x":1', {"fedmsg-envelope": "{}"}),
            ):
                properties = pika.BasicProperties(headers=headers)
                channel.basic_publish("amq.topic", f"{PREFIX}.m.t", body, properties)
        bus.publish([1])
        assert wait_for(hub.consumers[0], 1) == [1]
        wait_until(lambda: hub.consumers[0].totals()["rejected"] == 7)
        wait_until(lambda: hub.consumers[0].totals()["unacked"] == 0)
    assert bus.count("fedmsg.Made") == 0


def test_prefetch_bounds_what_is_in_memory(bus: BrokerBus) -> None:
    going_on = threading.Event()

    def hold(self: Any, message: Any) -> None:
        going_on.wait(60)
        Taker.consume(self, message)

    with bus.hub(taker(consume=hold), broker_prefetch=20) as hub:
        bus.publish(range(200))
        wait_until(lambda: hub.consumers[0].totals()["unacked"] == 20)
        assert hub.consumers[0].totals()["waiting"] <= 20
        assert bus.count("fedmsg.Made") == 180
        going_on.set()
        assert wait_for(hub.consumers[0], 200) == list(range(200))


def test_hubs_of_one_name_share_the_work(bus: BrokerBus) -> None:
    with bus.hub(taker(), broker_prefetch=10) as one, bus.hub(taker(), broker_prefetch=10) as two:
        bus.publish(range(400))
        both = [one.consumers[0], two.consumers[0]]
        wait_until(lambda: sum(len(each.said) for each in both) >= 400, 30)
        assert sorted([*taken(both[0]), *taken(both[1])]) == list(range(400))
        assert min(len(each.said) for each in both) > 0


def test_durable_consumer_keeps_the_order_and_a_second_hub_waits(bus: BrokerBus) -> None:
    kind = taker(durable="orders")
    with bus.hub(kind, broker_prefetch=10) as one, bus.hub(kind, broker_prefetch=10) as two:
        bus.publish(range(100))
        first = one.consumers[0]
        assert wait_for(first, 100) == list(range(100))
        assert two.consumers[0].said == []
        arguments = bus.node.api("GET", f"queues/{bus.vhost}/fedmsg.orders")["arguments"]
        assert arguments["x-single-active-consumer"] is True
        wait_until(lambda: first.totals()["unacked"] == 0)
        one.stop()
        bus.publish(range(100, 110))
        assert wait_for(two.consumers[0], 10) == list(range(100, 110))


def test_hub_publishes_through_the_broker(bus: BrokerBus) -> None:
    with bus.hub(taker(topic=f"{PREFIX}.back")) as hub:
        topic = f"{PREFIX}.back.t"
        assert hub.send_message(topic, {"topic": topic, "msg": {"n": 5}}) is None
        assert wait_for(hub.consumers[0], 1) == [5]


def test_place_to_begin_is_refused_with_a_reason(bus: BrokerBus) -> None:
    hub = Hub({**bus.config, **ENABLED}, [taker(durable=True)], [], begin={"after": 0})
    with pytest.raises(UsageError, match="a queue begins when it is made"):
        hub.start()


def test_queue_of_another_kind_ends_the_hub_with_what_to_do(bus: BrokerBus) -> None:
    with bus.raw() as channel:
        channel.queue_declare("fedmsg.Made", durable=True)
    hub = Hub({**bus.config, **ENABLED}, [taker()], []).start()
    wait_until(lambda: hub._readers.failure is not None)
    with pytest.raises(OSError, match=r"fedmsg\.Made.*with other properties.*remove it"):
        hub.stop()


def test_prefetch_follows_the_pace_of_the_consumer(bus: BrokerBus, caplog: pytest.LogCaptureFixture) -> None:
    rejections = RejectionLog(logging.getLogger("test"))
    source = ConsumerSource(bus.config, [""], "slow", is_ordered=False, rejections=rejections)
    with source:
        wait_until(lambda: source.totals()["connected"])
        # A minute for each: so many that all of them take less than five.
        source.pace(60.0)
        wait_until(lambda: [row["prefetch_count"] for row in bus.node.api("GET", f"consumers/{bus.vhost}")] == [5])
        bus.publish(range(50))
        wait_until(lambda: source.totals()["unacked"] == 5)
        assert bus.count("fedmsg.slow") == 45
        source.pace(0.001)
        wait_until(lambda: source.totals()["unacked"] == 50)
        source.pace(400.0)
        assert "takes 400 s for a message" in caplog.text
