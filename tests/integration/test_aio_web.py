# SPDX-License-Identifier: LGPL-2.1-or-later
"""The web application of the how-to, as a real server: it publishes, it streams, it stops."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from fedmsg.testing import Bus, Process, wait_until
from tests import open_files
from tests.integration.faults import ground
from tests.integration.faults.ground import Witness

# How a server ends that has done what SIGTERM told it: uvicorn sends the signal to itself again, in the end.
TERMINATED = {0, -signal.SIGTERM}


class Server:
    """A uvicorn that serves the application.

    Attributes:
        process: Its process.
        port: Where it listens.
    """

    def __init__(self, repository: Path, bus: Bus, *options: str, workers: int = 1) -> None:
        # Warnings complain of what is left open or never awaited; with workers, of uvicorn's own socket too.
        severity = "error" if workers == 1 else "ignore"
        command = [sys.executable, "-W", severity, "-m", "uvicorn", *options, "--port", "0"]
        self.process = Process(
            [*command, "--app-dir", str(repository / "docs" / "howto"), "asyncio_app:app"], env=bus.environ
        )
        try:
            line = self.process.wait_for("Uvicorn running on", stream="err")
            wait_until(lambda: self.started() == workers, what="all workers started")
        except BaseException:
            self.process.close()
            raise
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found is not None, line
        self.port = int(found[1])

    def started(self) -> int:
        """Count the workers that serve."""
        return sum("Application startup complete" in line for line in self.process.err)

    def order(self, number: int) -> int:
        """Place an order; gives the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/orders", json.dumps({"n": number}))
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop it, as a service manager does."""
        assert self.process.stop() in TERMINATED, self.process.report()
        assert [line for line in self.process.err if not line.startswith("INFO:")] == []

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.close()


class Browser:
    """A client that watches the events.

    Args:
        port: Of the server.
        reading: Whether it reads what it is sent.
    """

    def __init__(self, port: int, *, reading: bool = True) -> None:
        self._received = b""
        self._socket = socket.socket()
        if not reading:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # From this line on it is sent everything.
        while b": welcome" not in self._received:
            self._received += self._socket.recv(100)
        self._thread = threading.Thread(target=self._read)
        if reading:
            self._thread.start()

    def _read(self) -> None:
        with suppress(ConnectionResetError):
            while data := self._socket.recv(65536):
                self._received += data

    def numbers(self) -> list[int]:
        """Give the numbers of the orders that it has seen."""
        lines = self._received.rpartition(b"\n")[0].split(b"\n")
        events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
        return [event["msg"]["n"] for event in events if event["topic"].endswith("shop.order.placed")]

    def wait_for_end(self) -> bool:
        """Wait until the server closes the connection; says whether the stream is whole."""
        self._thread.join(30)
        return not self._thread.is_alive() and self._received.endswith(b"0\r\n\r\n")

    def close(self) -> None:
        """Be gone."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus({"timeout": 1}) as made:
        made.start_relay()
        yield made


@pytest.fixture
def witness(bus: Bus) -> Iterator[Witness]:
    with Witness(*bus.config["endpoints"]["relay_outbound"]) as running:
        running.greet(bus)
        yield running


@pytest.fixture
def server(repository: Path, bus: Bus, loop: str) -> Iterator[Server]:
    with Server(repository, bus, "--loop", loop) as running:
        yield running


def order_many(server: Server, numbers: Iterator[int], count: int) -> list[int]:
    """Place orders by several clients at a time; gives those that were accepted."""
    accepted: list[int] = []

    def order() -> None:
        while len(accepted) < count:
            number = next(numbers)
            if server.order(number) == 202:
                accepted.append(number)

    clients = [threading.Thread(target=order) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return accepted


def test_orders_reach_the_bus_and_everybody_who_watches(server: Server, witness: Witness) -> None:
    numbers = itertools.count()
    with Browser(server.port) as first, Browser(server.port) as second:
        accepted = order_many(server, numbers, 50)
        # One leaves in the middle, and another one comes.
        wait_until(lambda: sorted(first.numbers()) == sorted(accepted))
        first.close()
        with Browser(server.port) as third:
            late = order_many(server, numbers, 50)
            wait_until(lambda: sorted(second.numbers()) == sorted(accepted + late))
            wait_until(lambda: sorted(third.numbers()) == sorted(late))
            witness.wait_for(len(accepted + late), "placed")
            bodies = witness.bodies("placed")
            assert sorted(body["msg"]["n"] for body in bodies) == sorted(accepted + late)
            assert [body["i"] for body in bodies] == list(range(1, len(bodies) + 1))
            assert {body["topic"] for body in bodies} == {"org.fedoraproject.dev.shop.order.placed"}
            server.stop()
            # Who watches is told that this is the end.
            assert second.wait_for_end()
            assert third.wait_for_end()


def test_workers_open_sockets_of_their_own(repository: Path, witness: Witness, bus: Bus) -> None:
    with Server(repository, bus, "--workers", "3", workers=3) as server:
        accepted = order_many(server, itertools.count(), 100)
        witness.wait_for(len(accepted), "placed")
        server.stop()
    bodies = witness.bodies("placed")
    assert sorted(body["msg"]["n"] for body in bodies) == sorted(accepted)
    # Each counts its own.
    assert len({body["i"] for body in bodies}) < len(bodies)


def test_those_who_leave_leave_nothing_behind(server: Server, witness: Witness) -> None:
    numbers = itertools.count()
    pid = server.process.popen.pid
    with Browser(server.port) as staying:
        order_many(server, numbers, 5)
        before = open_files.descriptors(pid)
        for _ in range(20):
            leaving = [Browser(server.port) for _ in range(5)]
            order_many(server, numbers, 5)
            for browser in leaving:
                browser.close()
        wait_until(lambda: open_files.descriptors(pid) <= before, what="no descriptor more than before")
        accepted = len(witness.numbers("placed"))
        assert accepted >= 105
        wait_until(lambda: len(staying.numbers()) == len(witness.numbers("placed")))
        server.stop()
        assert staying.wait_for_end()


def test_who_does_not_read_holds_up_nobody(server: Server, witness: Witness, bus: Bus) -> None:
    with Browser(server.port, reading=False), Browser(server.port) as reading, bus.context() as publisher:
        for number in range(2500):
            publisher.publish("order.placed", {"n": number, "filler": "x" * 3000}, modname="shop")
        witness.wait_for(2500, "placed")
        # It may itself be sent away, when it gets behind on a busy machine; the server goes on for it all the same.
        wait_until(lambda: reading.numbers()[-1:] == [2499] or not reading._thread.is_alive())
        assert server.order(2500) == 202
        witness.wait_for(2501, "placed")


def test_without_a_relay_orders_are_refused_until_it_is_back(server: Server, witness: Witness, bus: Bus) -> None:
    assert server.order(1) == 202
    assert bus.stop_relay() == 0
    # After the first has waited for its time, the others fail at once: no request hangs again and again.
    assert [server.order(number) for number in range(2, 10)] == [503] * 8
    bus.start_relay()
    wait_until(lambda: server.order(10) == 202)
    wait_until(lambda: 10 in witness.numbers("placed"))
    server.stop()


def test_stopped_under_load_it_keeps_its_word(server: Server, witness: Witness) -> None:
    numbers = itertools.count()
    accepted: list[int] = []
    stopping = threading.Event()

    def order() -> None:
        while not stopping.is_set():
            number = next(numbers)
            try:
                if server.order(number) == 202:
                    accepted.append(number)
            except (OSError, http.client.HTTPException):
                return

    clients = [threading.Thread(target=order) for _ in range(4)]
    with Browser(server.port) as watching:
        for client in clients:
            client.start()
        wait_until(lambda: len(accepted) > 100)
        server.stop()
        stopping.set()
        for client in clients:
            client.join()
        assert watching.wait_for_end()
    witness.wait_for(len(accepted), "placed")
    # What was answered with 202 is on the bus, once.
    arrived = witness.numbers("placed")
    assert set(accepted) <= set(arrived)
    assert ground.doubled(arrived) == []
