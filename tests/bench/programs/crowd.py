# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many plain subscribers of one address: counts what comes, each message once for each of them."""

from __future__ import annotations

from collections import Counter

import zmq

from tests.bench.programs import payload
from tests.bench.programs.link import serve

_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
# One socket with many connections. A SUB would take them for one, and a socket for each would
# take longer to read than what is measured takes to send.
_socket = _context.socket(zmq.XSUB)
_socket.set_hwm(0)
_socket.setsockopt(zmq.RECONNECT_IVL, 10)
_subscribers = 0


def connect(address: str, subscribers: int) -> None:
    """Subscribe to everything there, so many times."""
    global _subscribers
    _subscribers = subscribers
    for _ in range(subscribers):
        _socket.connect(address)
    _socket.send(b"\x01")


def greeted(patience: float) -> int:
    """How many greetings come before it is silent for so many seconds."""
    heard = 0
    while _socket.poll(int(patience * 1000)):
        _socket.recv_multipart()
        heard += 1
    return heard


def collect(count: int, first: int, patience: float) -> dict[str, int]:
    """Take so many messages, each as often as there are subscribers, or fewer when no more come.

    Returns:
        How many came, and how many of those that were sent did not come as they should to each of them.
    """
    bodies: Counter[bytes] = Counter()
    receive, noblock, expected, came = _socket.recv, int(zmq.NOBLOCK), count * _subscribers, 0
    while came < expected and _socket.poll(int(patience * 1000)):
        try:
            while came < expected:
                receive(noblock)
                bodies[receive()] += 1
                came += 1
        except zmq.Again:
            pass
    wrong = sum(bodies[payload.body(number)] != _subscribers for number in range(first, first + count))
    return {"came": came, "wrong": wrong}


serve({"connect": connect, "greeted": greeted, "collect": collect})
