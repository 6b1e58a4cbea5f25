# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three nodes of RabbitMQ as a cluster, of which one is killed and comes back under load; at full size another too."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from fedmsg.testing import wait_until
from tests import requirements
from tests.brokers import RabbitMQ
from tests.hubs import taker
from tests.integration.broker.buses import BrokerBus

# Not in one worker with the single node: both are many processes.
pytestmark = pytest.mark.xdist_group("rabbitmq")

RATE = 1000
SHORT_S, FULL_S = 3.0, 120.0


@pytest.fixture
def cluster() -> Iterator[list[RabbitMQ]]:
    """Return three nodes."""
    with ExitStack() as stack:
        try:
            first = RabbitMQ()
        except FileNotFoundError as error:
            requirements.is_missing(str(error))
        stack.enter_context(first)
        with ThreadPoolExecutor(2) as pool:
            others = [stack.enter_context(made) for made in pool.map(lambda _: RabbitMQ(first=first), range(2))]
        members = first.control("cluster_status", "--formatter", "json")
        assert sorted(json.loads(members)["running_nodes"]) == sorted(one.node for one in [first, *others])
        yield [first, *others]


class Load:
    """Publishes numbers at a pace, in a thread.

    Attributes:
        confirmed: How many are confirmed: all numbers below.
        error: What has ended it.
    """

    def __init__(self, bus: BrokerBus) -> None:
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
            early = start + number / RATE - time.monotonic()
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
        wanted = self.confirmed + int(seconds * RATE)
        wait_until(lambda: self.error or self.confirmed >= wanted, 100 + seconds)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_confirmed_and_not_delivered_is_none_when_nodes_are_killed(cluster: list[RabbitMQ], full_size: bool) -> None:
    part = (FULL_S if full_size else SHORT_S) / 4
    bus = BrokerBus(cluster[0])
    bus.config["broker_url"] = [node.url for node in cluster]
    with bus.hub(taker()) as hub:
        consumer = hub.consumers[0]
        load = Load(bus)
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
