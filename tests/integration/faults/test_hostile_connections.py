# SPDX-License-Identifier: LGPL-2.1-or-later
"""Strangers that connect to relay and publisher, and then do anything but what they should."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedmsg.testing import Bus, Process, free_address, wait_until
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import (
    GREETING,
    Witness,
    frame,
    memory,
    raw,
    ready,
    shake_hands,
    threads,
    until_idle,
)
from tests.open_files import descriptors

IDLE = Path(__file__).with_name("idle.py")
SLACK = 12 * 1024
# Of connections that are reset, libzmq closes a few only with the next ones.
FORGOTTEN = 5

Attack = Callable[[str, int], None]


@contextmanager
def impolite() -> Iterator[None]:
    """Expect that the other side ends the conversation at any point."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        yield


def come_and_go(address: str, times: int) -> None:
    """Connect and leave, politely and by a reset."""
    for number in range(times):
        with raw(address) as connection:
            # Some wait to be greeted, lest the kernel makes those wait for a second that it has no room for.
            if number % 3:
                connection.recv(1)
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def talk_nonsense(address: str, times: int) -> None:
    """Say what is no ZeroMQ, or only the beginning of it."""
    noise = random.Random(5)
    command = ready(b"SUB")
    openings = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\x00" * 1000,
        b"\xff" * 1000,
        b"\x01\x00",
        b"\x0a\x00" + b"1" * 9,
        GREETING[:10],
        GREETING[:40],
        GREETING,
        GREETING[:10] + b"\x09\x09" + GREETING[12:],
        GREETING[:12] + b"PLAIN".ljust(20, b"\x00") + bytes(32),
        GREETING[:12] + b"CURVE".ljust(20, b"\x00") + bytes(32) + command,
        GREETING + command[:10],
        GREETING + ready(b"REQ"),
        GREETING + ready(b"x" * 200),
        GREETING + b"\x04\x05READY",
        GREETING + b"\x06" + b"\xff" * 8,
        GREETING + b"\x06" + struct.pack(">Q", 2**62),
        GREETING + b"\x04\x19\x05READY\x0bSocket-Type\xff\xff\xff\xffSUB",
        GREETING + b"\x04\x07\x05ERROR\xff",
        GREETING + command + command,
        GREETING + command + b"\x04\x05\x04PING",
        GREETING + frame(b"\x01") * 10,
    ]
    for number in range(times):
        with raw(address) as connection, impolite():
            opening = openings[number % len(openings)]
            connection.sendall(opening if number % 3 else opening + noise.randbytes(noise.randrange(2000)))
            connection.recv(1)


def change_its_mind(address: str, times: int) -> None:
    """Subscribe and unsubscribe without end, to topics short and long."""
    with raw(address) as connection, impolite():
        shake_hands(connection, b"SUB")
        for number in range(times):
            topic = b"%d" % (number % 1000) + b"x" * (number % 200)
            connection.sendall(frame(b"\x01" + topic) + frame(b"\x00" + topic) + frame(b"\x00never subscribed"))


def speak_out_of_turn(address: str, times: int) -> None:
    """Shake hands, and then send what nobody sends to this kind of socket."""
    noise = random.Random(7)
    for number in range(times):
        with raw(address) as connection, impolite():
            shake_hands(connection, (b"SUB", b"XSUB", b"PUB", b"XPUB")[number % 4])
            connection.sendall(
                [
                    frame(noise.randbytes(300)) * 3,
                    b"\x01\x03abc" * 50,
                    b"\x03" + b"\xff" * 8,
                    b"\x02" + struct.pack(">Q", 2**63),
                    frame(b"\x01" + b"t" * 100_000),
                    frame(b""),
                    frame(b"\x02\x03"),
                    b"\xf8\x01\x01",
                ][number % 8]
            )


ATTACKS: list[tuple[Attack, int, int]] = [
    (come_and_go, 2000, 100_000),
    (talk_nonsense, 1000, 50_000),
    (change_its_mind, 10_000, 2_000_000),
    (speak_out_of_turn, 600, 20_000),
]


def attack(address: str, *, full_size: bool, between: Callable[[], object] = lambda: None) -> int:
    """Try everything, while others just stand there, most of them with half a handshake.

    Returns:
        How many things were done.
    """
    noise = random.Random(3)
    with contextlib.ExitStack() as standing:
        for _ in range(200):
            connection = standing.enter_context(raw(address))
            connection.sendall(GREETING[: noise.randrange(64)])
            connection.recv(1)
        for hostile, few, many in ATTACKS:
            hostile(address, many if full_size else few)
            between()
    return sum(many if full_size else few for _, few, many in ATTACKS)


@pytest.mark.parametrize("side", ["inbound", "outbound"])
@pytest.mark.soak
def test_a_relay(side: str, figures: Figures, full_size: bool) -> None:
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness, bus.context() as context:
        relay = bus.start_relay()
        witness.greet(bus)
        pid = relay.popen.pid
        address = bus.config["relay_inbound"][0] if side == "inbound" else bus.config["endpoints"]["relay_outbound"][0]
        attack(address, full_size=False)
        wait_until(lambda: descriptors(pid) < 50)
        before = memory(pid), descriptors(pid), threads(pid)
        sent: list[int] = []

        def say_something_good() -> None:
            context.publish("good", {"n": len(sent)}, modname="test")
            sent.append(len(sent))
            witness.wait_for(len(sent), "good")

        done = attack(address, full_size=full_size, between=say_something_good)
        wait_until(lambda: descriptors(pid) <= before[1] + FORGOTTEN, what="connections ended")
        after = memory(pid)
        assert context.lost == 0
        assert threads(pid) == before[2]
        assert bus.stop_relay() == 0
    assert witness.numbers("good") == sent
    assert after - before[0] < SLACK
    assert relay.err == []
    figures(
        f"hostile connections to a relay's {side}", sent=done, arrived=0, lost=0, exits=0,
        memory_before=before[0], memory_after=after, remarks=f"{len(sent)} good messages between them came through",
    )  # fmt: skip


@pytest.mark.soak
def test_an_idle_publisher(figures: Figures, full_size: bool) -> None:
    address = free_address()
    settings = {"name": "me.here", "endpoints": {"me.here": [address]}, "post_init_sleep": 20}
    with (
        Process([sys.executable, str(IDLE), json.dumps(settings)], stdin=True) as publisher,
        Witness(address) as witness,
    ):
        stdin = publisher.popen.stdin
        assert stdin is not None
        pid = publisher.popen.pid

        def publish(number: int) -> None:
            stdin.write(b"%d\n" % number)
            stdin.flush()

        publisher.wait_for("ready")
        publish(0)
        witness.wait_for(1, "idle")
        attack(address, full_size=False)
        wait_until(lambda: descriptors(pid) < 50)
        before = memory(pid), descriptors(pid), threads(pid)
        done = 0
        for _ in range(50 if full_size else 1):
            done += attack(address, full_size=False)
            # ZeroMQ keeps for its owner what subscribers say, without a limit; here the owner is Python.
            until_idle(pid)
        wait_until(lambda: descriptors(pid) <= before[1] + FORGOTTEN, what="connections ended")
        after = memory(pid)
        publish(1)
        witness.wait_for(2, "idle")
        assert threads(pid) == before[2]
        stdin.close()
        assert publisher.wait() == 0
    assert witness.numbers("idle") == [0, 1]
    assert publisher.err == []
    assert after - before[0] < SLACK
    figures(
        "hostile connections to an idle bound publisher", sent=done, arrived=0, lost=0, exits=0,
        memory_before=before[0], memory_after=after,
    )  # fmt: skip
