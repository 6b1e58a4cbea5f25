# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forwarder on real sockets: bytes in, bytes out, and an honest end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg.exceptions import AddressInUse, ConfigError, MessageError, TransportError
from fedmsg.testing import free_address, wait_until
from fedmsg.transport.zmq.forwarder import Forwarder, Outcome
from fedmsg.transport.zmq.subscribers import remember, remembered

LOCAL = "tcp://127.0.0.1:*"


Sockets = Callable[[int], "zmq.Socket[bytes]"]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """Makes sockets without limits, and closes them."""
    context, made = zmq.Context(), []

    def make(kind: int) -> zmq.Socket[bytes]:
        made.append(context.socket(kind))
        made[-1].set_hwm(0)
        return made[-1]

    yield make
    for each in made:
        each.close(0)
    context.term()


def forwarder(**options: Any) -> Forwarder:
    return Forwarder({}, [LOCAL], [LOCAL], limit=200_000, **options)


def ends(sockets: Sockets, running: Forwarder) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """A publisher and a subscriber that a first message has passed between."""
    publisher, subscriber = sockets(zmq.PUB), sockets(zmq.SUB)
    subscriber.subscribe(b"")
    publisher.connect(running.inbound[0])
    subscriber.connect(running.outbound)
    while not subscriber.poll(10):
        publisher.send_multipart([b"hello", b"{}"])
    while subscriber.poll(200):
        subscriber.recv_multipart()
    return publisher, subscriber


MESSAGES = [[b"", b""], [b"a"], [b"a", b"b", b"c"], [b"\xff\x00", bytes(range(256))], [b"t", b"x" * 100_000]]


def test_frames_pass_untouched_whatever_they_are(sockets: Sockets) -> None:
    with forwarder() as running:
        publisher, subscriber = ends(sockets, running)
        for frames in MESSAGES:
            publisher.send_multipart(frames)
        assert [subscriber.recv_multipart() for _ in MESSAGES] == MESSAGES


def test_statistics(sockets: Sockets) -> None:
    with forwarder() as running:
        publisher, subscriber = ends(sockets, running)
        before = running.statistics()
        for _ in range(10):
            publisher.send_multipart([b"topic", b"body!"])
        for _ in range(10):
            subscriber.recv_multipart()
        after = running.statistics()
    assert [new - old for new, old in zip(after, before, strict=True)] == [10, 100, 10, 100, 0]


def test_checked_messages_pass_or_are_counted(sockets: Sockets) -> None:
    def check(frame: bytes, body: bytes) -> bytes:
        if body == b"bad":
            raise MessageError("bad", "bad")
        return body * 2

    with forwarder(check=check) as running:
        publisher, subscriber = ends(sockets, running)
        for frames in ([b"t", b"bad"], [b"t"], [b"t", b"1"], [b"t", b"1", b"2"], [b"t", b"2"]):
            publisher.send_multipart(frames)
        assert [subscriber.recv_multipart() for _ in range(2)] == [[b"t", b"11"], [b"t", b"22"]]
        assert running.statistics().rejected == 3
        assert running.rejections.counts == {"bad": 1, "frames": 2}


@pytest.mark.parametrize("checked", [False, True])
def test_what_was_handed_over_arrives_at_the_end(checked: bool, sockets: Sockets) -> None:
    running = forwarder(check=(lambda frame, body: body) if checked else None).start()
    publisher, subscriber = ends(sockets, running)
    for number in range(20_000):
        publisher.send_multipart([b"t", b"%d" % number])
    outcome = running.stop(10)
    assert outcome.complete
    received = []
    while subscriber.poll(200):
        received.append(int(subscriber.recv_multipart()[1]))
    assert received == list(range(20_000))


def test_an_idle_one_stops_at_once() -> None:
    assert forwarder().start().stop(5) == Outcome(0, 0, still_arriving=False, behind=0)


def test_more_than_time_allows_is_said(sockets: Sockets) -> None:
    running = forwarder().start()
    publisher, _subscriber = ends(sockets, running)
    for number in range(50_000):
        publisher.send_multipart([b"t", b"x" * 100 + b"%d" % number])
    outcome = running.stop(0)
    assert outcome.still_arriving
    assert not outcome.complete


def test_a_subscriber_that_is_behind_is_counted(sockets: Sockets) -> None:
    running = forwarder().start()
    publisher, subscriber = ends(sockets, running)
    subscriber.close(0)
    # A subscriber whose queue is full and that reads nothing.
    stuck = sockets(zmq.SUB)
    stuck.set_hwm(1)
    stuck.setsockopt(zmq.RCVBUF, 4096)
    stuck.subscribe(b"")
    stuck.connect(running.outbound)
    before = running.statistics().messages_in
    sent = 2_000
    while not stuck.poll(10):
        publisher.send_multipart([b"t", b"hello"])
        sent += 1
    for _ in range(2_000):
        publisher.send_multipart([b"t", bytes(10_000)])
    wait_until(lambda: running.statistics().messages_in >= before + sent)
    outcome = running.stop(1)
    assert (outcome.drained, outcome.still_arriving, outcome.behind) == (0, False, 1)
    assert not outcome.complete


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield f"tcp://127.0.0.1:{holder.getsockname()[1]}"


def test_a_taken_inbound_address_is_an_error(taken: str) -> None:
    with pytest.raises(AddressInUse, match=rf"relay_inbound: {taken} can't be bound: Address already in use"):
        Forwarder({}, [LOCAL, taken], [LOCAL], limit=1).start()


def test_the_first_free_outbound_address_is_taken(taken: str) -> None:
    free = free_address()
    with Forwarder({}, [LOCAL], [taken, free], limit=1) as running:
        assert running.outbound == free


def test_no_free_outbound_address_is_an_error(taken: str) -> None:
    with pytest.raises(AddressInUse, match=r"^Failed to bind to any outbound endpoints\. .*Address already in use"):
        Forwarder({}, [LOCAL], [taken], limit=1).start()


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:2003", "tcp://no-such-host.invalid:2003", "ipc:///nowhere/x"])
def test_an_address_that_is_not_ours_to_bind(address: str) -> None:
    for arguments in ([address], [LOCAL]), ([LOCAL], [address]):
        with pytest.raises(ConfigError, match=rf"{address} can't be bound"):
            Forwarder({}, *arguments, limit=1).start()


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError, match="relay_inbound: 'nonsense' is no address"):
        Forwarder({}, ["nonsense"], [LOCAL], limit=1).start()


def test_stopping_twice_does_no_harm_and_nothing_answers_afterwards() -> None:
    running = forwarder().start()
    running.stop()
    assert running.stop() == Outcome(0, 0, still_arriving=False, behind=0)
    assert not running.running
    with pytest.raises(TransportError, match="not running"):
        running.statistics()


def test_every_inbound_address_is_bound(sockets: Sockets) -> None:
    with Forwarder({}, [LOCAL, LOCAL], [LOCAL], limit=1000) as running:
        _first, subscriber = ends(sockets, running)
        second = sockets(zmq.PUB)
        second.connect(running.inbound[1])
        while not subscriber.poll(10):
            second.send_multipart([b"second", b""])
        assert subscriber.recv_multipart() == [b"second", b""]


# ---------------------------------------------------------------- after a restart


@pytest.fixture
def outbound() -> str:
    """Give an address at which the same subscribers may come back."""
    return free_address()


def remembering(folder: Path, outbound: str, **options: Any) -> Forwarder:
    return Forwarder({"state_directory": str(folder)}, [LOCAL], [outbound], limit=200_000, **options)


def sent(running: Forwarder, publisher: zmq.Socket[bytes], count: int) -> None:
    """Hand some messages to a forwarder; a later one has to wait for its subscription."""
    publisher.connect(running.inbound[0])
    assert publisher.recv() == b"\x01"
    for number in range(count):
        publisher.send_multipart([b"t", b"%d" % number])


def received(subscriber: zmq.Socket[bytes], count: int) -> list[int]:
    return [int(subscriber.recv_multipart()[1]) for _ in range(count)]


@pytest.mark.parametrize("checked", [False, True])
def test_former_subscribers_are_waited_for(
    checked: bool, sockets: Sockets, tmp_path: Path, outbound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmsg.transport.zmq.forwarder.RETURN_TIMEOUT", 60)
    check = (lambda frame, body: body) if checked else None
    first, second = sockets(zmq.SUB), sockets(zmq.SUB)
    with remembering(tmp_path, outbound, check=check) as running:
        for subscriber in (first, second):
            subscriber.subscribe(b"")
            subscriber.setsockopt(zmq.RECONNECT_IVL, 10)
            subscriber.connect(outbound)
        wait_until(lambda: running.look() == 2)
    second.close(0)
    second = sockets(zmq.SUB)
    second.subscribe(b"")
    with remembering(tmp_path, outbound, check=check) as running:
        # A subscriber that has been cut off subscribes again when it next looks at its socket.
        wait_until(lambda: running.look() == 1, meanwhile=lambda: first.poll(0))
        sent(running, sockets(zmq.XPUB), 1000)
        # The one that is back has to wait for the other, whose messages these are, too.
        assert first.poll(100) == 0
        assert running.statistics().messages_out == 0
        assert running.running
        second.connect(outbound)
        assert received(first, 1000) == received(second, 1000) == [*range(1000)]


def test_those_who_do_not_come_back_are_not_waited_for_long(
    sockets: Sockets, tmp_path: Path, outbound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmsg.transport.zmq.forwarder.RETURN_TIMEOUT", 0.5)
    remember({"state_directory": str(tmp_path)}, outbound, 5)
    subscriber = sockets(zmq.SUB)
    subscriber.subscribe(b"")
    with remembering(tmp_path, outbound) as running:
        subscriber.connect(outbound)
        wait_until(lambda: running.look() == 1)
        sent(running, sockets(zmq.XPUB), 10)
        assert received(subscriber, 10) == [*range(10)]
        wait_until(lambda: running.look() == 1)
    # From now on that one is all that is expected.
    assert remembered({"state_directory": str(tmp_path)}, outbound) == 1


def test_a_stop_bounds_the_waiting_and_the_number_stays(
    sockets: Sockets, tmp_path: Path, outbound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmsg.transport.zmq.forwarder.RETURN_TIMEOUT", 60)
    config = {"state_directory": str(tmp_path)}
    remember(config, outbound, 5)
    running = remembering(tmp_path, outbound).start()
    subscriber = sockets(zmq.SUB)
    subscriber.subscribe(b"")
    subscriber.connect(outbound)
    wait_until(lambda: running.look() == 1)
    sent(running, sockets(zmq.XPUB), 10)
    # What was handed over is passed on to those who are there by the end.
    assert running.stop(1) == Outcome(10, 10, still_arriving=False, behind=0)
    assert received(subscriber, 10) == [*range(10)]
    assert remembered(config, outbound) == 5


def test_who_comes_back_while_it_stops_is_passed_what_was_held(
    sockets: Sockets, tmp_path: Path, outbound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmsg.transport.zmq.forwarder.RETURN_TIMEOUT", 60)
    remember({"state_directory": str(tmp_path)}, outbound, 1)
    running = remembering(tmp_path, outbound).start()
    sent(running, sockets(zmq.XPUB), 10)
    subscriber = sockets(zmq.SUB)
    subscriber.subscribe(b"")
    comes_back = threading.Timer(0.5, lambda: subscriber.connect(outbound))
    comes_back.start()
    assert running.stop(20) == Outcome(10, 10, still_arriving=False, behind=0)
    comes_back.join()
    assert received(subscriber, 10) == [*range(10)]


def test_an_idle_one_does_not_wait_when_it_is_stopped(tmp_path: Path, outbound: str) -> None:
    remember({"state_directory": str(tmp_path)}, outbound, 1)
    running = remembering(tmp_path, outbound).start()
    start = time.monotonic()
    assert running.stop(20) == Outcome(0, 0, still_arriving=False, behind=0)
    # Control: with something to hold it waits, see above.
    assert time.monotonic() - start < 5


def test_a_forgotten_one_warns() -> None:
    running = forwarder().start()
    with pytest.warns(ResourceWarning, match="unclosed Forwarder"):
        running.__del__()
    running.stop()
