# SPDX-License-Identifier: LGPL-2.1-or-later
"""A consumer that can't work for a while keeps its messages, and handles them when it can."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fedmsg.exceptions import Unavailable
from fedmsg.hub.hooks import Origin, Received
from fedmsg.testing import HubRunner, wait_until
from tests.hubs import taker


@pytest.mark.parametrize("many", [False, True])
def test_consumer_that_is_unavailable_is_called_again_with_the_same_messages(many: bool) -> None:
    tries: list[Any] = []

    def consume(self: Any, message: Any) -> None:
        tries.append(message)
        if len(tries) < 4:
            raise Unavailable("the database is away")
        self.taken += message if isinstance(message, list) else [message]

    kind = taker(consume=consume, **({"consume_many": consume} if many else {}))
    with HubRunner(kind) as hub:
        hub.publish("org.example.dev.shop.order", {"n": 1})
        hub.publish("org.example.dev.shop.order", {"n": 2})
        hub.wait_until_handled()
        consumer = hub.consumer
        wait_until(lambda: len(consumer.taken) == 2)
        assert consumer.said == [{"n": 1}, {"n": 2}]
        totals = consumer.totals()
    assert (totals["handled"], totals["failed"], totals["retried"]) == (2, 0, 0)
    assert hub.failures == []


def test_message_with_its_origin_is_a_dict_that_can_be_copied() -> None:
    message = Received("a", {"msg": {}}, Origin("stream", 7))
    for one in (copy.deepcopy(message), copy.copy(message)):
        assert (one, one.origin) == ({"topic": "a", "body": {"msg": {}}}, Origin("stream", 7))


def test_only_consumers_that_want_it_get_the_origin() -> None:
    wanting = taker(name="Wanting", wants_origin=True)
    with HubRunner(wanting, taker()) as hub:
        hub.publish("org.example.dev.shop.order", {"n": 1})
        hub.wait_until_handled()
        one, other = (consumer.taken[0] for consumer in hub.consumers)
    assert one.origin == Origin()
    assert (one, type(other)) == (other, dict)
