# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGTERM, SIGINT and SIGHUP, to a relay that is idle and to one that is busy."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from fedmsg.testing import Bus, wait_until
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import PREFIX, Witness, publishing, until_more

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


@contextmanager
def plain_publisher(address: str) -> Iterator[zmq.Socket[bytes]]:
    """Give a PUB socket as programs of old have it, connected and subscribed to."""
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket:  # a PUB, but that it can be asked whether somebody listens
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.connect(address)
        assert socket.poll(20_000), "the relay does not subscribe"
        socket.recv()
        yield socket
    context.term()


@SIGNALS
def test_an_idle_relay(number: signal.Signals) -> None:
    with Bus() as bus:
        relay = bus.start_relay()
        assert bus.stop_relay(number) == 0
    assert relay.err == []


@SIGNALS
@pytest.mark.soak
def test_what_was_handed_over_before_the_signal_arrives(
    number: signal.Signals, figures: Figures, full_size: bool
) -> None:
    count = 200_000 if full_size else 20_000
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        relay = bus.start_relay()
        witness.greet(bus)
        with plain_publisher(bus.config["relay_inbound"][0]) as socket:
            topic = f"{PREFIX}.test.handed".encode()
            for sent in range(count):
                socket.send_multipart([topic, b'{"msg":{"n":%d}}' % sent])
            status = bus.stop_relay(number)
            witness.wait_for(count, "handed")
        numbers = witness.numbers("handed")
    assert status == 0
    assert relay.err == []
    assert numbers == [*range(count)]
    figures(f"handed to a relay before {number.name}", sent=count, arrived=len(numbers), lost=0, exits=0)


@SIGNALS
def test_a_relay_under_the_load_of_our_publishers(number: signal.Signals) -> None:
    with (
        Bus({"timeout": 20}) as bus,
        Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness,
        bus.context() as context,
    ):
        relay = bus.start_relay()
        witness.greet(bus)
        published: list[int] = []

        def publish() -> None:
            while len(published) < 3000 or relay.popen.poll() is None:
                context.publish("load", {"n": len(published)}, modname="test")
                published.append(len(published))

        publisher = threading.Thread(target=publish)
        publisher.start()
        wait_until(lambda: len(published) > 1000)
        status = bus.stop_relay(number)
        # Whatever publish has returned for by now had reached the relay, which has passed it on before it ended.
        witness.wait_for(len(published), "load")
        so_far = len(witness.numbers("load"))
        # And the message in hand waits for the next relay.
        bus.start_relay()
        publisher.join()
        assert bus.stop_relay() == 0
        assert context.lost == 0
    assert status == 0
    assert relay.err == []
    assert witness.numbers("load")[:so_far] == [*range(so_far)]


def test_a_plain_publisher_that_never_stops() -> None:
    """It does not hold, so that something is still coming in when time is up; that is said."""
    with Bus({"stop_timeout": 1}) as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        relay = bus.start_relay()
        witness.greet(bus)
        with stubborn_publisher(bus.config["relay_inbound"][0]):
            witness.wait_for(1000, "stubborn")
            status = bus.stop_relay()
    assert status == 8
    assert len(relay.err) == 1
    assert "messages were still coming in" in relay.err[0]


@contextmanager
def stubborn_publisher(address: str) -> Iterator[None]:
    """Publish for as long as the block lasts, subscribed to or not."""
    stop = threading.Event()

    def run() -> None:
        context = zmq.Context()
        # The relay's subscription is not withdrawn at a PUSH-like publisher: manual, and never read.
        with context.socket(zmq.XPUB) as socket:
            socket.setsockopt(zmq.XPUB_MANUAL, 1)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
            assert socket.poll(20_000)
            socket.setsockopt(zmq.SUBSCRIBE, socket.recv()[1:])
            while not stop.wait(0.001):
                socket.send_multipart([f"{PREFIX}.test.stubborn".encode(), b'{"msg":{"n":1}}'])
        context.term()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_hang_up_leaves_it_running() -> None:
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness, bus.context() as context:
        relay = bus.start_relay()
        witness.greet(bus)
        with publishing(context, "load") as published:
            for _ in range(3):
                relay.popen.send_signal(signal.SIGHUP)
            relay.wait_for("SIGHUP")
            until_more(published, 1000)
        witness.wait_for(len(published), "load")
        assert context.lost == 0
        assert bus.stop_relay() == 0
    assert witness.numbers("load") == published


def test_a_tail_ends_with_0_on_both() -> None:
    with Bus() as bus:
        bus.start_relay()
        for number in (signal.SIGTERM, signal.SIGINT):
            with bus.tail("--json") as tail:
                assert tail.stop(number) == 0
                assert tail.err == []
        assert bus.stop_relay() == 0
