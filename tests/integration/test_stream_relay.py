# SPDX-License-Identifier: LGPL-2.1-or-later
"""A relay with a store, as a process: it stores before it passes on, and loses nothing that it has confirmed."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from fedmsg import encoding
from fedmsg.exceptions import NotConfirmed, NotListening, RejectedByRelay
from fedmsg.stream import protocol
from fedmsg.stream.log import StreamLog
from fedmsg.testing import Process, free_address, wait_until
from tests import certificates
from tests.postgres import Cluster
from tests.stream_relays import Flow, Listener, Raw, StreamBus, body_of, number_of, running, sqlite_url


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


# ---------------------------------------------------------------- storing


def test_relay_stores_what_it_passes_on(database_url: str) -> None:
    with running(StreamBus(database_url)) as bus, Listener(bus) as listener:
        with bus.context() as context:
            for number in range(500):
                context.publish(topic="t", modname="m", msg={"n": number})
        listener.wait_for(500)
        assert bus.numbers() == listener.numbers() == list(range(500))
        stored = [(entry.topic, entry.body) for entry in bus.entries() if not entry.topic.endswith(b".hello")]
        assert stored == listener.messages
        assert bus.stop_relay() == 0


def test_relay_stores_a_message_before_any_subscriber_has_it(bus: StreamBus) -> None:
    with StreamLog(bus.url) as log:

        def look(_topic: bytes, body: bytes) -> None:
            assert log.find(json.loads(body)["msg_id"]) is not None

        with Listener(bus, look) as listener, bus.context() as plain, bus.confirming() as confirming:
            for number in range(100):
                (plain if number % 2 else confirming).publish(topic="t", modname="m", msg={"n": number})
            listener.wait_for(100)


def test_relay_confirms_with_positions_in_order(bus: StreamBus) -> None:
    with bus.confirming() as context:
        first = context.publish(topic="t", modname="m", msg={"n": 0})
        assert first == 1
        more = list(context.publish_many({"topic": "t", "modname": "m", "msg": {"n": n}} for n in range(1, 3000)))
    assert more == list(range(2, 3001))
    assert bus.numbers() == list(range(3000))


def test_relay_stores_in_groups_what_comes_at_once(bus: StreamBus, tmp_path: Path) -> None:
    """An idle relay commits each message, a busy one many together: their ids are one row for each commit."""

    def commits() -> int:
        with contextlib.closing(sqlite3.connect(tmp_path / "stream.db")) as database:
            found: int = database.execute("SELECT count(*) FROM fedmsg_stream_recent_ids").fetchone()[0]
            return found

    with bus.confirming() as context:
        for number in range(3):
            context.publish(topic="t", modname="m", msg={"n": number})
        assert commits() == 3
        assert len(list(context.publish_many({"topic": "t", "modname": "m"} for _ in range(5000)))) == 5000
        assert commits() < 1000


def test_relay_confirms_a_double_with_its_first_position_and_does_not_pass_it_on(bus: StreamBus) -> None:
    with Listener(bus) as listener, bus.confirming() as context, Raw(bus.confirmed) as raw:
        raw.greet()
        positions = []
        for options in ({}, {}, {"again": True}):
            raw.publish(1, **options)
            answer = raw.receive()
            assert answer.kind == protocol.OK
            positions.append(answer.fields[1])
        assert len(set(positions)) == 1
        context.publish(topic="t", modname="m", msg={"n": 2})
        listener.wait_for(2)
        assert listener.numbers() == [1, 2]
    assert bus.numbers() == [1, 2]


def test_confirmed_port_welcomes_with_the_span_of_the_stream(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path), relay_retention_messages=2)) as bus:
        with bus.confirming() as context:
            stored = [context.publish(topic="t", modname="m") for _ in range(5)]
        assert stored == [1, 2, 3, 4, 5]

        def span() -> tuple[int, int]:
            with Raw(bus.confirmed) as raw:
                options = raw.greet()
            assert (options["stream"], options["heartbeat"]) == (bus.figures()["stream"], protocol.HEARTBEAT)
            return options["first"], options["newest"]

        wait_until(lambda: span() == (4, 5))


def test_relay_confirms_what_has_passed_it_without_storing_it(bus: StreamBus) -> None:
    with Raw(bus.confirmed) as raw:
        stream = raw.greet()["stream"]
        raw.publish(1, via=["another", stream])
        assert raw.receive() == protocol.Message(protocol.OK, (b"1", 0))
        raw.publish(2, via=["another"])
        assert raw.receive().kind == protocol.OK
    assert [(number_of(entry.body), entry.via) for entry in bus.entries()] == [(2, ("another",))]


def test_republish_sends_the_very_same_bytes(bus: StreamBus) -> None:
    address, bus.config["relay_confirmed"] = bus.config["relay_confirmed"], [free_address()]
    msg = {"n": 1, "text": 'é\ud800 \x00"', "float": 1e16, "list": [None, True, -0.0]}
    with bus.confirming(timeout=0.1) as context, pytest.raises(NotConfirmed) as caught:
        context.publish(topic="t", modname="m", msg=msg)
    assert not caught.value.sent
    assert caught.value.exit_status == 3
    with bus.confirming(relay_confirmed=address) as context:
        assert [context.republish(caught.value.envelope) for _ in range(3)] == [1, 1, 1]
    (entry,) = bus.entries()
    assert encoding.loads(entry.body.decode()) == caught.value.envelope


def test_relay_takes_over_the_stream_when_the_other_one_ends(bus: StreamBus) -> None:
    with StreamBus(bus.url) as second:
        with bus.confirming() as context:
            assert context.publish(topic="t", modname="m", msg={"n": 1}) == 1
        with Process(["fedmsg-relay"], env=second.environ) as waiting:
            waiting.wait_for("another relay has the stream; waiting")
            bus.kill_relay()
            waiting.wait_ready()
            waiting.wait_for("taking over the stream")
            with second.confirming() as context:
                assert context.publish(topic="t", modname="m", msg={"n": 2}) == 2
            assert waiting.stop() == 0


def test_relay_that_waits_for_the_stream_can_be_stopped(bus: StreamBus) -> None:
    with StreamBus(bus.url) as second, Process(["fedmsg-relay"], env=second.environ) as waiting:
        waiting.wait_for("another relay has the stream; waiting")
        assert waiting.stop() == 0


# ---------------------------------------------------------------- kills


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_relay_killed_again_and_again_loses_nothing_confirmed(tmp_path: Path, full_size: bool) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus, Flow(bus, timeout=20) as flow:
        for _ in range(100 if full_size else 2):
            flow.wait_for(200)
            bus.kill_relay()
            bus.start_relay()
        flow.wait_for(200)
    stored = {entry.position: number_of(entry.body) for entry in bus.entries()}
    assert {number: stored.get(position) for number, position in flow.confirmed.items()} == {
        number: number for number in flow.confirmed
    }
    # No gap, no double, and the order of the calls although each kill broke a window in two.
    assert list(stored) == list(range(1, len(stored) + 1))
    assert list(stored.values()) == list(range(len(stored)))
    assert flow.unconfirmed == 0


def test_relay_stopped_in_good_order_under_load_has_stored_all_that_was_sent(tmp_path: Path) -> None:
    sent = 0
    with running(StreamBus(sqlite_url(tmp_path))) as bus, Flow(bus, timeout=20) as flow, bus.context() as context:
        flow.wait_for(10)

        def publish() -> bool:
            nonlocal sent
            with contextlib.suppress(NotListening):
                for _ in range(500):
                    context.publish(topic="plain", modname="m", msg={"plain": sent})
                    sent += 1
            return sent >= 5000

        wait_until(publish)
        assert bus.stop_relay() == 0
        bus.start_relay()
        flow.wait_for(10)
    bodies = [json.loads(entry.body)["msg"] for entry in bus.entries()]
    assert [msg["plain"] for msg in bodies if "plain" in msg] == list(range(sent))
    assert [msg["n"] for msg in bodies if "n" in msg] == list(range(len(bodies) - sent))


def test_publisher_goes_on_at_the_next_relay_within_2_seconds(tmp_path: Path) -> None:
    first, second = (StreamBus(sqlite_url(tmp_path, name)) for name in ("a.db", "b.db"))
    with running(first), running(second):
        relays = [first.confirmed, second.confirmed]
        with first.confirming(relay_confirmed=relays, timeout=2) as context:
            for number in range(10):
                context.publish(topic="t", modname="m", msg={"n": number})
            first.kill_relay()
            for number in range(10, 20):
                start = time.monotonic()
                context.publish(topic="t", modname="m", msg={"n": number})
                assert time.monotonic() - start < 2
    assert first.numbers() == list(range(10))
    assert second.numbers() == list(range(10, 20))


def test_publisher_goes_on_at_the_next_relay_when_one_does_not_confirm(tmp_path: Path) -> None:
    first, second = (StreamBus(sqlite_url(tmp_path, name)) for name in ("a.db", "b.db"))
    with running(first), running(second):
        relays = [first.confirmed, second.confirmed]
        with locked(tmp_path / "a.db"), first.confirming(relay_confirmed=relays, timeout=2) as context:
            context.publish(topic="t", modname="m", msg={"n": 1})
        wait_until(lambda: first.numbers() == [1])
    assert second.numbers() == [1]


# ---------------------------------------------------------------- the store is away


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of an SQLite database."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def recovers(bus: StreamBus, away: contextlib.AbstractContextManager[object], *, count: int = 5000) -> None:
    """Publish while the store is away, more than the relay keeps in memory; all of it is stored afterwards."""
    with Listener(bus) as listener, bus.context() as plain:
        plain.publish(topic="t", modname="m", msg={"n": 0})
        listener.wait_for(1)
        with away:
            with bus.confirming(timeout=0.5) as context, pytest.raises(NotConfirmed) as caught:
                context.publish(topic="t", modname="m", msg={"confirmed": True})
            assert caught.value.sent
            assert caught.value.exit_status == 4
            for number in range(1, count):
                plain.publish(topic="t", modname="m", msg={"n": number})
            assert bus.relay is not None
            bus.relay.wait_for("messages wait to be stored")
            assert listener.numbers() == [0]
        listener.wait_for(count + 1)
        assert listener.numbers() == bus.numbers() == list(range(count))
        bus.relay.wait_for("messages are stored again")
        with bus.confirming() as context:
            # It was stored although its publisher had no confirm; it is not doubled.
            position = context.republish(caught.value.envelope)
        assert [entry.position for entry in bus.entries() if b'"confirmed"' in entry.body] == [position]
    assert bus.stop_relay() == 0


def test_relay_waits_while_sqlite_is_locked(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        recovers(bus, locked(tmp_path / "stream.db"))


def test_relay_waits_while_postgresql_is_away() -> None:
    with Cluster() as cluster, running(StreamBus(cluster.create())) as bus:
        recovers(bus, killed(cluster))


@contextlib.contextmanager
def killed(cluster: Cluster) -> Iterator[None]:
    """Have PostgreSQL killed for as long as the block lasts."""
    cluster.kill()
    yield
    cluster.start_again()


def test_relay_waits_while_the_disk_is_full(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        assert bus.relay is not None
        recovers(bus, no_growth(bus.relay.popen.pid))


@contextlib.contextmanager
def no_growth(pid: int) -> Iterator[None]:
    """Keep a process from writing to any file beyond its first bytes."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_relay_answers_its_service_manager_and_stops_while_the_store_is_away(tmp_path: Path) -> None:
    bus = StreamBus(sqlite_url(tmp_path), stop_timeout=2)
    bus.environ["WATCHDOG_USEC"] = "200000"
    with running(bus), bus.context() as context, locked(tmp_path / "stream.db"):
        context.publish(topic="t", modname="m", msg={"n": 1})
        assert bus.relay is not None
        bus.relay.wait_for("messages wait to be stored")
        bus.relay.notifications()
        said: list[str] = []

        def is_watched() -> bool:
            assert bus.relay is not None
            said.extend(bus.relay.notifications())
            return said.count("WATCHDOG=1") >= 3 and any("waiting for the store" in line for line in said)

        wait_until(is_watched)
        relay = bus.relay
        # What it has can't be stored, and that is said.
        assert relay.stop() == 8
        relay.wait_for("1 messages could not be stored", stream="err")


def test_publishers_of_a_relay_whose_store_is_away_wait_with_bounded_memory(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus, bus.context() as context:
        assert bus.relay is not None
        with locked(tmp_path / "stream.db"):
            context.publish(topic="t", modname="m", msg={"n": 0})
            bus.relay.wait_for("messages wait to be stored")
            before = bus.relay.memory()
            with Raw(bus.confirmed) as raw:
                raw.greet()
                raw.socket.setsockopt(zmq.SNDTIMEO, 2000)
                sent = flood(raw)
            assert sent < 20_000
            # Two groups of 16 MiB, and what a thousand messages in the queue of a socket have.
            assert bus.relay.memory() - before < 200 * 1024


def flood(raw: Raw) -> int:
    """Send until the relay takes no more; return how many."""
    sent, body = 0, b"x" * 50_000
    with contextlib.suppress(zmq.Again):
        while sent < 20_000:
            raw.send(protocol.PUB, b"%d" % sent, {}, b"org.test", b'{"n": %d, "x": "' % sent + body + b'"}')
            sent += 1
    return sent


# ---------------------------------------------------------------- rejections


def test_relay_that_validates_answers_with_the_reason(tmp_path: Path) -> None:
    bench = certificates.Bench(tmp_path)
    mine = {f"shell.{socket.gethostname().split('.', 1)[0]}": "shell.test"}
    signing = StreamBus(sqlite_url(tmp_path), sign_messages=True, certnames=mine, **bench.config)
    with running(signing, "--validate") as bus, Listener(bus) as listener:
        with (
            bus.confirming(sign_messages=False) as context,
            pytest.raises(RejectedByRelay, match="not valid") as caught,
        ):
            context.publish(topic="t", modname="m", msg={"n": 1})
        assert caught.value.envelope["msg"] == {"n": 1}
        assert caught.value.exit_status == 1
        with bus.context(sign_messages=False) as context:
            context.publish(topic="t", modname="m", msg={"n": 2})
        with bus.confirming() as context:
            context.publish(topic="t", modname="m", msg={"n": 3})
        listener.wait_for(1)
        assert listener.numbers() == bus.numbers() == [3]


def test_publish_many_raises_at_the_first_rejection(bus: StreamBus) -> None:
    with bus.confirming() as context:
        messages = ({"topic": "t" * (5000 if n == 30 else 1), "modname": "m", "msg": {"n": n}} for n in range(60))
        context._session._topics.clear()
        positions = []
        with pytest.raises(ValueError, match="topic"):
            positions += list(context.publish_many(messages))
    assert bus.numbers() == list(range(30))


def test_confirmed_port_rejects_what_is_too_large(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path), max_message_size=1000)) as bus, Raw(bus.confirmed) as raw:
        raw.greet()
        raw.send(protocol.PUB, b"1", {}, b"org.test", b"x" * 1000)
        answer = raw.receive()
        assert (answer.kind, answer.fields[0]) == (protocol.NO, b"1")
        assert answer.fields[1]["code"] == protocol.CODE_REJECTED
        assert answer.fields[1]["retry"] is False
        assert "max_message_size" in answer.fields[1]["reason"]
        raw.publish(2)
        assert raw.receive().kind == protocol.OK


def test_relay_answers_many_messages_in_one_or_each_as_it_was_asked_to(tmp_path: Path) -> None:
    messages = [(number, b"org.test", body_of(number)) for number in range(1, 4)]
    messages[1] = (2, b"org.test", b"x" * 2000)
    with running(StreamBus(sqlite_url(tmp_path), max_message_size=1000)) as bus:
        for many in (True, False):
            with Raw(bus.confirmed) as raw:
                # Of who has not said HELLO nothing is taken.
                raw.socket.send_multipart(protocol.encode_pubs(messages))
                answer = raw.receive()
                assert (answer.kind, answer.fields[0]) == (protocol.NO, protocol.number(1))
                assert (answer.fields[1]["code"], answer.fields[1]["retry"]) == (protocol.CODE_HELLO, True)
                raw.send(protocol.HELLO, {"many": many})
                assert raw.receive().fields[0]["many"] is True
                raw.socket.send_multipart(protocol.encode_pubs(messages))
                answer = raw.receive()
                assert (answer.kind, answer.fields[0]) == (protocol.NO, protocol.number(2))
                assert answer.fields[1]["code"] == protocol.CODE_REJECTED
                expected = [(1, 1), (3, 2)]
                if many:
                    assert list(protocol.decode_oks(*raw.receive().fields)) == expected
                else:
                    answers = [raw.receive().fields for _ in expected]
                    assert [(protocol.read_number(id_), position) for id_, position in answers] == expected
        # The second time they were there already.
        assert bus.numbers() == [1, 3]


@pytest.mark.parametrize("size", [500, 1_500, 5_000])
def test_many_messages_fit_into_what_a_relay_takes(size: int, tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path), max_message_size=size)) as bus, bus.confirming() as context:
        assert bus.config["max_message_size"] == size
        messages = ({"topic": "t", "modname": "m", "msg": {"n": n}} for n in range(3000))
        assert list(context.publish_many(messages)) == list(range(1, 3001))
        assert context._session.confirmed is not None
        assert context._session.confirmed.statistics()["connections"] == 1


HOSTILE = [
    [b""],
    [b"FM1"],
    [b"FM2", b"HELLO", b"{}"],
    [b"FM1", b"NOTHING"],
    [b"FM1", b"HELLO"],
    [b"FM1", b"HELLO", b"{"],
    [b"FM1", b"HELLO", b"[]"],
    [b"FM1", b"HELLO", b"[" * 100_000],
    [b"FM1", b"PUB"],
    [b"FM1", b"PUB", b"1", b"{}", b"t"],
    [b"FM1", b"PUB", b"1", b"nonsense", b"t", b"{}"],
    [b"FM1", b"PUB", b"i" * 65, b"{}", b"t", b"{}"],
    [b"FM1", b"PUB", b"1", b'{"via": 1}', b"t", b"{}"],
    [b"FM1", b"PUB", b"1", b'{"via": [1]}', b"t", b"{}"],
    [b"FM1", b"PUB", b"1", b'{"via": ["\\u00e9"]}', b"t", b"{}"],
    [b"FM1", b"PUB", b"1", b'{"via": [' + b'"x",' * 200 + b'"x"]}', b"t", b"{}"],
    [b"FM1", b"PUBS", b"", b""],
    [b"FM1", b"PUBS", b"\0" * 15, b""],
    [b"FM1", b"PUBS", b"\0" * 16, b"x"],
    [b"FM1", b"PUBS", b"\0" * 8 + b"\xff" * 8, b"x"],
    [b"FM1", b"PUBS", b"\0" * 16 * 201, b""],
    [b"FM1", b"OKS", b"\0" * 15],
    [b"FM1", b"MSGS", b"\0" * 32, b""],
    [b"FM1", b"OK", b"1", b"\0" * 8],
    [b"FM1", b"NO", b"{}"],
    [b"FM1", b"PONG", b""],
    [b""] * 10_000,
    [b"\xff" * 100_000],
]


def test_confirmed_port_survives_hostile_frames(bus: StreamBus) -> None:
    with Raw(bus.confirmed) as raw:
        # Before HELLO, and after it.
        for _ in range(2):
            for frames in HOSTILE:
                raw.socket.send_multipart(frames)
            raw.send(protocol.HELLO, {})
            while raw.receive().kind != protocol.WELCOME:
                pass
        raw.publish(7)
        while (answer := raw.receive()).fields[0] != b"7":
            assert answer.kind == protocol.NO
        assert answer.kind == protocol.OK
    assert bus.numbers() == [7]
    assert bus.stop_relay() == 0


def test_confirmed_port_asks_a_stranger_for_hello(bus: StreamBus) -> None:
    with Raw(bus.confirmed) as raw:
        raw.publish(1)
        answer = raw.receive()
        assert answer.kind == protocol.NO
        assert answer.fields[1]["code"] == protocol.CODE_HELLO
        assert answer.fields[1]["retry"] is True
    assert bus.entries() == []
