# SPDX-License-Identifier: LGPL-2.1-or-later
"""A subscription goes on by itself: after a cut, a killed relay, at another relay, and with another stream."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from fedmsg.stream import protocol
from fedmsg.stream.subscription import Subscription
from fedmsg.testing import Process, free_address, wait_until
from tests.integration.faults.ground import freeze
from tests.integration.faults.link import Link
from tests.integration.streams import begun, body, numbers, positions, serving, take, wait_for
from tests.stream_memory import MemoryLog

# A dead side is noticed within so many seconds.
NOTICED = 10.0
PROGRAM = "tests.integration.stream_program"
REPOSITORY = Path(__file__).parents[2]


def start(line: str, *arguments: str) -> Process:
    """Start a process of the program of these tests, and wait for a line of its output."""
    process = Process([sys.executable, "-m", PROGRAM, *arguments], stdin=True, cwd=REPOSITORY)
    try:
        process.wait_for(line)
    except BaseException:
        process.close()
        raise
    return process


def start_server(address: str, count: int) -> Process:
    """Start a process that serves a stream of so many messages; each line of its input adds some."""
    return start("serving", "serve", address, str(count))


def start_reader(address: str, name: str) -> Process:
    """Start a process that reads under a name, prints positions, and acks them."""
    return start("begun", "read", address, name)


def add(server: Process, count: int) -> None:
    """Have a server store messages, without waiting for it."""
    assert server.popen.stdin is not None
    server.popen.stdin.write(b"%d\n" % count)
    server.popen.stdin.flush()


def kill(pid: int) -> None:
    """Kill a process."""
    os.kill(pid, signal.SIGKILL)


def end(process: Process) -> None:
    """Kill a process that was started here."""
    kill(process.popen.pid)
    process.popen.wait(10)
    process.close()


def test_server_is_killed_and_started() -> None:
    address = free_address()
    server = start_server(address, 3000)
    try:
        with Subscription({}, address, after="first") as subscription:
            got, connections = take(subscription, 3000), 1
            for count in (3500, 4000, 4500):
                add(server, 500)
                # In the middle of what comes.
                got += take(subscription, 100)
                end(server)
                server = start_server(address, count)
                got += take(subscription, count - len(got))
                connections += 1
                wait_for(lambda: subscription.statistics()["connections"] == connections, subscription)  # noqa: B023
            assert positions(got) == list(range(1, 4501))
            assert [delivery.data for delivery in got] == numbers(1, 4500)
    finally:
        end(server)


class Resetting:
    """Passes bytes on to an address, and resets each connection in the middle of what it transfers."""

    def __init__(self, target: str) -> None:
        self._port = int(target.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.resets = 0
        self._is_closing = False
        self._chance = random.Random(1)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._is_closing:
                near.close()
                return
            with near, socket.create_connection(("127.0.0.1", self._port)) as far, contextlib.suppress(OSError):
                self._pass_on(near, far)
                self.resets += 1
                for one in (near, far):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        left = self._chance.randrange(20_000, 300_000)
        while left > 0:
            for one in select.select([near, far], [], [], 10)[0]:
                content = one.recv(self._chance.choice([100, 1000, 60_000]))
                if not content:
                    raise ConnectionError("one side has closed")
                (far if one is near else near).sendall(content)
                left -= len(content)

    def close(self) -> None:
        """End, after the reader has closed."""
        self._is_closing = True
        with socket.create_connection(self._listener.getsockname()):
            self._thread.join()
        self._listener.close()


def test_connections_are_reset_in_the_middle_of_messages() -> None:
    log = MemoryLog()
    log.add(*numbers(1, 30_000, 50))
    with serving(log) as server:
        proxy = Resetting(server.addresses[0])
        with Subscription({}, proxy.address, after="first") as subscription:
            got = take(subscription, 30_000, 90)
        proxy.close()
    assert positions(got) == list(range(1, 30_001))
    assert proxy.resets > 10


def test_server_away_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    log, address = MemoryLog(), free_address()
    log.add(*numbers(1, 5))
    with Subscription({}, address, after="first") as subscription:
        with serving(log, address=address):
            assert positions(take(subscription, 5)) == [1, 2, 3, 4, 5]
        wait_for(lambda: not subscription.connected, subscription)
        log.add(body(6))
        with serving(log, address=address) as server:
            assert positions(take(subscription, 1)) == [6]
            server.append(log.add(body(7)))
            assert positions(take(subscription, 1)) == [7]
    assert "has ended; trying again" in caplog.text


@pytest.mark.parametrize("silent", ["server", "both"])
def test_network_is_cut(silent: str) -> None:
    """Nothing goes through and neither side is told; both notice, and the reader goes on after its last message."""
    log = MemoryLog()
    log.add(*numbers(1, 5))
    with (
        serving(log) as server,
        Link(server.addresses[0]) as link,
        Subscription({}, link.address, after="first", durable="shop") as subscription,
    ):
        assert positions(take(subscription, 5)) == [1, 2, 3, 4, 5]
        cut = time.monotonic()
        link.cut()
        server.append(log.add(*numbers(6, 10)))
        wait_for(lambda: not subscription.connected, subscription, NOTICED)
        if silent == "both":
            wait_until(lambda: server.statistics()["clients"] == 0, NOTICED - (time.monotonic() - cut))
        link.mend()
        server.append(log.add(*numbers(11, 15)))
        # None of the first five comes again, although none is acknowledged: they are in work.
        assert positions(take(subscription, 10)) == list(range(6, 16))
        assert subscription.statistics()["connections"] == 2


def test_reader_of_a_name_is_killed_or_frozen() -> None:
    """The next one takes over from the cursor."""
    log = MemoryLog()
    log.add(*numbers(1, 3))
    with serving(log) as server:
        # One that is killed is noticed by the end of its connection, and so before one that is silent.
        for number, (strike, limit) in enumerate([(kill, NOTICED - 2), (freeze, 3 * NOTICED)]):
            name = f"shop-{number}"
            reader = start_reader(server.addresses[0], name)
            with Subscription({}, server.addresses, durable=name) as second:
                cursor = log.newest()
                wait_until(lambda: log._cursors[name].position == cursor)  # noqa: B023 - it is called at once
                strike(reader.popen.pid)
                server.append(log.add(body(4)))
                assert positions(take(second, 1, limit)) == [cursor + 1]
            end(reader)


# ---------------------------------------------------------------- another stream


def test_another_stream_goes_on_after_the_last_message(caplog: pytest.LogCaptureFixture) -> None:
    """The store was replaced: positions are others, and the message that was last is known."""
    address = free_address()
    one, other = MemoryLog("one"), MemoryLog("other")
    one.add(*numbers(1, 10))
    other.add(*numbers(101, 150), *numbers(6, 10), body(3), *numbers(11, 12))
    with Subscription({}, address, after=4, durable="shop") as subscription:
        with serving(one, address=address):
            old = take(subscription, 6)
        with serving(other, address=address), caplog.at_level(logging.WARNING):
            got = take(subscription, 3)
            # Number 3 was not seen; nothing that was comes again.
            assert [delivery.data for delivery in got] == [body(3), body(11), body(12)]
            assert positions(got) == [56, 57, 58]
            # A position of the old stream means nothing in the new one.
            old[-1].ack()
            got[0].ack()
            wait_until(lambda: other._cursors["shop"].position == 56)
    lines = [line for line in caplog.messages if "is another one" in line]
    assert lines == [f"the stream at {address} is another one (other): going on after the message id-10"]


def test_another_stream_that_does_not_know_the_last_message_goes_on_by_time() -> None:
    address = free_address()
    one, other = MemoryLog("one"), MemoryLog("other")
    one.add(*numbers(1, 10))
    other.add(*numbers(200, 210), stored=time.time() - 100)
    other.add(*numbers(5, 9), *numbers(300, 301), stored=time.time() - 30)
    with Subscription({}, address, after="first") as subscription:
        with serving(one, address=address):
            take(subscription, 10)
        with serving(other, address=address):
            assert [delivery.data for delivery in take(subscription, 2)] == numbers(300, 301)
            assert subscription.statistics()["duplicates"] == 5


def test_message_whose_id_is_far_too_long_does_not_hold_up_a_reader(caplog: pytest.LogCaptureFixture) -> None:
    """Another stream is not asked for it: the request would be larger than a relay takes."""
    address = free_address()
    one, other = MemoryLog("one"), MemoryLog("other")
    one.add(b'{"msg_id":"%s"}' % (b"x" * 400_000))
    other.add(body(1))
    with Subscription({}, address, after="first") as subscription:
        with serving(one, address=address):
            take(subscription, 1)
        with serving(other, address=address), caplog.at_level(logging.WARNING):
            assert [delivery.data for delivery in take(subscription, 1)] == [body(1)]
    (line,) = (line for line in caplog.messages if "is another one" in line)
    assert re.search(r"with what was stored since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$", line)


def test_store_that_was_set_back_is_another_stream() -> None:
    address = free_address()
    one, back = MemoryLog("one"), MemoryLog("one")
    one.add(*numbers(1, 10))
    back.add(*numbers(1, 7), *numbers(20, 21))
    with Subscription({}, address, after="first") as subscription:
        with serving(one, address=address):
            take(subscription, 10)
        with serving(back, address=address):
            assert [delivery.data for delivery in take(subscription, 2)] == numbers(20, 21)


def test_new_messages_only_goes_on_with_what_another_stream_has_since() -> None:
    address = free_address()
    one, other = MemoryLog("one"), MemoryLog("other")
    one.add(*numbers(1, 10))
    other.add(*numbers(1, 10), stored=time.time() - 100)
    with Subscription({}, address) as subscription:
        with serving(one, address=address):
            begun(subscription)
        other.add(body(11))
        with serving(other, address=address):
            assert [delivery.data for delivery in take(subscription, 1)] == [body(11)]


# ---------------------------------------------------------------- several relays


def test_plain_subscription_moves_to_the_next_relay_and_a_durable_one_waits() -> None:
    addresses = [free_address(), free_address()]
    one, other = MemoryLog("one"), MemoryLog("other")
    one.add(*numbers(1, 10))
    other.add(*numbers(5, 12))
    with (
        Subscription({}, addresses, after="first") as plain,
        Subscription({}, addresses, after="first", durable="shop") as durable,
        serving(other, address=addresses[1]) as second,
    ):
        with serving(one, address=addresses[0]):
            if plain.connected != [addresses[1]]:
                wait_for(lambda: plain.connected, plain)
            take(durable, 10)
        stopped = time.monotonic()
        wait_for(lambda: plain.connected == [addresses[1]], plain)
        assert time.monotonic() - stopped < 2
        got = take(plain, 8)
        while got[-1].data != body(12):
            got += take(plain, 1)
        second.append(other.add(body(13)))
        assert [delivery.data for delivery in take(plain, 1)] == [body(13)]
        assert durable.connected == []
        one.add(body(14))
        with serving(one, address=addresses[0]):
            assert [delivery.data for delivery in take(durable, 1)] == [body(14)]


# ---------------------------------------------------------------- a relay that does wrong


@contextmanager
def answering(*scripts: list[list[bytes]]) -> Iterator[tuple[str, list[list[bytes]]]]:
    """Answer each OPEN by the next script; gives the address and the frames of the OPENs."""
    opens: list[list[bytes]] = []
    stop = threading.Event()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def serve() -> None:
            while not stop.is_set():
                if not router.poll(20):
                    continue
                identity, *frames = router.recv_multipart()
                if frames[1] == protocol.HELLO:
                    welcome = {"stream": "one", "first": 1, "newest": 9, "heartbeat": 2}
                    router.send_multipart([identity, *protocol.encode(protocol.WELCOME, welcome)])
                elif frames[1] == protocol.OPEN:
                    opens.append(frames)
                    for message in scripts[min(len(opens), len(scripts)) - 1]:
                        router.send_multipart([identity, *message])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{port}", opens
        finally:
            stop.set()
            thread.join()


def message(position: int, previous: int) -> list[bytes]:
    return protocol.encode(protocol.MSG, position, previous, 0, b"t", body(position))


def opened(position: int) -> list[bytes]:
    return protocol.encode(protocol.OPENED, {"position": position})


def test_reader_that_misses_a_message_opens_again() -> None:
    first = [opened(0), message(1, 0), message(2, 1), message(5, 4), message(6, 5)]
    second = [opened(2), message(4, 2), message(5, 4), message(6, 5)]
    with answering(first, second) as (address, opens), Subscription({}, address, after=0) as subscription:
        assert positions(take(subscription, 5)) == [1, 2, 4, 5, 6]
        assert subscription.statistics()["gaps"] == 1
        read = protocol.decode(opens[1])
    assert read is not None
    assert read.fields[0] == {"topics": [""], "after": 2, "resume": True}


def test_reader_survives_what_makes_no_sense() -> None:
    nonsense = [
        [b"x"], [b"FM1", b"LATER"], [b"FM1", b"MSG", b"1"], [b"FM1", b"OPENED", b"{}"], [b"FM1", b"WELCOME", b"[]"],
        protocol.encode(protocol.LOST, 9, 3), protocol.encode(protocol.NO, {"code": [], "reason": {}}),
    ]  # fmt: skip
    script = [*nonsense, opened(0), *nonsense, message(1, 0)]
    with answering(script) as (address, _), Subscription({}, address, after=0) as subscription:
        assert positions(take(subscription, 1)) == [1]
        assert subscription.statistics()["lost"] == 0


def test_relay_that_refuses_is_asked_again() -> None:
    refusal = [protocol.encode(protocol.NO, {"code": protocol.CODE_BUSY, "reason": "later"})]
    with answering(refusal, [opened(0), message(1, 0)]) as (address, _), Subscription({}, address) as subscription:
        assert positions(take(subscription, 1)) == [1]


@pytest.mark.parametrize(
    "size", [2001, 5_000, 100_000], ids=["by a byte", "twice", "so that it would end a connection"]
)
@pytest.mark.parametrize("durable", [None, "shop"])
def test_message_above_max_message_size_is_rejected_and_the_next_one_comes(size: int, durable: str | None) -> None:
    log = MemoryLog()
    large = body(2, size - len(b"org.test.t") - len(body(2)))
    log.add(body(1), large, body(3), large, large)
    config = {"max_message_size": 2000}
    with serving(log) as server:
        with Subscription(config, server.addresses, after=0, durable=durable) as subscription:
            got = take(subscription, 2)
            assert positions(got) == [1, 3]
            wait_for(lambda: subscription.rejections.counts == {"size": 3}, subscription)
            server.append(log.add(body(6)))
            assert positions(take(subscription, 1)) == [6]
            got[-1].ack()
            assert subscription.statistics()["connections"] == 1
        # Others have another limit; and a name goes on after what it could not have.
        with Subscription({}, server.addresses, after=1) as other:
            assert positions(take(other, 5)) == [2, 3, 4, 5, 6]
        if durable:
            with Subscription(config, server.addresses, durable=durable) as subscription:
                assert positions(take(subscription, 1)) == [6]


def test_many_messages_fit_into_what_a_reader_takes() -> None:
    log = MemoryLog()
    log.add(*numbers(1, 3000, 300))
    for size in (500, 1_500, 5_000, 20_000):
        config = {"max_message_size": size}
        with serving(log) as server, Subscription(config, server.addresses, after=0) as subscription:
            assert positions(take(subscription, 3000)) == list(range(1, 3001))
            assert subscription.statistics()["connections"] == 1
