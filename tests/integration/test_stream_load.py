# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream port with readers that are slow, many, or hostile: nobody is held up, and memory is bounded."""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from fedmsg.stream import asking, protocol
from fedmsg.stream.subscription import Subscription
from fedmsg.testing import Process, wait_until
from tests import open_files
from tests.integration.streams import ANY_PORT, FrameClient, begun, body, numbers, positions, serving, take, wait_for
from tests.stream_memory import MemoryLog

PROGRAM = "tests.integration.stream_program"
REPOSITORY = Path(__file__).parents[2]
MIB = 1024


def start_server(*arguments: str) -> tuple[Process, str]:
    """Start a server in a process, for its memory; return it and its address."""
    process = Process([sys.executable, "-m", PROGRAM, "serve", ANY_PORT, *arguments], stdin=True, cwd=REPOSITORY)
    try:
        return process, process.wait_for("serving").split()[1]
    except BaseException:
        process.close()
        raise


def add(server: Process, count: int) -> None:
    """Have a server store messages."""
    assert server.popen.stdin is not None
    server.popen.stdin.write(b"%d\n" % count)
    server.popen.stdin.flush()


def delays(server: Process, subscription: Subscription, count: int) -> list[float]:
    """Return how long messages take from being stored to being taken, in order of size."""
    found: list[float] = []
    while len(found) < count:
        add(server, 1)
        found += [time.time() - delivery.stored for delivery in take(subscription, 1)]
    return sorted(found)


def wait_settled(address: str) -> None:
    """Wait until a server sends nothing more, because nobody has room or credit."""
    seen: list[int] = []

    def is_settled() -> bool:
        seen.append(asking.info({}, address)["sent"])
        return len(seen) > 30 and seen[-30] == seen[-1]

    wait_until(is_settled)


@pytest.mark.soak
def test_slow_readers_beside_a_fast_one(full_size: bool) -> None:
    """Readers that take nothing, and one that never even reads its socket, delay nobody and cost little memory."""
    size, count = 20_000, 10_000 if full_size else 3000
    server, address = start_server(str(count), str(size))
    with server, Subscription({}, address) as fast:
        begun(fast)
        before = server.memory()
        with (
            Subscription({}, address, after="first") as slow,
            FrameClient(address, RCVHWM=1, RCVBUF=4096) as deaf,
        ):
            deaf.socket.send_multipart(protocol.encode(protocol.HELLO, {}))
            deaf.socket.send_multipart(protocol.encode(protocol.OPEN, {"after": 0}))
            deaf.socket.send_multipart(protocol.encode(protocol.CREDIT, 2**60, 2**60))
            wait_for(lambda: slow.statistics()["received"] >= 100, slow)
            wait_settled(address)
            found = delays(server, fast, 200)
            if full_size:  # which has the machine for itself
                assert found[100] < 0.05
                assert found[-1] < 1
            # Of 60 MB or 200 MB that they could have: their credit of 4 MiB, and as much in the window.
            assert server.memory() - before < 30 * MIB
            got = take(slow, count + 200)
            assert positions(got) == list(range(1, count + 201))


def test_client_that_never_reads_is_bounded_and_given_up() -> None:
    """It says that it is alive, and asks for everything, again and again."""
    server, address = start_server("5000", "20000")
    with server:
        before = server.memory()
        with FrameClient(address, RCVHWM=1, RCVBUF=4096, SNDHWM=0) as deaf:
            for number in range(20_000):
                deaf.send(protocol.PING)
                deaf.send(protocol.GET, b"1", {"position": 1 + number % 5000})
                if number % 100 == 0:
                    deaf.send(protocol.HELLO, {})
                    deaf.send(protocol.OPEN, {"after": 0})
                    deaf.send(protocol.CREDIT, 2**60, 2**60)
            # Another one is served meanwhile.
            with Subscription({}, address, last=10) as reader:
                assert len(take(reader, 10)) == 10
            wait_settled(address)
            assert server.memory() - before < 60 * MIB


@pytest.mark.soak
def test_many_lagging_readers(full_size: bool) -> None:
    """All catch up at about the same time, and a reader of new messages is not delayed for long."""
    log, (readers, count) = MemoryLog(), (200, 1000) if full_size else (50, 400)
    log.add(*numbers(1, count, 200))
    with serving(log, window=100) as server, FrameClient(server.addresses[0]) as live:
        live.open(10_000, 10_000_000)
        clients = [FrameClient(server.addresses[0], RCVHWM=0) for _ in range(readers)]
        try:
            for client in clients:
                client.send(protocol.HELLO, {})
                client.send(protocol.OPEN, {"after": 0})
                client.send(protocol.CREDIT, 2 * count, 10_000_000)
            waits = []
            for number in range(20):
                started = time.monotonic()
                server.append(log.add(body(count + 1 + number)))
                live.expect(protocol.MSG)
                waits.append(time.monotonic() - started)
            if full_size:  # which has the machine for itself
                assert sorted(waits)[10] < 0.1
                assert max(waits) < 1
            for client in clients:
                got = [client.expect(protocol.MSG, 60).fields[0] for _ in range(count + 20)]
                assert got == list(range(1, count + 21))
        finally:
            for client in clients:
                client.close()


def test_what_is_read_ahead_of_credit_is_bounded() -> None:
    """Each may have two windows of it, until all of them together have too much; then they read as credit comes."""
    log, readers, window = MemoryLog(), 40, 50
    log.add(*numbers(1, 5 * window, 20_000))
    with serving(log, window=1) as server:
        clients = [FrameClient(server.addresses[0], RCVHWM=0) for _ in range(readers)]
        try:
            for client in clients:
                client.open(window, 4 << 20, after=0)
            for first in range(1, 4 * window, window):
                for client in clients:
                    got = [client.expect(protocol.MSG).fields[0] for _ in range(window)]
                    assert got == [*range(first, first + window)]
                held = [*server._delivering._held.values()]
                # Without a bound it would be 80 MB.
                assert sum(held) < 20 * 1024 * MIB
                assert any(held)
                for client in clients:
                    client.send(protocol.CREDIT, window, window * 20_100)
        finally:
            for client in clients:
                client.close()
        wait_until(lambda: not server._delivering._held)


def test_retention_passes_a_slow_reader() -> None:
    """It is informed once of what is gone, and goes on with what there is; filtered or not."""
    log = MemoryLog()
    log.add(*numbers(1, 1000))
    config = {"stream_credit": 10}
    lost = 0
    with (
        serving(log) as server,
        Subscription(config, server.addresses, after="first") as slow,
        Subscription(config, server.addresses, "org", after="first") as filtered,
    ):
        for reader in (slow, filtered):
            wait_for(lambda: reader.statistics()["received"] == 10, reader)  # noqa: B023 - it is called at once
        log.remove(600)
        for reader in (slow, filtered):
            got: list[int] = []
            while not got or got[-1] < 1000:
                got += positions(take(reader, 1))
            # Two more windows may have been read before they were removed.
            first = len(got) - 400
            assert 10 <= first <= 30
            assert got == [*range(1, first + 1), *range(601, 1001)]
            assert reader.statistics()["lost"] == 600 - first
            lost += 600 - first
        assert server.counts["lost"] == 2
        assert server.statistics()["lost"] == lost


def test_reader_is_informed_of_all_that_is_lost_while_retention_goes_on() -> None:
    """What was received and what was lost are all positions, once each."""
    log, count = MemoryLog(), 20_000
    log.add(*numbers(1, count))
    stop = threading.Event()
    with serving(log) as server:

        def remove() -> None:
            for until in range(0, count - 100, 7):
                if stop.is_set():
                    break
                log.remove(until)

        thread = threading.Thread(target=remove)
        with (
            Subscription({"stream_credit": 50}, server.addresses, after=0) as reader,
            Subscription({"stream_credit": 50}, server.addresses, ["org", "x"], after=0) as filtered,
        ):
            wait_for(lambda: reader.statistics()["received"] and filtered.statistics()["received"], reader)
            thread.start()
            for one in (reader, filtered):
                got: list[int] = []
                while not got or got[-1] < count:
                    got += positions(take(one, 1))
                    got += positions(one.poll(1000))
                assert got == sorted(set(got))
                assert len(got) + one.statistics()["lost"] == count
        stop.set()
        thread.join()


# ---------------------------------------------------------------- garbage


def test_garbage_frames() -> None:
    """Clients that send anything are counted; one that speaks well is served."""
    log = MemoryLog()
    log.add(*numbers(1, 10))
    chance = random.Random(1)
    kinds = [*protocol._FIELDS, b"", b"LATER", os.urandom(5)]
    values = [b"", b"\0" * 8, b"\xff" * 8, b"{}", b"[]", b'{"after":[]}', b'{"topics":{}}', b"[" * 50_000, b"x" * 9000]
    with serving(log) as server, Subscription({}, server.addresses, after="first") as reader:
        with FrameClient(server.addresses[0], SNDHWM=0) as client:
            for number in range(3000):
                if number == 1000:
                    client.send(protocol.HELLO, {})
                frames = [chance.choice(values) for _ in range(chance.randrange(6))]
                head = [protocol.VERSION, chance.choice(kinds)] if chance.random() < 0.9 else []
                client.socket.send_multipart([*head, *frames] or [b""])
            client.socket.send_multipart([b"x"] * 5000)
            client.hello()
            client.send(protocol.OPEN, {"after": 9})
            client.send(protocol.CREDIT, 1, 1000)
            while client.expect(protocol.OPENED).fields[0] != {"position": 9}:
                pass
            assert client.expect(protocol.MSG).fields[0] == 10
        assert positions(take(reader, 10)) == list(range(1, 11))
        assert server.counts["malformed"] > 1000


def test_bytes_that_are_no_zeromq() -> None:
    log = MemoryLog()
    log.add(body(1))
    with serving(log) as server:
        host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, b""):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(garbage)
        with Subscription({}, server.addresses, after="first") as reader:
            assert positions(take(reader, 1)) == [1]


def test_request_that_is_too_large_ends_the_connection() -> None:
    log = MemoryLog()
    log.add(body(1))
    with serving(log) as server, FrameClient(server.addresses[0]) as client:
        client.hello()
        client.socket.send_multipart([b"FM1", b"OPEN", b" " * 1_000_000])
        with Subscription({}, server.addresses, after="first") as reader:
            assert positions(take(reader, 1)) == [1]
        assert client.receive(0.5) is None


def test_clients_beyond_the_limit_are_turned_away_until_others_go() -> None:
    log = MemoryLog()
    log.add(body(1))
    with (
        serving(log, clients_max=2) as server,
        FrameClient(server.addresses[0]) as one,
        FrameClient(server.addresses[0]) as two,
    ):
        one.hello()
        two.hello()
        with Subscription({}, server.addresses, after="first") as reader:
            wait_until(lambda: server.counts["clients"] > 0)
            one.close()
            assert positions(take(reader, 1)) == [1]


def test_client_that_has_not_said_hello_is_asked_to() -> None:
    with serving(MemoryLog()) as server, FrameClient(server.addresses[0]) as client:
        for kind, fields in ((protocol.PING, ()), (protocol.ACK, (3,)), (protocol.GET, (b"1", {}))):
            client.send(kind, *fields)
            assert client.expect(protocol.NO).fields[0]["code"] == protocol.CODE_HELLO


def test_many_topics() -> None:
    log = MemoryLog()
    log.add(*(body(number) for number in range(1, 500)), topic=b"other")
    log.add(body(500), topic=b"t900.x")
    with serving(log) as server, Subscription({}, server.addresses, [f"t{n}" for n in range(1000)], after=0) as reader:
        assert positions(take(reader, 1)) == [500]


def test_open_and_close_leave_nothing_behind() -> None:
    log = MemoryLog()
    log.add(body(1))

    def held() -> tuple[int, int]:
        return open_files.descriptors(), threading.active_count()

    def once() -> None:
        with serving(log) as server, Subscription({}, server.addresses, after=0) as reader:
            take(reader, 1)
            reader.close()
            reader.close()

    once()
    before = held()
    for _ in range(20):
        once()
    wait_until(lambda: held() <= before, what=lambda: f"{before} {held()}")
