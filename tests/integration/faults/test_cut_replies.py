# SPDX-License-Identifier: LGPL-2.1-or-later
"""A replay server that ends in the middle of its replies, again and again: the client lives, and goes on."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import zmq

from fedmsg.testing import Process, free_address, wait_until
from tests.integration.faults.conftest import Figures

CLIENT = """
import sys
from fedmsg.exceptions import TransportError
from fedmsg.transport.zmq.rpc import Client

count = 0
with Client({"zmq_reconnect_ivl": 5}, sys.argv[1], "test", "test") as client:
    while True:
        try:
            count += len(client.request(b"all", 0.2)) == 200
        except TransportError:
            pass
        print(count, flush=True)
"""


def serve_and_end(address: str, replies: int) -> bool:
    """Reply to one request many times, and end without sending all of it; whether there was a request."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.SNDHWM, 0)
        router.bind(address)
        if not router.poll(1000):
            return False
        head = router.recv_multipart()[:3]
        for _ in range(replies):
            router.send_multipart([*head, *[b"x" * 1000] * 200])
        # How much of it has left by then is different each time.
        router.poll(3)
        return True


@pytest.mark.soak
def test_client_survives_a_server_that_ends_in_the_middle_of_a_reply(
    tmp_path: Path, figures: Figures, full_size: bool
) -> None:
    address = free_address()
    cuts = 2000 if full_size else 20
    with Process([sys.executable, "-c", CLIENT, address], env={"HOME": str(tmp_path)}) as client:
        done, deadline = 0, time.monotonic() + 60 + cuts
        while done < cuts and time.monotonic() < deadline and client.popen.poll() is None:
            done += serve_and_end(address, 20)
        assert client.popen.poll() is None, client.err
        assert done == cuts
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.bind(address)

            def reply() -> None:
                if router.poll(100):
                    router.send_multipart([*router.recv_multipart()[:3], *[b"x"] * 200])

            # A whole reply still comes through.
            before = int(client.out[-1])
            wait_until(lambda: int(client.out[-1]) > before, timeout=30, meanwhile=reply)
    figures("replies cut in the middle", sent=cuts, arrived=cuts, lost=0, exits=0)
