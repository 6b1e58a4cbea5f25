# SPDX-License-Identifier: LGPL-2.1-or-later
"""A consumer that counts, for the hub of ours and of 1.1.7; started as a program, a bare subscriber.

It tells by datagrams that it was greeted, and when the last of so many messages was handled.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

import zmq

from tests.bench.programs import payload

GREETING = payload.GREETING[0].decode()


def tell(path: str, **what: Any) -> None:
    """Send a datagram to whoever measures."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.sendto(json.dumps(what).encode(), path)


def consumer() -> Any:
    """Make the class, of whichever fedmsg this Python has."""
    from fedmsg.consumers import FedmsgConsumer

    class Counter(FedmsgConsumer):
        """Counts messages, and looks whether they come in order."""

        topic = ""
        config_key = "bench.counter"

        def __init__(self, hub: Any) -> None:
            super().__init__(hub)
            if not hub.config["bench.speed"]:
                # As if it were not installed: nothing has been decoded yet.
                sys.modules["orjson"] = None  # type: ignore[assignment]
            self._path, self._count = hub.config["bench.report"], hub.config["bench.count"]
            # So many different ones there are, which are sent again and again.
            self._different = hub.config["bench.different"]
            self._number = 0
            self._problem = ""

        def consume(self, message: Any) -> None:
            """Count a message."""
            number, envelope = self._number, message["body"]
            if envelope["i"] != 10_000_000 + number % self._different or envelope["topic"] != payload.TOPIC:
                if envelope["topic"] == GREETING:
                    tell(self._path, greeted=True)
                    return
                self._problem = self._problem or f"message {number} is not what was sent: {envelope}"
            self._number = number + 1
            if self._number == self._count:
                tell(self._path, last=time.perf_counter(), problem=self._problem)
                self._number, self._problem = 0, ""

    return Counter


def main(address: str, path: str) -> None:
    """Tell of the first message that comes, by the bare means of pyzmq."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.subscribe(b"")
        subscriber.setsockopt(zmq.RECONNECT_IVL, 2)
        subscriber.connect(address)
        json.loads(subscriber.recv_multipart()[1])
        tell(path, greeted=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
else:
    Counter = consumer()
