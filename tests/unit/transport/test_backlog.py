# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is connected to a bound socket, who has subscribed, and who takes nothing: as the kernel tells."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from fedmsg.testing import wait_until
from fedmsg.transport.zmq.subscribers import Subscribers
from tests.integration.faults.ground import frame, raw, shake_hands, stuck_subscriber

Plain = zmq.Socket[bytes]
Bound = tuple[Plain, Subscribers, str]


class Ground:
    """A context and its sockets, each of which is closed by the thread that made it."""

    def __init__(self) -> None:
        self.context: zmq.Context[Plain] = zmq.Context()
        self._made: list[Plain] = []

    def socket(self, kind: int) -> Plain:
        self._made.append(self.context.socket(kind))
        return self._made[-1]

    def close(self) -> None:
        for one in self._made:
            one.close(0)
        self.context.term()


@pytest.fixture
def ground() -> Iterator[Ground]:
    """Give a context that ends with everything in it."""
    made = Ground()
    yield made
    made.close()


@pytest.fixture
def bound(ground: Ground) -> Bound:
    """Give a publisher, its subscribers, and its address."""
    publisher = ground.socket(zmq.PUB)
    subscribers = Subscribers(ground.context, publisher)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    return publisher, subscribers, f"tcp://127.0.0.1:{port}"


def test_who_has_subscribed_counts(bound: Bound) -> None:
    _, subscribers, address = bound
    assert subscribers.subscribed() == 0
    with raw(address) as one, raw(address) as other:
        wait_until(lambda: len(subscribers._connected) == 2)
        # The one has shaken hands, the other has not even done that.
        shake_hands(one, b"XSUB")
        assert subscribers.subscribed() == 0
        one.sendall(frame(b"\x01"))
        wait_until(lambda: subscribers.subscribed() == 1)
        shake_hands(other, b"SUB")
        other.sendall(frame(b"\x01topic"))
        wait_until(lambda: subscribers.subscribed() == 2)
    wait_until(lambda: subscribers.subscribed() == 0)


@pytest.mark.parametrize("curve", [False, True])
def test_subscribers_of_zeromq(ground: Ground, curve: bool) -> None:
    publisher, subscriber = ground.socket(zmq.PUB), ground.socket(zmq.SUB)
    if curve:
        server, client = zmq.curve_keypair(), zmq.curve_keypair()
        publisher.curve_server, publisher.curve_secretkey = True, server[1]
        subscriber.curve_serverkey, subscriber.curve_publickey, subscriber.curve_secretkey = server[0], *client
    subscribers = Subscribers(ground.context, publisher)
    subscribers.mechanism = int(publisher.getsockopt(zmq.MECHANISM))
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    subscriber.connect(f"tcp://127.0.0.1:{port}")
    # Its handshake alone is not a subscription: it says what it wants a little later.
    wait_until(lambda: len(subscribers._connected) == 1)
    (connection,) = subscribers._connected.values()
    wait_until(lambda: connection._tcp()[0] > 64)
    assert subscribers.subscribed() == 0
    subscriber.subscribe(b"")
    wait_until(lambda: subscribers.subscribed() == 1)
    # And then what is published arrives.
    publisher.getsockopt(zmq.EVENTS)
    publisher.send(b"here")
    assert subscriber.poll(10_000)


def test_a_subscriber_by_a_path_counts_after_a_while(ground: Ground, tmp_path: Path) -> None:
    publisher, subscriber = ground.socket(zmq.PUB), ground.socket(zmq.SUB)
    subscribers = Subscribers(ground.context, publisher)
    publisher.bind(f"ipc://{tmp_path}/bus")
    subscriber.subscribe(b"")
    subscriber.connect(f"ipc://{tmp_path}/bus")
    wait_until(lambda: subscribers.subscribed() == 1)
    subscribers.look()
    assert subscribers.stuck(1) == []


def test_one_that_takes_nothing_is_shown_with_its_address(bound: Bound) -> None:
    publisher, subscribers, address = bound
    with stuck_subscriber(address) as stuck, raw(address) as fine:
        shake_hands(fine, b"SUB")
        fine.sendall(frame(b"\x01"))
        wait_until(lambda: subscribers.subscribed() == 2)
        publisher.getsockopt(zmq.EVENTS)
        for _ in range(100):
            publisher.send(bytes(10_000))
        fine.settimeout(0.2)
        wait_until(lambda: subscribers.stuck(0.5), meanwhile=lambda: look_and_read(subscribers, fine))
        (shown,) = subscribers.stuck(0.5)
        assert shown.address == "{}:{}".format(*stuck.getsockname())
        assert shown.unsent > 0
        assert shown.seconds >= 0.5
        assert subscribers.behind() >= 1
        # It takes something again, and is stuck no more.
        stuck.settimeout(0.2)
        wait_until(lambda: not subscribers.stuck(0.5), meanwhile=lambda: look_and_read(subscribers, stuck))
    wait_until(lambda: subscribers.behind() == 0)


def look_and_read(subscribers: Subscribers, connection: socket.socket) -> None:
    """Take what there is on a connection, and look."""
    try:
        while connection.recv(1 << 20):
            pass
    except TimeoutError:
        pass
    subscribers.look()


def test_an_ipv6_address_has_brackets(ground: Ground) -> None:
    publisher = ground.socket(zmq.PUB)
    publisher.setsockopt(zmq.IPV6, 1)
    subscribers = Subscribers(ground.context, publisher)
    port = publisher.bind_to_random_port("tcp://[::1]")
    with socket.create_connection(("::1", port)) as connection:
        wait_until(lambda: subscribers._connected)
        (shown,) = subscribers._connected.values()
        assert shown.address == f"[::1]:{connection.getsockname()[1]}"
