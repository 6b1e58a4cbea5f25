# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading the stream of a relay with the API: history and live messages by one path, acknowledged or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import PositionGone, UsageError
from fedmsg.stream.messages import Message, MessageStream
from fedmsg.testing import Process
from tests import certificates
from tests.stream_relays import StreamBus, running, sqlite_url


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


@pytest.fixture
def reader(bus: StreamBus) -> Iterator[FedMsgContext]:
    with bus.context(mute=True) as context:
        yield context


def publish(bus: StreamBus, *numbers: int, topic: str = "t") -> list[int]:
    """Publish messages with confirms; return their positions."""
    with bus.confirming() as context:
        return list(context.publish_many({"topic": topic, "modname": "m", "msg": {"n": n}} for n in numbers))


def numbers(stream: MessageStream, count: int) -> list[int]:
    """Return the numbers of the next messages."""
    found: list[int] = []
    while len(found) < count:
        message = stream.read(20)
        assert message is not None
        found.append(message[3]["msg"]["n"])
    return found


def test_subscribe_goes_from_history_to_live_without_a_seam(bus: StreamBus, reader: FedMsgContext) -> None:
    publish(bus, *range(100))
    with reader.subscribe(after="first") as stream:
        assert numbers(stream, 50) == [*range(50)]
        publish(bus, *range(100, 150))
        assert numbers(stream, 100) == [*range(50, 150)]
        assert stream.read(0.1) is None  # no doubles


def test_a_message_is_a_tuple_with_a_position(bus: StreamBus, reader: FedMsgContext) -> None:
    (position,) = publish(bus, 7)
    with reader.subscribe(last=1) as stream:
        message = next(stream)
    name, address, topic, envelope = message
    assert (name, [address]) == ("relay_stream", bus.config["relay_stream"])
    assert (topic, envelope["topic"], envelope["msg"]) == ("org.fedoraproject.dev.m.t", topic, {"n": 7})
    assert message.position == position
    assert abs(message.stored - envelope["timestamp"]) < 10
    assert isinstance(message, Message)


@pytest.mark.parametrize(
    ("begin", "expected"),
    [({"after": 0}, [1, 2, 3]), ({"after": 2}, [3]), ({"last": 2}, [2, 3]), ({"since": "1h"}, [1, 2, 3])],
    ids=["first", "after", "last", "since"],
)
def test_subscribe_begins_where_it_is_asked_to(
    bus: StreamBus, reader: FedMsgContext, begin: dict[str, Any], expected: list[int]
) -> None:
    publish(bus, 1, 2, 3)
    with reader.subscribe(**begin) as stream:
        assert numbers(stream, len(expected)) == expected


def test_subscribe_begins_with_new_messages_where_nothing_is_asked_for(bus: StreamBus, reader: FedMsgContext) -> None:
    publish(bus, 1, 2, 3)
    with reader.subscribe() as stream:
        while stream.position is None:
            assert stream.read(0.05) is None
        publish(bus, 4)
        assert numbers(stream, 1) == [4]


def test_subscribe_filters_at_the_relay(bus: StreamBus, reader: FedMsgContext) -> None:
    publish(bus, 1, topic="no")
    publish(bus, 2, topic="yes")
    with reader.subscribe(["org.fedoraproject.dev.m.yes", "org.x"], after=0) as stream:
        assert numbers(stream, 1) == [2]
        assert stream.statistics()["received"] == 1


def test_a_durable_subscription_goes_on_where_it_was_acknowledged(bus: StreamBus, reader: FedMsgContext) -> None:
    publish(bus, *range(10))
    with reader.subscribe(after=0, durable="mine") as stream:
        assert numbers(stream, 4) == [0, 1, 2, 3]  # the last of them is not acknowledged
    with reader.subscribe(after=0, durable="mine") as stream:
        assert numbers(stream, 2) == [3, 4]
    with reader.subscribe(after=0, durable="mine", ack_mode="manual") as stream:
        messages = [stream.read(20) for _ in range(4)]
        assert messages[2] is not None
        messages[2].ack()
    with reader.subscribe(durable="mine") as stream:
        assert numbers(stream, 3) == [7, 8, 9]


def test_an_exception_and_a_break_acknowledge_nothing_more(bus: StreamBus, reader: FedMsgContext) -> None:
    publish(bus, *range(3))

    def handle(stream: MessageStream, *, fails: bool) -> None:
        for message in stream:
            if message[3]["msg"]["n"] == 1:
                if fails:
                    raise LookupError
                break

    with pytest.raises(LookupError), reader.subscribe(after=0, durable="mine") as stream:
        handle(stream, fails=True)
    for _ in range(2):
        with reader.subscribe(durable="mine") as stream:
            handle(stream, fails=False)
    with reader.subscribe(durable="mine") as stream:
        assert numbers(stream, 2) == [1, 2]


def test_what_is_not_valid_is_rejected_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    keys = certificates.Bench(tmp_path / "keys")
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        publish(bus, 1)
        signing = {**keys.config, "sign_messages": True, "certnames": {"m": keys.config["certname"]}, "name": "m"}
        with bus.confirming(**signing) as context:
            context.publish(topic="t", modname="m", msg={"n": 2})
        publish(bus, 3)
        checking = {**keys.config, "validate_signatures": True, "routing_policy": {}}
        with bus.context(mute=True, **checking) as reader, reader.subscribe(after=0, durable="all") as stream:
            assert numbers(stream, 1) == [2]
            assert stream.read(0.5) is None
            assert reader.rejections.counts.total() == 2
        with bus.context(mute=True) as reader, reader.subscribe(durable="all") as stream:
            # All of them were acknowledged, what was rejected too.
            publish(bus, 4)
            assert numbers(stream, 1) == [4]


def test_subscribe_with_the_module(bus: StreamBus) -> None:
    publish(bus, 1, 2)
    try:
        with fedmsg.subscribe(after=1, **bus.config) as stream:
            assert numbers(stream, 1) == [2]
    finally:
        fedmsg.destroy()


def test_subscribe_rejects_what_makes_no_sense(bus: StreamBus, reader: FedMsgContext) -> None:
    several: list[dict[str, Any]] = [{"after": 1, "last": 1}, {"ack_mode": "never"}, {"since": "yesterday"}]
    for wrong in several:
        with pytest.raises(UsageError):
            reader.subscribe(**wrong)
    with reader.subscribe(after=1000) as stream, pytest.raises(PositionGone):
        stream.read(20)


# ---------------------------------------------------------------- fedmsg-tail


def tail(bus: StreamBus, *arguments: str) -> list[str]:
    """Return what fedmsg-tail shows of a stream."""
    with Process(["fedmsg-tail", "--query", "msg.n", *arguments], env=bus.environ) as process:
        assert process.wait(60) == 0, process.err
        return process.out


def test_tail_shows_the_stream_until_now(bus: StreamBus) -> None:
    publish(bus, *range(5))
    publish(bus, 5, topic="other")
    assert tail(bus, "--first", "--until", "now") == ["0", "1", "2", "3", "4", "5"]
    assert tail(bus, "--after", "4", "--until", "now") == ["4", "5"]
    msg_id = json.loads(bus.entries()[3].body)["msg_id"]
    assert tail(bus, "--after", msg_id, "--until", "now") == ["4", "5"]
    assert tail(bus, "--last", "2", "--until", "now") == ["4", "5"]
    assert tail(bus, "--last", "2", "--until", "now", "--topic", "org.fedoraproject.dev.m.t") == ["3", "4"]
    assert tail(bus, "--since", "1h", "--until", "now", "--topic", "org.fedoraproject.dev.m.other") == ["5"]
    assert tail(bus, "--since", "2030-01-01", "--until", "now") == []
    assert tail(bus, "--last", "0", "--until", "now") == []


def test_tail_goes_on_where_its_name_has_stopped(bus: StreamBus) -> None:
    publish(bus, *range(5))
    # The fourth was shown and is not acknowledged: the next one was not asked for.
    assert tail(bus, "--first", "--durable", "me", "--count", "4") == ["0", "1", "2", "3"]
    assert tail(bus, "--durable", "me", "--until", "now") == ["3", "4"]
    # That has come to its end, so that the last one counts as handled, too.
    assert tail(bus, "--durable", "me", "--until", "now") == []


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--first", "--last", "3"], 2, "--last and --first: only one of them can say where to begin"),
        (["--until", "now"], 2, "--until is for the stream"),
        (["--since", "yesterday"], 2, "since='yesterday'"),
        (["--after", "9" * 5000], 2, "is no position and no msg_id"),
        (["--durable", ""], 2, "durable='' is no name"),
        (["--after", "99999"], 1, "there is no position 99999 yet: the newest position of the stream is 0"),
        (["--after", "\u00b2"], 1, "the stream has no message with this msg_id"),
    ],
    ids=["two", "until", "since", "far", "nameless", "gone", "unknown"],
)
def test_tail_reports_a_place_that_is_none(bus: StreamBus, arguments: list[str], status: int, text: str) -> None:
    with Process(["fedmsg-tail", *arguments], env=bus.environ) as process:
        assert process.wait(30) == status
        assert text in "\n".join(process.err)
        assert "Traceback" not in "\n".join(process.err)
