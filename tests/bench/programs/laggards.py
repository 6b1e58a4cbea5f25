# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many durable subscriptions that take next to nothing, and say that they are alive."""

from __future__ import annotations

import threading

import zmq

from fedmsg.stream import protocol
from tests.bench.programs.link import serve

_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
_context.set(zmq.MAX_SOCKETS, 10_000)


def _stay(sockets: list[zmq.Socket[bytes]]) -> None:
    poller = zmq.Poller()
    for one in sockets:
        poller.register(one, zmq.POLLIN)
    while True:
        for one, _ in poller.poll():
            message = protocol.decode(one.recv_multipart())
            if message is not None and message.kind == protocol.PING:
                one.send_multipart(protocol.encode(protocol.PONG))


def lag(address: str, count: int, credit: int) -> int:
    """Open so many subscriptions from the first message on, each with credit for a few; returns how many are open."""
    sockets = []
    for number in range(count):
        one = _context.socket(zmq.DEALER)
        one.linger = 0
        one.connect(address)
        one.send_multipart(protocol.encode(protocol.HELLO, {}))
        one.send_multipart(protocol.encode(protocol.OPEN, {"after": 0, "durable": f"lagging-{number}"}))
        one.send_multipart(protocol.encode(protocol.CREDIT, credit, 1 << 20))
        sockets.append(one)
    opened = 0
    for one in sockets:
        got = 0
        while got < credit and one.poll(30_000):
            message = protocol.decode(one.recv_multipart())
            got += message is not None and message.kind == protocol.MSG
        opened += got == credit
    threading.Thread(target=_stay, args=(sockets,), daemon=True).start()
    return opened


serve({"lag": lag})
