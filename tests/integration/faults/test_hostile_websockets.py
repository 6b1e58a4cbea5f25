# SPDX-License-Identifier: LGPL-2.1-or-later
"""Strangers at the WebSocket port of a hub: whatever they do, the hub and its polite clients go on."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import websocket

from fedmsg.core import FedMsgContext
from fedmsg.testing import Bus, Process, free_port, wait_until
from tests.integration.browsing import UPGRADE, frame, raw, shake_hands
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import PREFIX, memory, threads, until_idle
from tests.open_files import descriptors

SLACK = 16 * 1024

Attack = Callable[[int, int], None]
SUBSCRIBE = json.dumps({"topic": "__topic_subscribe__", "body": ""}).encode()


@contextmanager
def impolite() -> Iterator[None]:
    """Expect that the other side ends the conversation at any point."""
    with contextlib.suppress(ConnectionError, TimeoutError, AssertionError, IndexError):
        yield


def come_and_go(port: int, times: int) -> None:
    """Connect and leave, politely and by a reset."""
    for number in range(times):
        with raw(port) as connection:
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def talk_nonsense(port: int, times: int) -> None:
    """Say what is no request for a WebSocket, or only the beginning of it."""
    noise = random.Random(5)
    openings = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\r\n" * 1000,
        b"GET " + b"x" * 20_000,
        UPGRADE[:-2] + b"X: y\r\n" * 1000 + b"\r\n",
        UPGRADE[:-2] + b"Origin: a\r\nOrigin: b\r\n\r\n",
        UPGRADE[:-2] + b"Origin: \xff\x1b[31m\r\n\r\n",
        UPGRADE[:-2] + b"Content-Length: 99999999999\r\n\r\n",
        UPGRADE.replace(b"13", b"99"),
        UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"\x00"),
        UPGRADE[:40],
        UPGRADE + b"\xff" * 1000,
    ]
    for number in range(times):
        with raw(port) as connection, impolite():
            opening = openings[number % len(openings)]
            connection.sendall(opening if number % 3 else opening + noise.randbytes(noise.randrange(2000)))
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)


def break_the_protocol(port: int, times: int) -> None:
    """Shake hands, and then send frames as nobody may."""
    noise = random.Random(7)
    frames = [
        frame(1, b"\xff\xfe"),
        frame(0, b"continued what?"),
        frame(1, b"begun", final=False) + frame(1, b"begun again"),
        frame(1, b"x" * 9000),
        frame(1, b"x" * 100, final=False) * 200,
        frame(9, b"x" * 126),
        frame(8, b"\x00"),
        frame(8, struct.pack(">H", 999) + b"\xff"),
        frame(11, b""),
        b"\xf1\x80\x00\x00\x00\x00",
        b"\x81\x05hello",
        b"\x81\xff" + b"\xff" * 8 + bytes(4),
        b"\x81\xfe\x00",
    ]
    for number in range(times):
        with raw(port) as connection, impolite():
            shake_hands(connection)
            connection.sendall(frames[number % len(frames)] if number % 4 else noise.randbytes(500))
            connection.shutdown(socket.SHUT_WR)
            connection.recv(100)


def say_nothing_of_use(port: int, times: int) -> None:
    """Send well-formed frames with bad contents, and subscriptions without end."""
    for number in range(times):
        with raw(port) as connection, impolite():
            shake_hands(connection)
            for count in range(200):
                body = json.dumps({"topic": "__topic_subscribe__", "body": f"{number}.{count}.{'x' * count}"})
                connection.sendall(frame(1, body.encode() if number % 2 else b'{"topic": [' * 100))
            while connection.recv(4096):
                pass


def ask_and_never_listen(port: int, times: int) -> None:
    """Send pings as fast as they are taken, and read no answer."""
    for _ in range(times):
        with raw(port, window=4096) as connection, impolite():
            shake_hands(connection)
            connection.settimeout(0.2)
            for _ in range(2000):
                connection.sendall(frame(9, b"x" * 125) * 100)


ATTACKS: list[tuple[Attack, int]] = [
    (come_and_go, 150),
    (talk_nonsense, 260),
    (break_the_protocol, 260),
    (say_nothing_of_use, 2),
    (ask_and_never_listen, 2),
]
ROUNDS = 50


class Polite:
    """A client that listens, and somebody who talks to it."""

    def __init__(self, port: int, context: FedMsgContext) -> None:
        self._context = context
        self._number = 0
        self.connection = websocket.create_connection(f"ws://127.0.0.1:{port}/", timeout=20, suppress_origin=True)
        self.connection.send(json.dumps({"topic": "__topic_subscribe__", "body": f"{PREFIX}.test.good"}))

    def greet(self) -> None:
        """Return once messages get through."""
        self.connection.settimeout(0.2)
        while True:
            self._context.publish("good", {"n": -1}, modname="test")
            try:
                self.connection.recv()
            except websocket.WebSocketTimeoutException:
                continue
            self.connection.settimeout(20)
            return

    def hear(self) -> None:
        """See that the next message gets through."""
        self._number += 1
        self._context.publish("good", {"n": self._number}, modname="test")
        while json.loads(self.connection.recv())["body"]["msg"]["n"] != self._number:
            pass


@pytest.mark.soak
def test_a_hub(figures: Figures, full_size: bool) -> None:
    port = free_port()
    with Bus() as bus, contextlib.ExitStack() as stack:
        bus.start_relay()
        context = stack.enter_context(bus.context())
        hub = stack.enter_context(Process(["fedmsg-hub", "--websocket-server-port", str(port)], env=bus.environ))
        hub.wait_ready()
        pid = hub.popen.pid
        polite = Polite(port, context)
        stack.callback(polite.connection.close)
        polite.greet()
        # The first round fills what is kept for the next ones.
        attack(port, polite)
        until_idle(pid)
        before = memory(pid), descriptors(pid), threads(pid)
        done = sum(attack(port, polite) for _ in range(ROUNDS if full_size else 1))
        wait_until(lambda: descriptors(pid) <= before[1], what="connections ended")
        after = memory(pid)
        assert threads(pid) == before[2]
        polite.hear()
        assert hub.stop() == 0, hub.report()
    assert after - before[0] < SLACK
    assert not [line for line in hub.err if "Traceback" in line]
    # What they do is told of, and not once for each.
    assert 0 < len([line for line in hub.out if "fedmsg.websocket.server" in line]) < 200
    figures(
        "hostile WebSocket clients of a hub", sent=done, arrived=0, lost=0, exits=0,
        memory_before=before[0], memory_after=after, remarks="polite clients got their messages between them",
    )  # fmt: skip


def attack(port: int, polite: Polite) -> int:
    """Try everything; how many things that were."""
    with contextlib.ExitStack() as standing:
        for number in range(100):
            connection = standing.enter_context(raw(port, window=4096))
            if number < 50:
                shake_hands(connection)
                connection.sendall(frame(1, SUBSCRIBE))
        for hostile, times in ATTACKS:
            hostile(port, times)
            # It has to answer the pings of the hub, too.
            polite.hear()
    return sum(times for _, times in ATTACKS)
