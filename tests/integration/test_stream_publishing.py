# SPDX-License-Identifier: LGPL-2.1-or-later
"""What publishes with confirms, against a relay that answers as the test wants it to."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth

import fedmsg
from fedmsg import _wire
from fedmsg.exceptions import MessageError, MissingEndpoint, NotConfirmed, RejectedByRelay
from fedmsg.stream import protocol, publishing
from fedmsg.stream.publishing import ConfirmedSink, Window
from fedmsg.testing import wait_until
from tests import open_files
from tests.integration.faults.ground import freeze
from tests.stream_relays import FakeRelay, StreamBus, body_of, running, sqlite_url

TOPIC = b"org.test"


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    with FakeRelay() as made:
        yield made


def sink_to(*relays: str, **settings: Any) -> ConfirmedSink:
    return ConfirmedSink({"timeout": 20, **settings}, relays)


def test_what_is_no_message_is_said_so(tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus, bus.confirming() as context:
        with pytest.raises(TypeError, match=r"a message is a dict with arguments of publish, not str$"):
            list(context.publish_many(["hello"]))  # type: ignore[list-item]
        with pytest.raises(TypeError, match=r"a message has no colour$"):
            list(context.publish_many([{"topic": "t", "colour": "red"}]))
        with pytest.raises(MessageError, match=r"an envelope is a dict, not NoneType$"):
            context.republish(None)  # type: ignore[arg-type]
        with pytest.raises(MessageError, match="its 'topic' is not text"):
            context.republish({"msg": {}})


def test_sink_confirms_in_any_order(relay: FakeRelay) -> None:
    with sink_to(relay.address) as sink:
        pending = [sink.begin(TOPIC, body_of(number), timeout=20) for number in range(3)]
        relay.greet()
        assert relay.take(3) == [0, 1, 2]
        assert relay.again == [False] * 3
        for number in (2, 0, 1):
            relay.send(protocol.OK, relay.last[number], number + 10)
        assert [sink.result(one) for one in pending] == [10, 11, 12]


def test_sink_sends_as_the_relay_takes_it(relay: FakeRelay) -> None:
    """A single message has fewer frames as one of many; options need a message of their own, as old relays do."""
    with sink_to(relay.address) as sink:
        pending = [sink.begin(TOPIC, body_of(number), timeout=20, again=number == 1) for number in range(2)]
        relay.greet(many=True)
        [(id_, topic, body)] = protocol.decode_pubs(*relay.receive(protocol.PUBS).fields)
        assert (topic, body) == (TOPIC, body_of(0))
        relay.send(protocol.OKS, id_ + protocol.number(7))
        assert relay.take(1) == [1]
        assert relay.again == [True]
        relay.send(protocol.OK, relay.last[0], 8)
        assert [sink.result(one) for one in pending] == [7, 8]
    with FakeRelay() as old, sink_to(old.address) as sink:
        sink.begin(TOPIC, body_of(0), timeout=20)
        old.greet()
        assert old.take(1) == [0]


def test_sink_sends_no_more_than_its_window(relay: FakeRelay) -> None:
    with sink_to(relay.address, publish_window=3) as sink:
        pending = [sink.begin(TOPIC, body_of(number), timeout=20) for number in range(5)]
        relay.greet()
        assert relay.take(3) == [0, 1, 2]
        assert not relay.hears(100)
        relay.send(protocol.OK, relay.last[0], 1)
        assert relay.take(1) == [3]
        assert sink.result(pending[0]) == 1


def test_sink_sends_again_in_order_what_was_not_confirmed(relay: FakeRelay) -> None:
    with sink_to(relay.address) as sink:
        pending = [sink.begin(TOPIC, body_of(number), timeout=20) for number in range(4)]
        relay.greet()
        assert relay.take(4) == [0, 1, 2, 3]
        relay.send(protocol.OK, relay.last[1], 2)
        assert sink.result(pending[1]) == 2
        relay.close()
        # Before that it would be sent on the old connection, too.
        wait_until(lambda: sink.statistics().get("resent") == 3)
        later = sink.begin(TOPIC, body_of(4), timeout=20)
        with FakeRelay(relay.address) as again:
            again.greet()
            assert again.take(4) == [0, 2, 3, 4]
            assert again.again == [True, True, True, False]
            for number, id_ in enumerate(again.last):
                again.send(protocol.OK, id_, number)
            assert [sink.result(one) for one in (pending[0], *pending[2:], later)] == [0, 1, 2, 3]


def test_sink_begins_again_when_the_relay_asks_for_it(relay: FakeRelay) -> None:
    with sink_to(relay.address) as sink:
        pending = [sink.begin(TOPIC, body_of(number), timeout=20) for number in range(2)]
        relay.greet()
        assert relay.take(2) == [0, 1]
        relay.send(protocol.NO, relay.last[0], {"code": protocol.CODE_HELLO, "reason": "hello?", "retry": True})
        relay.greet()
        assert relay.take(2) == [0, 1]
        assert relay.again == [True, True]
        for id_ in relay.last:
            relay.send(protocol.OK, id_, 7)
        assert [sink.result(one) for one in pending] == [7, 7]


def test_sink_raises_what_the_relay_has_rejected(relay: FakeRelay) -> None:
    with sink_to(relay.address) as sink:
        pending = sink.begin(TOPIC, body_of(1), timeout=20)
        relay.greet()
        relay.take(1)
        relay.send(protocol.NO, relay.last[0], {"code": "rejected", "reason": "not that", "retry": False})
        with pytest.raises(RejectedByRelay, match="not that") as caught:
            sink.result(pending)
        assert caught.value.envelope["msg"] == {"n": 1}
        assert caught.value.kind == "rejected"


@pytest.mark.parametrize("sent", [True, False])
def test_sink_says_whether_a_message_was_handed_over(relay: FakeRelay, sent: bool) -> None:
    with sink_to(relay.address) as sink:
        pending = sink.begin(TOPIC, body_of(1), timeout=0.3)
        if sent:
            relay.greet()
            relay.take(1)
        with pytest.raises(NotConfirmed) as caught:
            sink.result(pending)
        assert caught.value.sent is sent
        if not sent:
            # It is not sent later, either.
            other = sink.begin(TOPIC, body_of(2), timeout=20)
            relay.greet()
            assert relay.take(1) == [2]
            relay.send(protocol.OK, relay.last[0], 1)
            assert sink.result(other) == 1


def test_sink_answers_signs_of_life_and_sends_its_own(relay: FakeRelay) -> None:
    with sink_to(relay.address) as sink:
        pending = sink.begin(TOPIC, body_of(1), timeout=20)
        relay.greet()
        relay.take(1)
        relay.send(protocol.PING)
        relay.receive(protocol.PONG)
        relay.receive(protocol.PING)
        relay.send(protocol.OK, relay.last[0], 1)
        assert sink.result(pending) == 1


def test_sink_survives_answers_that_are_none(relay: FakeRelay) -> None:
    with sink_to(relay.address) as sink:
        pending = sink.begin(TOPIC, body_of(1), timeout=20)
        relay.greet()
        relay.take(1)
        for frames in ([b""], [b"FM1", b"OK"], [b"FM1", b"OK", b"1", b"2"], [b"FM1", b"NO", b"[]"], [b"FM1", b"NEW"]):
            relay.socket.send_multipart([relay.identity, *frames])
        relay.send(protocol.OK, b"another", 5)
        relay.send(protocol.OK, protocol.number(2**60), 5)
        relay.send(protocol.OK, relay.last[0], 1)
        assert sink.result(pending) == 1


def test_sink_goes_on_at_the_next_relay_in_its_share_of_the_time(relay: FakeRelay) -> None:
    with FakeRelay() as second, sink_to(relay.address, second.address) as sink:
        start = time.monotonic()
        pending = sink.begin(TOPIC, body_of(1), timeout=1)
        relay.greet()
        relay.take(1)
        second.greet()
        assert second.take(1) == [1]
        second.send(protocol.OK, second.last[0], 3)
        assert sink.result(pending) == 3
        assert 0.4 < time.monotonic() - start < 1
        # And stays there.
        later = sink.begin(TOPIC, body_of(2), timeout=20)
        assert second.take(1) == [2]
        second.send(protocol.OK, second.last[0], 4)
        assert sink.result(later) == 4


def test_sink_leaves_a_relay_that_turns_it_away(relay: FakeRelay) -> None:
    with FakeRelay() as second, sink_to(relay.address, second.address) as sink:
        pending = sink.begin(TOPIC, body_of(1), timeout=20)
        relay.receive(protocol.HELLO)
        relay.send(protocol.NO, {"code": protocol.CODE_BUSY, "reason": "there are too many clients"})
        second.greet()
        second.take(1)
        second.send(protocol.OK, second.last[0], 3)
        assert sink.result(pending) == 3


def test_window_has_all_that_is_unconfirmed_in_its_error(relay: FakeRelay) -> None:
    with sink_to(relay.address) as sink, Window(sink, 10, 0.5) as window:
        found = [position for number in range(3) for position in window.send(TOPIC, body_of(number))]
        relay.greet()
        relay.take(3)
        relay.send(protocol.OK, relay.last[0], 1)
        rest = window.finish()
        assert [*found, next(rest)] == [1]
        with pytest.raises(NotConfirmed) as caught:
            next(rest)
        assert [envelope["msg"]["n"] for envelope in caught.value.unconfirmed] == [1, 2]


def test_sink_that_is_closed_settles_what_waits(relay: FakeRelay) -> None:
    sink = sink_to(relay.address)
    pending = sink.begin(TOPIC, body_of(1), timeout=20)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            sink.result(pending)
        except NotConfirmed as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    sink.close()
    thread.join(5)
    assert len(caught) == 1


def test_contexts_of_a_process_share_a_sink(tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus:
        with bus.confirming() as one, bus.confirming() as two, bus.confirming(publish_window=5) as three:
            sinks = [context._session.confirmed_sink() for context in (one, two, three)]
            assert sinks[0] is sinks[1] is not sinks[2]
        assert publishing._shared._open == {}


def test_open_and_close_leave_nothing_behind(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus:

        def once() -> None:
            with bus.confirming() as context:
                context.publish(topic="t", modname="m")

        once()
        before = open_files.descriptors(), threading.active_count()
        for _ in range(50):
            once()
        assert (open_files.descriptors(), threading.active_count()) == before


def test_no_address_of_a_relay(tmp_path: Path) -> None:
    with (
        StreamBus(sqlite_url(tmp_path)) as bus,
        bus.confirming(relay_confirmed=[]) as context,
        pytest.raises(MissingEndpoint, match="relay_confirmed"),
    ):
        context.publish(topic="t", modname="m")


def test_bytes_of_an_envelope_are_the_same_when_it_is_read_and_written_again() -> None:
    for text in ('{"a":1e+16}', '{"a":-0.0}', '{"a":"\\ud800\\u0000"}', '{"a":10000000000000000000000}'):
        body = b'{"i":1,"msg":%b,"msg_id":"2026-1","timestamp":1,"topic":"t","username":"u"}' % text.encode()
        assert _wire.encode(_wire.parse(b"t", body), "t") == body


def test_functions_of_the_module(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        fedmsg.init(**bus.config, active=True, name="relay_inbound")
        try:
            assert fedmsg.publish(topic="t", modname="m", msg={"n": 0}, confirm=True) == 1
            assert list(fedmsg.publish_many({"topic": "t", "msg": {"n": n}} for n in (1, 2))) == [2, 3]
            envelope = _wire.parse(bus.entries()[1].topic, bus.entries()[1].body)
            assert fedmsg.republish(envelope) == 2
            assert fedmsg.publish(topic="t", modname="m", msg={"n": 3}) is None
            wait_until(lambda: bus.numbers() == [0, 1, 2, 3])
        finally:
            fedmsg.destroy()


FORKING = """
import os, sys
from fedmsg.core import FedMsgContext
with FedMsgContext(relay_confirmed=sys.argv[1], publish_confirm=True, timeout=10, name="n") as context:
    positions = [context.publish(topic="t", modname="m", msg={"n": 0})]
    child = os.fork()
    positions.append(context.publish(topic="t", modname="m", msg={"n": 1 + (child == 0)}))
    assert child == 0 or os.waitpid(child, 0)[1] == 0
assert len(set(positions)) == 2
"""


def test_child_of_a_fork_confirms_by_a_connection_of_its_own(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        command = [sys.executable, "-W", "error", "-c", FORKING, bus.confirmed]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert sorted(bus.numbers()) == [0, 1, 2]


def test_publisher_leaves_a_relay_that_is_frozen(tmp_path: Path) -> None:
    first, second = (StreamBus(sqlite_url(tmp_path, name)) for name in ("a.db", "b.db"))
    relays = [first.confirmed, second.confirmed]
    with running(first), running(second), first.confirming(relay_confirmed=relays, timeout=2) as context:
        context.publish(topic="t", modname="m", msg={"n": 1})
        assert first.relay is not None
        freeze(first.relay.popen.pid)
        context.publish(topic="t", modname="m", msg={"n": 2})
        assert second.numbers() == [2]
        first.relay.popen.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("server", ["relay_confirmed", "relay_inbound"])
def test_confirmed_port_admits_only_known_publishers(server: str, tmp_path: Path) -> None:
    (tmp_path / "publishers").mkdir()
    for name in ("relay", "known", "stranger"):
        _, secret = zmq.auth.create_certificates(tmp_path, name)
        Path(secret).chmod(0o600)
    (tmp_path / "publishers" / "known.key").write_bytes((tmp_path / "known.key").read_bytes())
    keys = {"curve_key": f"{tmp_path}/relay.key_secret", "curve_publishers": f"{tmp_path}/publishers"}
    with running(StreamBus(sqlite_url(tmp_path), **keys)) as bus:
        for name, admitted in (("known", True), ("stranger", False), ("", False)):
            mine = {"curve_key": f"{tmp_path}/{name}.key_secret", "curve_servers": {server: f"{tmp_path}/relay.key"}}
            with bus.confirming(**(mine if name else {"curve_key": None}), timeout=5 if admitted else 0.5) as context:
                if admitted:
                    assert context.publish(topic="t", modname="m") == 1
                else:
                    with pytest.raises(NotConfirmed) as caught:
                        context.publish(topic="t", modname="m")
                    assert not caught.value.sent
        assert len(bus.entries()) == 1


class Interrupted(Exception):
    """Raised by a signal handler."""


@contextlib.contextmanager
def alarm(handle: Callable[[], object]) -> Iterator[None]:
    """Call a function in a signal handler, shortly after the beginning of the block."""
    before = signal.signal(signal.SIGALRM, lambda *_: handle())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_signal_handler_publishes_in_the_middle_of_a_publish(tmp_path: Path) -> None:
    positions: list[int | None] = []
    with running(StreamBus(sqlite_url(tmp_path))) as bus, bus.confirming() as context:
        with alarm(lambda: positions.append(context.publish(topic="handler", modname="m"))):
            while not positions:
                context.publish(topic="t", modname="m", msg={"n": 1})
        topics = [entry.topic for entry in bus.entries()]
    assert positions == [topics.index(b"org.fedoraproject.dev.m.handler") + 1]


def test_signal_handler_that_raises_leaves_the_context_usable(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise Interrupted

    with StreamBus(sqlite_url(tmp_path)) as bus, bus.confirming(timeout=20) as context:
        with alarm(interrupt), pytest.raises(Interrupted):
            context.publish(topic="t", modname="m", msg={"n": 1})
        bus.start_relay()
        # The one that was interrupted is not sent any more.
        assert context.publish(topic="t", modname="m", msg={"n": 2}) == 1
