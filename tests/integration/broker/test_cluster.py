# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three nodes of RabbitMQ as a cluster, of which one is killed and comes back under load; at full size another too."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from fedmsg.exceptions import NotConfirmed
from fedmsg.testing import wait_until
from tests import requirements
from tests.brokers import RabbitMQ
from tests.hubs import taker
from tests.integration.broker.buses import PREFIX, BrokerBus

# A group of its own: beside the tests with a single node.
pytestmark = pytest.mark.xdist_group("rabbitmq-cluster")

# Messages per second, and for how long.
SHORT, FULL = (300, 2.0), (1000, 120.0)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RabbitMQ]]:
    """Return three nodes, a cluster."""
    with ExitStack() as stack:
        try:
            first = RabbitMQ()
        except FileNotFoundError as error:
            requirements.is_missing(str(error))
        stack.enter_context(first)
        with ThreadPoolExecutor(2) as pool:
            others = [stack.enter_context(made) for made in pool.map(lambda _: RabbitMQ(first=first), range(2))]
        yield [first, *others]


@pytest.fixture
def cluster(nodes: list[RabbitMQ]) -> list[RabbitMQ]:
    """Return three nodes that are there."""
    for node in nodes:
        if not node.is_running:
            node.restart()
    return nodes


def bus_of(cluster: list[RabbitMQ], **settings: Any) -> BrokerBus:
    """Return the bus of a cluster."""
    bus = BrokerBus(cluster[0], **settings)
    bus.config["broker_url"] = [node.url for node in cluster]
    return bus


class Load:
    """Publishes numbers at a pace, in a thread.

    Args:
        bus: Where it publishes.
        rate: How many per second.

    Attributes:
        confirmed: How many are confirmed: all numbers below.
        error: What has ended it.
    """

    def __init__(self, bus: BrokerBus, rate: int) -> None:
        self._rate = rate
        self.confirmed = 0
        self.error: BaseException | None = None
        self._bus = bus
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _messages(self) -> Iterator[dict[str, Any]]:
        start = time.monotonic()
        for number in itertools.count():
            if self._ended.is_set():
                return
            early = start + number / self._rate - time.monotonic()
            if early > 0:
                self._ended.wait(early)
            yield {"topic": "t", "modname": "m", "msg": {"n": number}}

    def _run(self) -> None:
        try:
            with self._bus.context(timeout=60, publish_window=500) as context:
                for _ in context.publish_many(self._messages()):
                    self.confirmed += 1
        except BaseException as error:  # noqa: BLE001 - raised by `stop`
            self.error = error

    def stop(self) -> int:
        """End it when all is confirmed; return how many were."""
        self._ended.set()
        self._thread.join(100)
        if self.error is not None:
            raise self.error
        return self.confirmed

    def wait(self, seconds: float) -> None:
        """Wait until so many more messages are confirmed as come in so many seconds."""
        wanted = self.confirmed + int(seconds * self._rate)
        wait_until(lambda: self.error or self.confirmed >= wanted, 100 + seconds)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_confirmed_and_not_delivered_is_none_when_nodes_are_killed(cluster: list[RabbitMQ], full_size: bool) -> None:
    rate, seconds = FULL if full_size else SHORT
    part = seconds / 4
    with bus_of(cluster).hub(taker()) as hub:
        consumer = hub.consumers[0]
        load = Load(bus_of(cluster), rate)
        try:
            load.wait(part)
            cluster[0].kill()
            load.wait(part)
            cluster[0].restart()
            load.wait(part)
            if full_size:
                # As an operator does before the next node is taken down.
                cluster[1].control("await_online_quorum_plus_one", tool="rabbitmq-upgrade")
                cluster[1].kill()
                load.wait(part)
        finally:
            confirmed = load.stop()
        wait_until(lambda: len({msg["n"] for msg in consumer.said}) >= confirmed, 100)
        got = [msg["n"] for msg in consumer.said]
        totals = consumer.totals()
    assert set(got) == set(range(confirmed))
    assert totals["connections"] > 1


def test_queue_without_quorum_is_one_line_that_says_what_to_do(
    cluster: list[RabbitMQ],
) -> None:
    bus = bus_of(cluster, timeout=60)
    with bus.hub(taker(name="Quorum", topic=f"{PREFIX}.q")) as hub:
        consumer = hub.consumers[0]
        bus.publish([1], modname="q")
        wait_until(lambda: [msg["n"] for msg in consumer.said] == [1], 60)
        cluster[1].kill()
        cluster[2].kill()
        with bus.context(timeout=2) as context, pytest.raises(NotConfirmed) as caught:
            context.publish("t", {"n": 2}, modname="q")
        assert caught.value.sent
        text = str(caught.value)
        assert "may have lost its quorum" in text
        assert "'rabbitmqctl cluster_status', and start the nodes that are down" in text
        assert "\n" not in text
        # Two of three are enough.
        cluster[1].restart()
        with bus.context() as context:
            context.publish("t", {"n": 3}, modname="q")
        wait_until(lambda: 3 in [msg["n"] for msg in consumer.said], 60)
