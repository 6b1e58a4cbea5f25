# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a relay no longer keeps comes from a datagrepper: history, stream and live messages are one sequence."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg.aio
from fedmsg.hub import Hub
from fedmsg.stream.log import Incoming, StreamLog
from fedmsg.stream.messages import Message, MessageStream
from fedmsg.testing import wait_until
from tests.datagrepper_server import DatagrepperServer, Handler, Query
from tests.hubs import ENABLED, envelope, taker
from tests.stream_relays import StreamBus, publish, running, sqlite_url


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


@pytest.fixture
def history() -> Iterator[DatagrepperServer]:
    with DatagrepperServer() as server:
        yield server


def remove(bus: StreamBus, history: DatagrepperServer, until: int) -> None:
    """Let the relay keep nothing up to a position, and the datagrepper have all that was stored so far."""
    history.messages = [json.loads(entry.body) for entry in bus.entries()]
    with StreamLog(bus.url) as log:
        log.trim(until)


def read(stream: MessageStream, count: int) -> list[Message]:
    """Return the next messages."""
    found: list[Message] = []
    while len(found) < count:
        message = stream.read(20)
        assert message is not None, f"only {numbers(found)}"
        found.append(message)
    return found


def numbers(messages: list[Message]) -> list[int]:
    """Return the numbers of messages."""
    return [message[3]["msg"]["n"] for message in messages]


def test_since_gets_what_is_no_longer_kept_from_a_datagrepper(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(300))
    remove(bus, history, 200)
    publish(bus, range(300, 310))
    with bus.context(mute=True, datagrepper_url=history.url) as context, context.subscribe(since="1h") as stream:
        found = read(stream, 310)
        publish(bus, [310])
        found += read(stream, 1)
        assert stream.read(0.1) is None  # no doubles
        statistics = stream.statistics()
    assert numbers(found) == [*range(311)]
    assert (statistics["lost"], statistics["recovered"] >= 200) == (0, True)
    # What is from there has no position; from the stream it has.
    assert (found[0].position, found[0][0], found[0][1]) == (None, "datagrepper", history.url)
    assert (found[-1].position, found[-1][0]) == (311, "relay_stream")
    assert found[0].stored == found[0][3]["timestamp"]


def test_since_reads_the_stream_alone_without_a_datagrepper(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(30))
    remove(bus, history, 20)
    with bus.context(mute=True) as context, context.subscribe(since="1h") as stream:
        assert numbers(read(stream, 10)) == [*range(20, 30)]
    assert history.asked == []


def test_since_asks_no_datagrepper_where_the_stream_has_it_all(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(30))
    since = bus.entries()[-1].stored + 1e-4
    with bus.context(mute=True, datagrepper_url=history.url) as context, context.subscribe(since=since) as stream:
        publish(bus, [30])
        assert numbers(read(stream, 1)) == [30]
    assert history.asked == []


def lagging(bus: StreamBus, history: DatagrepperServer, **settings: Any) -> tuple[list[int], dict[str, Any]]:
    """Return what a reader gets that retention has passed, and its statistics."""
    publish(bus, range(200))
    with bus.context(mute=True, stream_credit=10, **settings) as context, context.subscribe(after="first") as stream:
        found = read(stream, 50)
        publish(bus, range(200, 300))
        # What it has in memory would be enough.
        bus.kill_relay()
        remove(bus, history, 280)
        bus.start_relay()
        while numbers(found)[-1] != 299:
            found += read(stream, 1)
        assert stream.read(0.1) is None
        return numbers(found), stream.statistics()


def test_reader_that_retention_has_passed_gets_the_rest_from_a_datagrepper(
    bus: StreamBus, history: DatagrepperServer
) -> None:
    found, statistics = lagging(bus, history, datagrepper_url=history.url)
    assert found == [*range(300)]
    assert statistics["lost"] == 0
    assert statistics["recovered"] > 200


def test_reader_that_retention_has_passed_counts_what_is_lost_without_a_datagrepper(
    bus: StreamBus, history: DatagrepperServer
) -> None:
    found, statistics = lagging(bus, history)
    assert len(found) < 300
    assert len(found) + statistics["lost"] == 300


def test_reader_goes_on_where_a_datagrepper_rejects_it(
    bus: StreamBus, history: DatagrepperServer, caplog: pytest.LogCaptureFixture
) -> None:
    def forbid(handler: Handler, _query: Query, _number: int) -> bool:
        handler.answer(403, {})
        return True

    history.misbehave = forbid
    found, statistics = lagging(bus, history, datagrepper_url=history.url)
    assert len(found) + statistics["lost"] == 300
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([one for one in warnings if "status 403" in one and "lost what was stored since" in one]) == 1


def test_what_a_datagrepper_does_not_have_is_counted_as_lost(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(100))
    settings = {"datagrepper_url": history.url, "stream_credit": 1}
    with bus.context(mute=True, **settings) as context, context.subscribe(after="first") as stream:
        found = read(stream, 1)
        bus.kill_relay()
        remove(bus, history, 90)
        history.messages = [one for one in history.messages if one["msg"]["n"] % 2]
        bus.start_relay()
        while numbers(found)[-1] != 98:
            found += read(stream, 1)
        # The last one comes twice, and is dropped.
        wait_until(lambda: stream.statistics()["lost"] >= 44, what=lambda: str(stream.statistics()))
        assert stream.read(0.1) is None
        assert stream.statistics()["lost"] == 44
    assert sorted(numbers(found)) == sorted({0, *range(1, 90, 2), *range(90, 100)})


def test_a_filtered_reader_gets_its_topics_from_a_datagrepper(bus: StreamBus, history: DatagrepperServer) -> None:
    with bus.confirming() as context:
        rows = ({"topic": "ab"[n % 2], "modname": "m", "msg": {"n": n}} for n in range(100))
        list(context.publish_many(rows))
    remove(bus, history, 90)
    topic = "org.fedoraproject.dev.m.b"
    with (
        bus.context(mute=True, datagrepper_url=history.url) as context,
        context.subscribe(topic, since="1h") as stream,
    ):
        assert numbers(read(stream, 50)) == [*range(1, 100, 2)]
        assert stream.read(0.1) is None


def test_durable_reader_gets_what_is_no_longer_kept_when_it_starts_again(
    bus: StreamBus, history: DatagrepperServer
) -> None:
    with bus.context(mute=True, datagrepper_url=history.url) as context:
        publish(bus, range(20))
        with context.subscribe(after="first", durable="d") as stream:
            read(stream, 11)  # 10 are acknowledged
        publish(bus, range(20, 50))
        remove(bus, history, 40)
        with context.subscribe(durable="d") as stream:
            found = read(stream, 1)
            while numbers(found)[-1] != 30:
                found += read(stream, 1)
            assert stream.statistics()["lost"] == 0
        # Nothing of it has passed the cursor before all was handled.
        with context.subscribe(durable="d") as stream:
            again = read(stream, 1)
            while numbers(again)[-1] != 49:
                again += read(stream, 1)
            assert stream.read(0.1) is None
        with context.subscribe(durable="d") as stream:
            assert stream.read(0.1) is None  # all is acknowledged
    assert {*range(10, 50)} <= {*numbers(again)}


def test_new_durable_reader_that_is_interrupted_begins_with_its_history_again(
    bus: StreamBus, history: DatagrepperServer
) -> None:
    publish(bus, range(50))
    remove(bus, history, 40)
    with bus.context(mute=True, datagrepper_url=history.url) as context:
        with context.subscribe(since="1h", durable="d") as stream:
            assert numbers(read(stream, 20)) == [*range(20)]
        with context.subscribe(since="1h", durable="d") as stream:
            assert numbers(read(stream, 50)) == [*range(50)]
            assert stream.read(0.1) is None


def test_history_outlives_a_kill_of_the_relay(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(100))
    remove(bus, history, 80)

    def kill(_handler: Handler, _query: Query, number: int) -> None:
        if number == 1:
            bus.kill_relay()
            bus.start_relay()

    history.misbehave = kill
    with bus.context(mute=True, datagrepper_url=history.url) as context, context.subscribe(since="1h") as stream:
        found = read(stream, 100)
        publish(bus, range(100, 110))
        found += read(stream, 10)
        assert stream.read(0.1) is None
    assert numbers(found) == [*range(110)]


def test_tail_shows_what_is_no_longer_kept_until_now(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(30))
    remove(bus, history, 20)
    with StreamBus(bus.url, **{**bus.config, "datagrepper_url": history.url}) as other:
        shown = other.run("fedmsg-tail", "--since", "1h", "--until", "now", "--json")
    assert [json.loads(line)["msg"]["n"] for line in shown.stdout.splitlines()] == [*range(30)]
    assert shown.returncode == 0


def test_durable_consumer_gets_what_is_no_longer_kept(bus: StreamBus, history: DatagrepperServer) -> None:
    kind = taker(durable=True)
    publish(bus, range(30))
    remove(bus, history, 20)
    config = {**bus.config, **ENABLED, "datagrepper_url": history.url}
    with Hub(config, [kind], [], begin={"since": "1h"}) as hub:
        (consumer,) = hub.consumers
        wait_until(lambda: len(consumer.said) >= 30, what=lambda: str(consumer.said))
        publish(bus, [30])
        wait_until(lambda: len(consumer.said) >= 31)
        totals = consumer.totals()
        assert [msg["n"] for msg in consumer.said] == [*range(31)]
        assert totals["recovered"] >= 20
        # What is from history does not keep the cursor back.
        wait_until(lambda: consumer.totals()["position"] == 31)


@pytest.mark.anyio
async def test_asynchronous_reader_gets_what_is_no_longer_kept(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(300))
    remove(bus, history, 200)
    found: list[int] = []
    async with (
        fedmsg.aio.FedMsgContext(**bus.config, mute=True, datagrepper_url=history.url) as context,
        context.subscribe(since="1h") as stream,
    ):
        while len(found) < 300:
            message = await stream.read(20)
            assert message is not None
            found.append(message[3]["msg"]["n"])
        assert await stream.read(0.1) is None
    assert found == [*range(300)]


def test_a_reader_ends_while_history_is_read(bus: StreamBus, history: DatagrepperServer) -> None:
    publish(bus, range(30))
    remove(bus, history, 20)
    history.misbehave = lambda _handler, _query, _number: history.stopped.wait(20)
    with bus.context(mute=True, datagrepper_url=history.url) as context:
        with context.subscribe(since="1h") as stream:
            wait_until(lambda: history.asked)
            assert stream.read(0.1) is None
            assert stream.is_recovering
        assert [thread.name for thread in threading.enumerate() if thread.name == "fedmsg-history"] == []
    history.stopped.set()


def test_a_reader_of_new_messages_gets_what_was_removed_before_it_had_one(
    bus: StreamBus, history: DatagrepperServer
) -> None:
    publish(bus, range(5))
    with bus.context(mute=True, datagrepper_url=history.url) as context, context.subscribe() as stream:
        wait_until(lambda: stream.position == 5)
        bus.kill_relay()
        history.messages = [envelope("m.t", {"n": number}) for number in range(5, 10)]
        with StreamLog(bus.url) as log:
            log.append([Incoming(one["topic"].encode(), json.dumps(one).encode()) for one in history.messages])
            log.trim(9)
        bus.start_relay()
        assert numbers(read(stream, 5)) == [*range(5, 10)]
        assert stream.read(0.1) is None
        assert stream.statistics()["lost"] == 0
