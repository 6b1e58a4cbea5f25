# SPDX-License-Identifier: LGPL-2.1-or-later
"""Endpoints that answer garbage in turn, again and again: a tail lives, stays small and hears the others."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg.testing import Process, wait_until
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import GREETING, frame, memory, ready, threads
from tests.open_files import descriptors

TOPIC = "org.fedoraproject.dev.test.here"
ENDPOINTS = 20
GARBAGE = (
    b"\xff" * 100,
    b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3,
    b"",
    os.urandom(5000),
    GREETING + ready(b"REP"),
    GREETING + ready(b"PUB") + frame(b"x" * 100_000),
)


class Garbage:
    """Listens at several ports, and answers each connection with the next kind of garbage.

    Attributes:
        addresses: Where.
        answered: How many connections there were.
    """

    def __init__(self, count: int) -> None:
        self.answered = 0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        for server in self._servers:
            self._selector.register(server, selectors.EVENT_READ)
        self.addresses = [f"tcp://127.0.0.1:{server.getsockname()[1]}" for server in self._servers]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        kinds = itertools.cycle(GARBAGE)
        while not self._stopping:
            for key, _ in self._selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                connection, _ = key.fileobj.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(next(kinds))
                    connection.shutdown(socket.SHUT_WR)
                    # Closing at once would reset the connection before the other side has read.
                    connection.settimeout(0.05)
                    connection.recv(4096)
                self.answered += 1

    def close(self) -> None:
        """End it."""
        self._stopping = True
        self._thread.join()
        self._selector.close()
        for server in self._servers:
            server.close()


@contextlib.contextmanager
def good_publisher() -> Iterator[tuple[str, Any]]:
    """Bind a publisher of good messages; yields its address and what sends a number."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.PUB) as bound:
        bound.setsockopt(zmq.LINGER, 0)
        port = bound.bind_to_random_port("tcp://127.0.0.1")

        def send(number: int) -> None:
            bound.send_multipart([TOPIC.encode(), json.dumps({"topic": TOPIC, "msg": {"n": number}}).encode()])

        yield f"tcp://127.0.0.1:{port}", send
    context.term()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_tail_lives_with_endpoints_that_answer_garbage_in_turn(
    full_size: bool, figures: Figures, tmp_path: Path
) -> None:
    seconds = 600 if full_size else 4
    pause = threading.Event()
    with ExitStack() as stack:
        garbage = Garbage(ENDPOINTS)
        stack.callback(garbage.close)
        address, send = stack.enter_context(good_publisher())
        endpoints = {f"bad{n}": [bad] for n, bad in enumerate(garbage.addresses)} | {"good": [address]}
        # Nothing but the heartbeat would end a connection that only stays silent.
        path = tmp_path / "config.py"
        path.write_text(f"config = dict(endpoints={endpoints!r}, max_message_size=10_000)\n", encoding="utf-8")
        tail = stack.enter_context(Process(["fedmsg-tail", "--json", "--no-validate", "--config-filename", str(path)]))
        wait_until(lambda: tail.out, meanwhile=lambda: send(-1))
        wait_until(lambda: garbage.answered > 2 * ENDPOINTS)
        tail.out.clear()
        at_start = memory(tail.popen.pid), descriptors(tail.popen.pid), threads(tail.popen.pid)
        sent, end, before = 0, time.monotonic() + seconds, garbage.answered
        while time.monotonic() < end:
            send(sent)
            sent += 1
            pause.wait(0.01)
        wait_until(lambda: any(f'"n":{sent - 1}' in line for line in tail.out))
        at_end = memory(tail.popen.pid), descriptors(tail.popen.pid), threads(tail.popen.pid)
        assert tail.popen.poll() is None
        answered = garbage.answered - before
        written = sum(len(line) for line in tail.err)
    got = [number for line in tail.out if (number := json.loads(line)["msg"]["n"]) >= 0]
    assert got == list(range(sent))
    # Each endpoint is tried again and again.
    assert answered > 2 * ENDPOINTS
    assert at_end[0] - at_start[0] < 8 * 1024
    # A connection that is being made has descriptors of its own.
    assert at_end[1] <= at_start[1] + 2 * ENDPOINTS
    assert at_end[2] == at_start[2]
    assert written < 3000 * (2 + seconds / 10)
    figures(
        "endpoints that answer garbage in turn", sent=sent, arrived=len(got), lost=sent - len(got), exits=0,
        memory_before=at_start[0], memory_after=at_end[0],
        remarks=f"{ENDPOINTS} endpoints, {answered} times garbage, {written} bytes of log",
    )  # fmt: skip
