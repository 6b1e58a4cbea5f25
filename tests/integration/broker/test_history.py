# SPDX-License-Identifier: LGPL-2.1-or-later
"""History and then live messages on a stream of RabbitMQ."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pytest

from fedmsg.exceptions import PositionGone
from fedmsg.testing import wait_until
from tests.integration.broker.buses import PREFIX, BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.fixture
def kept(bus: BrokerBus) -> BrokerBus:
    """Return a bus whose stream has the numbers 0 to 99."""
    with bus.raw() as channel:
        # As the first subscription makes it; that one waits for a message that may be in it.
        channel.queue_declare("fedmsg.stream", durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_bind("fedmsg.stream", "amq.topic", "#")
    bus.publish(range(100))
    return bus


@contextmanager
def reading(bus: BrokerBus, topic: str = "", **begin: Any) -> Iterator[Any]:
    """Subscribe, and wait until the subscription has begun."""
    with bus.context(mute=True) as context, context.subscribe(topic, **begin) as stream:
        if not begin:
            wait_until(lambda: stream.position is not None)
        yield stream


def take(stream: Any, count: int) -> list[tuple[int, int]]:
    """Read so many messages; return position and number of each."""
    found: list[tuple[int, int]] = []
    for _ in range(count):
        message = stream.read(30)
        assert message is not None, found
        found.append((message.position, message[3]["msg"]["n"]))
    return found


def pairs(first: int, last: int) -> list[tuple[int, int]]:
    """Return positions and numbers from one number to another."""
    return [(number + 1, number) for number in range(first, last)]


def test_subscription_without_a_place_has_new_messages_only(kept: BrokerBus) -> None:
    with reading(kept) as stream:
        assert (stream.position, stream.newest) == (100, 100)
        kept.publish([100, 101])
        assert take(stream, 2) == pairs(100, 102)


@pytest.mark.parametrize(
    ("begin", "first"),
    [({"after": 0}, 0), ({"after": "first"}, 0), ({"after": 60}, 60), ({"last": 7}, 93), ({"since": "1h"}, 0)],
    ids=["first", "word", "position", "last", "since"],
)
def test_history_comes_first_and_then_what_is_published(kept: BrokerBus, begin: dict[str, Any], first: int) -> None:
    with reading(kept, **begin) as stream:
        assert take(stream, 100 - first) == pairs(first, 100)
        kept.publish([100])
        assert take(stream, 1) == pairs(100, 101)


def test_id_of_a_message_is_a_place(kept: BrokerBus) -> None:
    with reading(kept, after=40) as stream:
        msg_id = stream.read(30)[3]["msg_id"]
    with reading(kept, after=msg_id) as stream:
        assert take(stream, 3) == pairs(41, 44)


@pytest.mark.parametrize("place", [101, 10**9, "2026-never"], ids=["next", "far", "id"])
def test_place_that_is_not_there_is_position_gone(kept: BrokerBus, place: Any) -> None:
    with reading(kept, after=place) as stream, pytest.raises(PositionGone, match=r"fedmsg\.stream"):
        stream.read(30)


def test_topics_are_filtered_and_the_position_passes_the_others(kept: BrokerBus) -> None:
    kept.publish([100], topic="other")
    with reading(kept, f"{PREFIX}.m.o", after=0) as stream:
        assert take(stream, 1) == [(101, 100)]
        assert stream.position == 101


def test_since_later_than_everything_has_new_messages_only(kept: BrokerBus) -> None:
    with reading(kept, since=time.time() + 1000) as stream:
        wait_until(lambda: stream.position == 100)
        kept.publish([100])
        assert take(stream, 1) == pairs(100, 101)


def test_subscription_goes_on_when_the_connection_breaks(kept: BrokerBus) -> None:
    with reading(kept, after=0) as stream:
        assert take(stream, 30) == pairs(0, 30)
        kept.close_connections()
        kept.publish(range(100, 105))
        assert take(stream, 75) == pairs(30, 105)
        assert stream.statistics()["lost"] == 0


def test_durable_subscription_goes_on_where_it_stopped(kept: BrokerBus) -> None:
    with reading(kept, durable="name", after=0) as stream:
        assert take(stream, 10) == pairs(0, 10)
    # The tenth was not followed by a request for another one, and so is not acknowledged.
    with reading(kept, durable="name", last=1) as stream:
        assert take(stream, 91) == pairs(9, 100)
    assert {"fedmsg.cursor.name", "fedmsg.stream"} <= kept.queues()


def test_new_name_keeps_the_place_before_the_first_message(kept: BrokerBus) -> None:
    with reading(kept, durable="name") as stream:
        wait_until(lambda: stream.position is not None)
    kept.publish([100, 101])
    with reading(kept, durable="name") as stream:
        assert take(stream, 2) == pairs(100, 102)


def test_second_reader_of_a_name_waits_for_the_first(kept: BrokerBus) -> None:
    with reading(kept, durable="name", after=0, ack_mode="manual") as first:
        for _ in range(5):
            message = first.read(30)
        message.ack()
        with kept.context(mute=True) as context, context.subscribe(durable="name") as second:
            got: list[Any] = []
            waiting = threading.Thread(target=lambda: got.append(take(second, 1)))
            waiting.start()
            wait_until(lambda: second.statistics()["connections"] == 1)
            assert second.position is None
            first.close()
            waiting.join(30)
            assert got == [pairs(5, 6)]


def test_stream_is_made_with_the_limits_of_the_configuration(bus: BrokerBus) -> None:
    bus.config.update(broker_stream="small", broker_stream_age=3600, broker_stream_bytes=10_000_000)
    with reading(bus):
        pass
    arguments = bus.node.api("GET", f"queues/{bus.vhost}/small")["arguments"]
    assert arguments == {"x-queue-type": "stream", "x-max-age": "3600s", "x-max-length-bytes": 10_000_000}


@pytest.mark.parametrize(
    "headers", [{"x-stream-offset": "abc"}, {"x-stream-offset": -5}, {"x-stream-offset": {"a": 1}}]
)
def test_a_position_that_a_publisher_makes_up_counts_for_nothing(kept: BrokerBus, headers: dict[str, Any]) -> None:
    with reading(kept, after=99) as stream:
        with kept.raw() as channel:
            properties = pika.BasicProperties(headers=headers, message_id="2026-x")
            channel.basic_publish("amq.topic", f"{PREFIX}.m.t", b'{"n":100}', properties)
        kept.publish([101])
        assert take(stream, 3) == pairs(99, 102)
    with reading(kept, last=2) as stream:
        assert take(stream, 2) == [(101, 100), (102, 101)]
