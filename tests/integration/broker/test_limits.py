# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is bounded: memory while many messages wait, messages that are too large, descriptors and threads."""

from __future__ import annotations

import gc
import logging
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pytest

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.testing import wait_until
from fedmsg.transport.amqp.consuming import ConsumerSource
from fedmsg.transport.amqp.source import BrokerSource
from tests.hubs import Taker, taker
from tests.integration.broker.buses import PREFIX, BrokerBus
from tests.open_files import descriptors, open_now

pytestmark = pytest.mark.xdist_group("rabbitmq")

WAITING, WAITING_FULL = 5_000, 100_000
BODY = b'{"text":"' + b"x" * 4096 + b'"}'
ROUNDS = 50


def fill(bus: BrokerBus, count: int, body: bytes = BODY) -> None:
    """Publish so many messages with the bare library; returns when the broker has them."""
    properties = pika.BasicProperties(delivery_mode=2, message_id="x")
    with bus.raw() as channel:
        for _ in range(count):
            channel.basic_publish("amq.topic", f"{PREFIX}.m.t", body, properties)
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", f"{PREFIX}.m.t", body, properties)


@contextmanager
def traced() -> Iterator[Any]:
    """Measure what this process allocates and keeps: the block gets what returns the most bytes so far."""
    gc.collect()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_consumer_with_many_messages_waiting_keeps_a_few_in_memory(bus: BrokerBus, full_size: bool) -> None:
    count = WAITING_FULL if full_size else WAITING
    going_on = threading.Event()

    def hold(self: Any, message: Any) -> None:
        going_on.wait(200)
        Taker.consume(self, message)

    with traced() as most, bus.hub(taker(consume=hold)) as hub:
        fill(bus, count)
        consumer = hub.consumers[0]
        wait_until(lambda: consumer.totals()["unacked"] == 100)
        wait_until(lambda: bus.count("fedmsg.Made") == count + 1 - 100, 60)
        assert consumer.totals()["waiting"] <= 100
        # All of them have 20 MB at the least.
        assert most() < 10_000_000
        going_on.set()


def test_listener_that_reads_nothing_keeps_a_few_in_memory(bus: BrokerBus) -> None:
    with traced() as most, BrokerSource(bus.config) as source:
        wait_until(lambda: source.connected)
        fill(bus, WAITING)
        [queue] = bus.queues()
        wait_until(lambda: source.statistics()["unacked"] == 1000)
        path = f"queues/{bus.vhost}/{queue}"
        wait_until(lambda: bus.node.api("GET", path).get("messages_ready") == WAITING + 1 - 1000, 30)
        assert most() < 15_000_000
        # The control: it takes all of them when it reads.
        taken = 0
        while taken < WAITING + 1:
            source.wait(30)
            taken += len(source.poll(500))


@pytest.mark.parametrize("topic", ["", PREFIX], ids=["listener", "prefix"])
def test_message_that_is_too_large_is_dropped_before_it_is_in_memory(bus: BrokerBus, topic: str) -> None:
    rejections = RejectionLog(logging.getLogger("test"))
    config = {**bus.config, "max_message_size": 100_000}
    with traced() as most, BrokerSource(config, [topic], rejections=rejections) as source:
        wait_until(lambda: source.connected)
        body = b'"' + b"x" * 20_000_000 + b'"'
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        program = threading.Thread(target=fill, args=(bus, 0, body))
        program.start()
        program.join()
        del body
        tracemalloc.reset_peak()
        wait_until(lambda: rejections.counts["size"] == 1, 30)
        assert most() - before < 5_000_000
        # It is acknowledged, and those after it arrive.
        bus.publish([1])
        source.wait(30)
        wait_until(lambda: [one.envelope()["msg"] for one in source.poll(10)] == [{"n": 1}], 30)
        wait_until(lambda: source.statistics()["unacked"] == 0)
        assert source.statistics()["connections"] == 1


@pytest.mark.parametrize("mark", [-5, "x", [1], True, 2**40], ids=["negative", "text", "list", "bool", "huge"])
def test_mark_of_a_message_that_is_too_large_may_be_forged(bus: BrokerBus, mark: Any) -> None:
    with bus.listening() as listener:
        with bus.raw() as channel:
            properties = pika.BasicProperties(headers={"fedmsg-oversized": mark})
            channel.basic_publish("amq.topic", f"{PREFIX}.m.t", b"", properties)
        bus.publish([1])
        assert [one[3]["msg"] for one in listener.wait(1)] == [{"n": 1}]


def test_nothing_is_left_open(bus: BrokerBus) -> None:
    def once() -> None:
        rejections = RejectionLog(logging.getLogger("test"))
        with (
            bus.context() as context,
            BrokerSource(bus.config, rejections=rejections) as source,
            ConsumerSource(bus.config, [""], "leaks", is_ordered=False, rejections=rejections) as reader,
        ):
            wait_until(lambda: source.connected and reader.connected)
            context.publish("t", {}, modname="m")

    once()
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    for _ in range(ROUNDS):
        once()
    gc.collect()
    wait_until(lambda: threading.active_count() <= threads)
    assert descriptors() <= before, open_now()
    wait_until(lambda: not bus.connections(), 30)
