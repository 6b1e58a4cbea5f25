# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plain publisher without limits: sends numbered messages into what is being timed."""

from __future__ import annotations

import gc
import itertools
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import zmq

from tests.bench.programs import payload
from tests.bench.programs.link import serve

_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
_sockets: list[zmq.Socket[bytes]] = []
_prepared: list[bytes] = []
_greeting: list[bytes] = list(payload.GREETING)


def _open() -> zmq.Socket[bytes]:
    # An XPUB is a PUB that shows its subscriptions.
    socket = _context.socket(zmq.XPUB)
    socket.set_hwm(0)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, 10)
    _sockets.append(socket)
    return socket


def bind(sockets: int) -> list[str]:
    """Open some sockets and give their addresses."""
    return [f"tcp://127.0.0.1:{_open().bind_to_random_port('tcp://127.0.0.1')}" for _ in range(sockets)]


def connect(address: str) -> None:
    """Open one socket to a relay."""
    _open().connect(address)


def subscribed() -> None:
    """Wait until everything is subscribed to on each socket, once more than before."""
    for socket in _sockets:
        while socket.recv() != b"\x01":
            pass


def greet() -> None:
    """Send one message that is not counted."""
    for socket in _sockets:
        socket.send_multipart(_greeting)


def read_greeting(path: str) -> None:
    """Greet with the message in a file from now on."""
    _greeting[1] = Path(path).read_bytes()


def prepare(first: int, count: int) -> None:
    """Make messages to `blast`, so that it does nothing but send."""
    _prepared[:] = [payload.body(number) for number in range(first, first + count)]
    gc.freeze()


def prepare_file(path: str, count: int) -> None:
    """Make the messages in a file, one in each line, again and again, to `blast`."""
    _prepared[:] = itertools.islice(itertools.cycle(Path(path).read_bytes().splitlines()), count)
    gc.freeze()


def blast() -> float:
    """Send the prepared messages as fast as it goes.

    Returns:
        When the first was sent, by the clock that all processes share.
    """
    start = time.perf_counter()
    _send(_prepared)
    return start


def send(first: int, count: int) -> None:
    """Send messages, in turn on all sockets."""
    for number in range(first, first + count):
        socket = _sockets[number % len(_sockets)]
        socket.send(payload.TOPIC.encode(), zmq.SNDMORE)
        socket.send(payload.body(number))


def pace(first: int, count: int, per_second: int) -> list[float]:
    """Send messages at a steady rate.

    Returns:
        When each was sent.
    """
    sent = []
    clock = {signal.SIGALRM}
    signal.pthread_sigmask(signal.SIG_BLOCK, clock)
    signal.setitimer(signal.ITIMER_REAL, 1 / per_second, 1 / per_second)
    for number in range(first, first + count):
        body = payload.body(number)
        signal.sigwait(clock)
        sent.append(time.perf_counter())
        _send([body])
    signal.setitimer(signal.ITIMER_REAL, 0)
    return sent


def _send(bodies: Sequence[bytes]) -> None:
    send_frame, more, topic = _sockets[0].send, int(zmq.SNDMORE), payload.TOPIC.encode()
    for body in bodies:
        send_frame(topic, more)
        send_frame(body)


serve(
    {
        "bind": bind,
        "connect": connect,
        "subscribed": subscribed,
        "greet": greet,
        "read_greeting": read_greeting,
        "prepare": prepare,
        "prepare_file": prepare_file,
        "blast": blast,
        "send": send,
        "pace": pace,
    }
)
