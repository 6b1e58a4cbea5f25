# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stream port, or a reader of one, as a process of its own.

::

    python -m tests.integration.stream_program serve ADDRESS COUNT     # each line of input adds so many messages
    python -m tests.integration.stream_program read ADDRESS NAME       # prints positions, and acks them
"""

from __future__ import annotations

import sys

from fedmsg.stream.subscription import Subscription
from tests.integration.streams import numbers, serving
from tests.stream_memory import MemoryLog


def serve(address: str, count: int) -> None:
    """Serve a stream until the input ends."""
    log = MemoryLog("the-stream")
    log.add(*numbers(1, count))
    with serving(log, address=address) as server:
        print("serving", *server.addresses)
        for line in sys.stdin:
            for _ in range(int(line)):
                server.append(log.add(*numbers(log.newest() + 1, log.newest() + 1)))


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
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        read(sys.argv[2], sys.argv[3])
