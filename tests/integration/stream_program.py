# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stream port, or a reader of one, as a process of its own.

::

    python -m tests.integration.stream_program serve ADDRESS COUNT [SIZE]  # each line of input adds so many
    python -m tests.integration.stream_program store ADDRESS URL        # the same, over a store on disk
    python -m tests.integration.stream_program read ADDRESS NAME           # prints positions, and acks them
"""

from __future__ import annotations

import sys
import time

from fedmsg.stream.log import StreamLog
from fedmsg.stream.records import Entry, Incoming
from fedmsg.stream.server import StreamServer
from fedmsg.stream.subscription import Subscription
from tests.integration.streams import numbers, serving
from tests.stream_memory import MemoryLog


def serve(address: str, count: int, size: int) -> None:
    """Serve a stream until the input ends; where there is a size, all messages share one body of it."""
    log = MemoryLog("the-stream")
    shared = b"x" * size

    def make(number: int) -> list[bytes]:
        return [shared] if size else numbers(number, number)

    log.add(*[shared] * count if size else numbers(1, count))
    with serving(log, address=address) as server:
        print("serving", *server.addresses)
        for line in sys.stdin:
            for _ in range(int(line)):
                server.append(log.add(*make(log.newest() + 1)))


def store(address: str, url: str) -> None:
    """Serve a stream on disk until the input ends."""
    with StreamLog(url) as log, StreamServer({}, [address], log) as server:
        log.acquire(10)
        server.start()
        print("serving", *server.addresses)
        for line in sys.stdin:
            for _ in range(int(line) // 50):
                newest = log.newest()
                bodies = numbers(newest + 1, newest + 50)
                stored = log.append([Incoming(b"org.test.t", body) for body in bodies])
                server.append(
                    [
                        Entry(where.position, time.time(), b"org.test.t", body, ())
                        for where, body in zip(stored, bodies, strict=True)
                    ]
                )


def read(address: str, name: str) -> None:
    """Read for ever."""
    with Subscription({}, address, durable=name, after="first") as subscription:
        started = False
        while True:
            subscription.wait()
            for delivery in subscription.poll(100):
                print(delivery.position)
                delivery.ack()
            if not started and subscription.position is not None:
                started = True
                print("begun")


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "serve":
        serve(where, int(rest[0]), int(rest[1]) if rest[1:] else 0)
    elif what == "store":
        store(where, rest[0])
    else:
        read(where, rest[0])
