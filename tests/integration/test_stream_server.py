# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream port and its subscriptions: where they begin, what they get, in which order, and who reads a name."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest

from fedmsg.exceptions import PositionGone, QueryError, StoreError, TransportError, UsageError
from fedmsg.stream import asking, protocol
from fedmsg.stream.records import Cursor
from fedmsg.stream.server import StreamServer
from fedmsg.stream.subscription import Subscription
from fedmsg.testing import wait_until
from tests.integration.streams import FrameClient, begun, body, numbers, positions, serving, take, wait_for
from tests.stream_memory import MemoryLog

DAY = 86400.0


@pytest.fixture
def log() -> MemoryLog:
    """Return a stream with the positions 1 to 10, of which 6 to 10 are of today and 1 and 2 are removed."""
    log = MemoryLog()
    log.add(*numbers(1, 5), stored=time.time() - DAY)
    log.add(*numbers(6, 10))
    log.remove(2)
    return log


@pytest.fixture
def server(log: MemoryLog) -> Iterator[StreamServer]:
    with serving(log) as made:
        yield made


# ---------------------------------------------------------------- where to begin


@pytest.mark.parametrize(
    ("begin", "first"),
    [
        ({"after": 4}, 5),
        ({"after": 10}, 11),
        ({"after": 0}, 3),
        ({"after": "first"}, 3),
        ({"after": "id-7"}, 8),
        ({"last": 2}, 9),
        ({"last": 100}, 3),
        ({"last": 0}, 11),
        ({"since": "2h"}, 6),
        ({"since": "7d"}, 3),
        ({"since": "0s"}, 11),
        ({}, 11),
    ],
    ids=["position", "newest", "0", "first", "msg-id", "last", "more-than-all", "last-0", "age", "all", "now", "new"],
)
def test_subscription_begins(begin: dict[str, Any], first: int, log: MemoryLog, server: StreamServer) -> None:
    with Subscription({}, server.addresses, **begin) as subscription:
        begun(subscription)
        server.append(log.add(body(11)))
        assert positions(take(subscription, 12 - first)) == list(range(first, 12))
        assert subscription.statistics()["lost"] == 0


@pytest.mark.parametrize("durable", [None, "new"], ids=["plain", "durable"])
@pytest.mark.parametrize(("last", "wanted"), [(1, [13]), (2, [4, 13]), (3, [3, 4, 13]), (9, [3, 4, 13]), (0, [])])
def test_last_messages_are_those_of_the_topics_that_are_read(last: int, wanted: list[int], durable: str | None) -> None:
    log = MemoryLog()
    log.add(*numbers(1, 4), topic=b"rare.x")
    log.add(*numbers(5, 12))
    log.add(body(13), topic=b"rare.y")
    log.remove(2)
    with serving(log) as server, Subscription({}, server.addresses, "rare", last=last, durable=durable) as subscription:
        begun(subscription)
        server.append(log.add(body(14), topic=b"rare.z"))
        assert positions(take(subscription, len(wanted) + 1)) == [*wanted, 14]
        assert subscription.statistics()["lost"] == 0


def test_name_that_is_known_goes_on_and_searches_nothing(log: MemoryLog, server: StreamServer) -> None:
    log.save_cursors([Cursor("known", 8, time.time(), "")])
    before = log.reads
    with Subscription({}, server.addresses, "none", last=100, durable="known") as subscription:
        begun(subscription)
        assert subscription.cursor == 8
    assert log.reads - before <= 1


def test_search_for_the_last_messages_goes_on_when_the_store_has_failed(log: MemoryLog, server: StreamServer) -> None:
    log.fail = StoreError("away")
    with Subscription({}, server.addresses, "org.test", last=2) as subscription:
        wait_for(lambda: server.counts["store"], subscription)
        log.fail = None
        assert positions(take(subscription, 2)) == [9, 10]


def test_subscription_begins_at_a_time(log: MemoryLog, server: StreamServer) -> None:
    hour_ago = time.time() - 3600
    for since in (hour_ago, datetime.fromtimestamp(hour_ago, timezone.utc).isoformat().replace("+00:00", "Z")):
        with Subscription({}, server.addresses, since=since) as subscription:
            assert positions(take(subscription, 5)) == [6, 7, 8, 9, 10]


def test_delivery_is_what_was_stored(log: MemoryLog, server: StreamServer) -> None:
    entry = log.read(6, rows=1).entries[0]
    with Subscription({}, server.addresses, after=6) as subscription:
        delivery = take(subscription, 1)[0]
    assert (delivery.position, delivery.frame, delivery.data) == (7, entry.topic, entry.body)
    assert delivery.stored == pytest.approx(entry.stored, abs=1e-5)
    assert (delivery.name, delivery.address) == ("relay_stream", server.addresses[0])


@pytest.mark.parametrize("after", [11, "id-99"])
def test_subscription_ends_where_there_is_no_such_position(after: int | str, server: StreamServer) -> None:
    with Subscription({}, server.addresses, after=after) as subscription, pytest.raises(PositionGone):
        take(subscription, 1)


@pytest.mark.parametrize("wrong", [{"after": 1, "last": 1}, {"durable": ""}, {"topics": ["x" * 9000]}])
def test_subscription_rejects_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Subscription({}, "tcp://127.0.0.1:9", **wrong)


def test_server_answers_a_malformed_open(server: StreamServer) -> None:
    with FrameClient(server.addresses[0]) as client:
        client.hello()
        client.send(protocol.OPEN, {"after": 1, "last": 1})
        assert client.expect(protocol.NO).fields[0]["code"] == protocol.CODE_BAD
        client.send(protocol.OPEN, {"after": 10, "unknown": [1]})
        assert client.expect(protocol.OPENED).fields[0] == {"position": 10}


def test_positions_before_the_first_are_lost_and_counted_once(log: MemoryLog, server: StreamServer) -> None:
    with Subscription({}, server.addresses, after=1) as subscription:
        assert positions(take(subscription, 8)) == list(range(3, 11))
        assert subscription.statistics()["lost"] == 1
    assert server.statistics()["lost"] == 1


def test_everything_is_lost_where_retention_has_removed_everything(log: MemoryLog) -> None:
    log.remove(10)
    with serving(log) as server, Subscription({}, server.addresses, after=4) as subscription:
        wait_for(lambda: subscription.statistics()["lost"] == 6, subscription)
        server.append(log.add(body(11)))
        assert positions(take(subscription, 1)) == [11]


# ---------------------------------------------------------------- one path, in order


@pytest.mark.parametrize("window", [50, 3000])
def test_history_and_live_messages_have_no_seam(window: int) -> None:
    """Two readers catch up, one with a filter, while messages are stored all the time."""
    log, count = MemoryLog(), 30_000
    log.add(*numbers(1, 5000))
    with serving(log, window=window) as server:

        def publish() -> None:
            for start in range(5001, count, 20):
                topic = b"odd.t" if start // 20 % 2 else b"even.t"
                server.append(log.add(*numbers(start, start + 19), topic=topic))

        publisher = threading.Thread(target=publish)
        with (
            Subscription({}, server.addresses, after="first") as reader,
            Subscription({"stream_credit": 30}, server.addresses, "odd", after="first") as filtered,
        ):
            publisher.start()
            got = take(reader, count, 60)
            assert positions(got) == list(range(1, count + 1))
            assert [delivery.data for delivery in got] == numbers(1, count)
            odd = [entry.position for entry in log.read(0, [b"odd"], rows=count).entries]
            assert positions(take(filtered, len(odd), 60)) == odd
            assert reader.statistics()["gaps"] == filtered.statistics()["gaps"] == 0
        publisher.join()


def test_topics_are_filtered_by_prefix_at_the_server(log: MemoryLog, server: StreamServer) -> None:
    topics = [b"org.a.x", b"org.b", b"org.a", b"org", b"org.c.y"]
    with Subscription({}, server.addresses, ["org.a", "org.c."]) as subscription:
        begun(subscription)
        for number, topic in enumerate(topics, 11):
            server.append(log.add(body(number), topic=topic))
        assert positions(take(subscription, 3)) == [11, 13, 15]
        assert server.statistics()["sent"] == 3
        subscription.subscribe(["org.b"])
        for number, topic in enumerate(topics, 16):
            server.append(log.add(body(number), topic=topic))
        got = take(subscription, 3)
        assert positions(got)[-1] >= 18


def test_filtered_reader_hears_how_far_the_relay_has_looked(log: MemoryLog, server: StreamServer) -> None:
    with FrameClient(server.addresses[0]) as client:
        client.open(10, 10_000, topics=["nothing"], after=10)
        server.append(log.add(*numbers(11, 13)))
        assert client.expect(protocol.AT, 3).fields == (13,)
        started = time.monotonic()
        server.append(log.add(*[b"x"] * 25_000))
        assert client.expect(protocol.AT).fields[0] >= 10_013
        # Not after the second that an AT may take.
        assert client.expect(protocol.AT).fields[0] >= 20_013
        assert time.monotonic() - started < 0.9


def test_filtered_reader_catches_up_from_the_store() -> None:
    log = MemoryLog()
    log.add(*[b"x"] * 25_000)
    log.add(body(1), topic=b"wanted")
    with serving(log) as server, FrameClient(server.addresses[0]) as client:
        client.open(10, 10_000, topics=["wanted"], after=0)
        assert client.expect(protocol.AT).fields[0] >= 10_000
        message = client.expect(protocol.MSG)
        assert message.fields[:2] == (25_001, 0)


def test_store_that_fails_holds_up_only_what_it_is_needed_for(log: MemoryLog, server: StreamServer) -> None:
    with Subscription({}, server.addresses) as live, FrameClient(server.addresses[0]) as client:
        begun(live)
        log.fail = StoreError("the store is away")
        with Subscription({}, server.addresses, after="first") as history:
            entries = log.add(*numbers(11, 12))
            server.append(entries)
            assert positions(take(live, 2)) == [11, 12]
            client.hello()
            client.send(protocol.GET, b"1", {"position": 4})
            assert client.expect(protocol.ANSWER).fields[1]["code"] == protocol.CODE_STORE
            # That is the other reader, which begins meanwhile.
            wait_until(lambda: server.counts["store"] > 0)
            log.fail = None
            assert positions(take(history, 10)) == list(range(3, 13))


# ---------------------------------------------------------------- credit


def test_credit_is_never_exceeded(server: StreamServer, log: MemoryLog) -> None:
    for bodies in ([b"x" * 100] * 5, [b"y" * 5000], [b"z" * 100] * 20):
        server.append(log.add(*bodies, topic=b"t"))
    with FrameClient(server.addresses[0]) as client:
        client.open(7, 1000, after=10)
        flight, size, position, rounds = 0, 0, 10, 0
        while position < 36:
            message = client.receive(0.2, (protocol.PING, protocol.AT))
            if message is not None:
                assert message.kind == protocol.MSG
                assert message.fields[:2] == (position + 1, position)
                position += 1
                flight += 1
                size += len(message.fields[3]) + len(message.fields[4])
                assert flight <= 7
                assert size <= 1000 or flight == 1
            else:
                # All of the credit was used, and nothing comes beyond it.
                assert flight > 0
                rounds += 1
                client.send(protocol.CREDIT, flight, size)
                flight = size = 0
        assert rounds >= 4


def test_one_message_always_fits(log: MemoryLog, server: StreamServer) -> None:
    for number in range(5):
        server.append(log.add(b"%d" % number, b"y" * 100_000))
    config = {"stream_credit": 10, "stream_credit_bytes": 1000}
    with Subscription(config, server.addresses, after=10) as subscription:
        assert positions(take(subscription, 10)) == list(range(11, 21))


def test_reader_that_takes_nothing_is_sent_no_more_than_its_credit(log: MemoryLog, server: StreamServer) -> None:
    server.append(log.add(*[b"x" * 50] * 5000))
    with Subscription({"stream_credit": 100}, server.addresses, after=10) as subscription:
        wait_for(lambda: subscription.statistics()["received"] == 100, subscription)
        # They are counted once they are on their way.
        wait_until(lambda: server.statistics()["sent"] > 0)
        assert server.statistics()["sent"] == 100
        assert positions(take(subscription, 5000)) == list(range(11, 5011))


def test_what_follows_is_read_before_its_credit_comes() -> None:
    log = MemoryLog()
    log.add(*numbers(1, 1000))
    with serving(log, window=1) as server, FrameClient(server.addresses[0]) as client:
        client.open(10, 1_000_000, after=0)
        assert [client.expect(protocol.MSG).fields[0] for _ in range(10)] == [*range(1, 11)]
        # What was sent, and two more windows.
        wait_until(lambda: log.reads == 3)
        log.fail = StoreError("it is away")
        client.send(protocol.CREDIT, 20, 1_000_000)
        assert [client.expect(protocol.MSG).fields[0] for _ in range(20)] == [*range(11, 31)]
        client.send(protocol.CREDIT, 10, 1_000_000)
        wait_until(lambda: server.counts["store"] > 0)
        log.fail = None
        assert [client.expect(protocol.MSG).fields[0] for _ in range(10)] == [*range(31, 41)]


# ---------------------------------------------------------------- durable subscriptions


def test_durable_subscription_goes_on_at_its_cursor(log: MemoryLog, server: StreamServer) -> None:
    def reader(**begin: Any) -> Subscription:
        return Subscription({}, server.addresses, durable="shop", **begin)

    with reader(after="first") as subscription:
        take(subscription, 4)[2].ack()
    wait_until(lambda: (log.cursor("shop") or Cursor("", 0, 0, "")).position == 5)
    # Where to begin counts only when the name is new.
    with reader(last=1) as subscription:
        for delivery in take(subscription, 5):
            delivery.ack()
    with reader() as subscription:
        begun(subscription)
        server.append(log.add(body(11)))
        assert positions(take(subscription, 1)) == [11]


def test_new_name_is_stored_at_once(log: MemoryLog, server: StreamServer) -> None:
    with Subscription({}, server.addresses, durable="shop") as subscription:
        begun(subscription)
    server.append(log.add(body(11)))
    with Subscription({}, server.addresses, durable="shop") as subscription:
        assert positions(take(subscription, 1)) == [11]


def test_reader_with_nothing_in_work_acks_what_the_relay_looked_at(log: MemoryLog, server: StreamServer) -> None:
    with Subscription({}, server.addresses, "wanted", durable="shop", after=10) as subscription:
        begun(subscription)
        server.append(log.add(*numbers(11, 20)))
        wait_until(lambda: (log.cursor("shop") or Cursor("", 0, 0, "")).position == 20)
        server.append(log.add(body(21), topic=b"wanted"))
        server.append(log.add(*numbers(22, 30)))
        delivery = take(subscription, 1)[0]
        wait_for(lambda: subscription.position == 30, subscription)
        server.append(log.add(body(31)))
        wait_for(lambda: subscription.position == 31, subscription)
        assert (log.cursor("shop") or Cursor("", 0, 0, "")).position == 20
        delivery.ack()
        wait_until(lambda: (log.cursor("shop") or Cursor("", 0, 0, "")).position == 31)


def test_second_reader_of_a_name_waits_and_takes_over(
    log: MemoryLog, server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Subscription({}, server.addresses, durable="shop", after="first") as first:
        take(first, 3)[1].ack()
        with Subscription({}, server.addresses, durable="shop", after="first") as second:
            wait_until(lambda: asking.subscriptions({}, server.addresses[0])[0]["waiting"] == 1)
            assert second.position is None
            wait_until(lambda: "another reader, at 127.0.0.1, has the name shop: waiting" in caplog.text)
            first.close()
            assert positions(take(second, 6)) == list(range(5, 11))


def test_ack_of_a_reader_that_has_lost_the_name_is_ignored(log: MemoryLog, server: StreamServer) -> None:
    with FrameClient(server.addresses[0]) as first, FrameClient(server.addresses[0]) as second:
        first.open(100, 10_000, durable="shop", after=0)
        second.hello()
        second.send(protocol.OPEN, {"durable": "shop"})
        assert second.expect(protocol.WAIT).fields[0] == {"address": "127.0.0.1"}
        second.send(protocol.ACK, 9)
        first.send(protocol.ACK, 1000)  # beyond what it was sent
        first.expect(protocol.MSG)
        first.send(protocol.ACK, 3)
        first.send(protocol.CLOSE)
        assert second.expect(protocol.OPENED).fields[0] == {"position": 3}
        first.send(protocol.ACK, 8)
        first.send(protocol.INFO, b"1")
        first.expect(protocol.ANSWER)
        assert asking.subscriptions({}, server.addresses[0])[0]["cursor"] == 3


@contextmanager
def unsaved_and_removed(log: MemoryLog, server: StreamServer) -> Iterator[None]:
    """Remove a name whose cursor the server has still to store, because the store is away at the beginning."""
    with Subscription({}, server.addresses, durable="shop", after=4) as reader:
        first, second = take(reader, 2)
        first.ack()
        wait_until(lambda: (log.cursor("shop") or Cursor("", 0, 0, "")).position == 5)
        log.fail = StoreError("away")
        second.ack()
        wait_until(lambda: server.counts["store"] > 0)
        assert log.remove_cursor("shop")
    wait_until(lambda: server.statistics()["subscriptions"] == 0)
    yield
    log.fail = None


def test_name_that_was_removed_is_not_brought_back_by_a_cursor_to_store(log: MemoryLog, server: StreamServer) -> None:
    with unsaved_and_removed(log, server):
        pass
    # Its cursor is stored after that of the other one.
    with Subscription({}, server.addresses, durable="other", after=9) as reader:
        take(reader, 1)[0].ack()
        wait_until(lambda: (log.cursor("other") or Cursor("", 0, 0, "")).position == 10)
    assert log.cursor("shop") is None


def test_name_that_was_removed_begins_anew(log: MemoryLog, server: StreamServer) -> None:
    with unsaved_and_removed(log, server), Subscription({}, server.addresses, durable="shop", after=0) as reader:
        failed = server.counts["store"]
        # Both the start of the new reader and the cursor of the old one wait for the store now.
        wait_until(lambda: server.counts["store"] > failed + 3)
        log.fail = None
        assert positions(take(reader, 8)) == list(range(3, 11))
        assert asking.subscriptions({}, server.addresses[0], name="shop")[0]["cursor"] == 2


def test_there_are_no_more_names_than_relay_durable_max(log: MemoryLog) -> None:
    with serving(log, {"relay_durable_max": 2}) as server:
        for name in ("a", "b", "a"):
            with Subscription({}, server.addresses, durable=name) as subscription:
                begun(subscription)
        with Subscription({}, server.addresses, durable="c") as subscription, pytest.raises(QueryError, match="2"):
            take(subscription, 1)
        log.remove_cursor("a")
        with Subscription({}, server.addresses, durable="c") as subscription:
            begun(subscription)


def test_reader_that_opens_again_keeps_its_name(log: MemoryLog, server: StreamServer) -> None:
    with Subscription({}, server.addresses, "nothing", durable="shop", after=10) as first:
        begun(first)
        with Subscription({}, server.addresses, durable="shop") as second:
            wait_until(lambda: asking.subscriptions({}, server.addresses[0])[0]["waiting"] == 1)
            first.subscribe(["org"])
            wait_for(lambda: server.statistics()["subscriptions"] == 1, first)
            server.append(log.add(body(11)))
            assert positions(take(first, 1)) == [11]
            assert second.position is None


# ---------------------------------------------------------------- requests


def test_requests(log: MemoryLog, server: StreamServer) -> None:
    address = server.addresses[0]
    with Subscription({}, address, durable="b", after=4) as subscription:
        begun(subscription)
        log.save_cursors([Cursor("a", 7, 1.5, "10.0.0.1"), *(Cursor(f"c{n:04}", 1, 1.5, "") for n in range(1500))])
        figures = asking.info({}, address)
        assert (figures["stream"], figures["first"], figures["newest"], figures["messages"]) == (log.stream, 3, 10, 8)
        assert figures["subscriptions"] == 1
        rows = asking.subscriptions({}, address)
        assert [row["name"] for row in rows] == ["a", "b", *(f"c{n:04}" for n in range(1500))]
        expected = {"name": "a", "cursor": 7, "lag": 3, "seen": 1.5, "address": "10.0.0.1", "connected": False}
        assert rows[0] == {**expected, "waiting": 0}
        assert (rows[1]["cursor"], rows[1]["lag"], rows[1]["connected"]) == (4, 6, True)
    for wanted in (7, "id-7"):
        answer = asking.get({}, address, wanted)
        assert (answer.options["position"], answer.topic, answer.body) == (7, b"org.test.t", body(7))
    for missing in (2, 99, "id-99"):
        with pytest.raises(PositionGone):
            asking.get({}, address, missing)
    with pytest.raises(QueryError):
        asking.get({}, address, 0)


def test_info_has_the_figures_of_the_relay(log: MemoryLog) -> None:
    with StreamServer({}, ["tcp://127.0.0.1:*"], log, figures=lambda: {"retention": 7}) as server:
        server.start()
        assert asking.info({}, server.addresses[0])["retention"] == 7


def test_request_ends_in_time_where_there_is_no_relay() -> None:
    with pytest.raises(TransportError, match=r"did not answer within 0\.2 s"):
        asking.info({}, "tcp://127.0.0.1:9", 0.2)
