# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream port over the stream on disk: what the tests with one in memory show, with SQLite and PostgreSQL."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.exceptions import PositionGone
from fedmsg.stream import asking
from fedmsg.stream.log import StreamLog
from fedmsg.stream.records import Entry, Incoming
from fedmsg.stream.server import StreamServer
from fedmsg.stream.subscription import Subscription
from fedmsg.stream.window import Window
from fedmsg.testing import Process, free_address, wait_until
from tests.integration.streams import ANY_PORT, begun, body, numbers, positions, take, wait_for

PROGRAM = "tests.integration.stream_program"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def log(database_url: str) -> Iterator[StreamLog]:
    with StreamLog(database_url) as made:
        yield made


@pytest.fixture
def server(log: StreamLog) -> Iterator[StreamServer]:
    with StreamServer({}, [ANY_PORT], log, window=Window(0, 100)) as made:
        made.start()
        yield made


def store(log: StreamLog, server: StreamServer, *bodies: bytes, topic: bytes = b"org.test.t") -> None:
    """Store messages and pass them on, as a relay does."""
    now = time.time()
    stored = log.append([Incoming(topic, one) for one in bodies])
    entries = [Entry(where.position, now, topic, one, ()) for where, one in zip(stored, bodies, strict=True)]
    server.append(entries)


@pytest.mark.parametrize(
    ("begin", "first"),
    [({"after": 4}, 5), ({"after": "first"}, 1), ({"after": "id-7"}, 8), ({"last": 2}, 199), ({"since": "1h"}, 1),
     ({"since": "0s"}, 201), ({}, 201)],
    ids=["position", "first", "msg-id", "last", "age", "now", "new"],
)  # fmt: skip
def test_subscription_begins(begin: dict[str, Any], first: int, log: StreamLog, server: StreamServer) -> None:
    store(log, server, *numbers(1, 200))
    with Subscription({}, server.addresses, **begin) as subscription:
        begun(subscription)
        store(log, server, body(201))
        assert positions(take(subscription, 202 - first)) == list(range(first, 202))


def test_no_such_position(log: StreamLog, server: StreamServer) -> None:
    for after in (1, "id-1"):
        with Subscription({}, server.addresses, after=after) as subscription, pytest.raises(PositionGone):
            take(subscription, 1)


def test_history_and_live_messages_have_no_seam(log: StreamLog, server: StreamServer) -> None:
    count = 10_000

    def publish() -> None:
        for start in range(1, count, 50):
            topic = b"odd.t" if start // 50 % 2 else b"even.t"
            store(log, server, *numbers(start, start + 49), topic=topic)

    publisher = threading.Thread(target=publish)
    with (
        Subscription({"stream_credit": 70}, server.addresses, after="first") as reader,
        Subscription({"stream_credit": 30}, server.addresses, "odd", after="first") as filtered,
        Subscription({}, server.addresses, [f"{n}x" for n in range(900)] + ["even"], after=0) as many,
    ):
        publisher.start()
        got = take(reader, count, 90)
        assert positions(got) == list(range(1, count + 1))
        assert [delivery.data for delivery in got] == numbers(1, count)
        odd = [position for position in range(1, count + 1) if (position - 1) // 50 % 2]
        assert positions(take(filtered, count // 2, 90)) == odd
        assert len(take(many, count // 2, 90)) == count // 2
    publisher.join()


def test_retention_passes_slow_readers_step_by_step(log: StreamLog, server: StreamServer) -> None:
    store(log, server, *numbers(1, 5000))
    config = {"stream_credit": 20}
    with (
        Subscription(config, server.addresses, after="first") as slow,
        Subscription(config, server.addresses, ["org", "x"], after="first") as filtered,
    ):
        wait_for(lambda: slow.statistics()["received"] == filtered.statistics()["received"] == 20, slow)

        def prune() -> None:
            while log.prune(age=0, max_bytes=0, messages=300, rows=50):
                pass

        thread = threading.Thread(target=prune)
        thread.start()
        for reader in (slow, filtered):
            got: list[int] = []
            while not got or got[-1] < 5000:
                got += positions(take(reader, 1))
                got += positions(reader.poll(1000))
            assert got == sorted(set(got))
            assert len(got) + reader.statistics()["lost"] == 5000
        thread.join()


def test_durable_subscription_and_requests(log: StreamLog, server: StreamServer) -> None:
    store(log, server, *numbers(1, 10))
    with Subscription({}, server.addresses, after="first", durable="shop") as subscription:
        take(subscription, 6)[-1].ack()
        wait_until(lambda: asking.subscriptions({}, server.addresses[0])[0]["cursor"] == 6)
    wait_until(lambda: (found := log.cursor("shop")) is not None and found.position == 6)
    with Subscription({}, server.addresses, durable="shop") as subscription:
        assert positions(take(subscription, 4)) == [7, 8, 9, 10]
    assert asking.info({}, server.addresses[0])["newest"] == 10
    assert asking.get({}, server.addresses[0], "id-3").body == body(3)


def test_server_is_killed_and_started_over_its_store(sqlite_url: str) -> None:
    address = free_address()

    def started() -> Process:
        process = Process(
            [sys.executable, "-m", PROGRAM, "store", address, sqlite_url], stdin=True, cwd=REPOSITORY
        )  # fmt: skip
        try:
            process.wait_for("serving")
        except BaseException:
            process.close()
            raise
        return process

    got: list[int] = []
    with Subscription({}, address, after="first", durable="shop") as subscription:
        for _ in range(3):
            with started() as server:
                assert server.popen.stdin is not None
                server.popen.stdin.write(b"2000\n")
                server.popen.stdin.flush()
                got += positions(take(subscription, 700))
                server.popen.kill()
        with started() as server:
            server.wait_for("serving")
            newest = asking.info({}, address)["newest"]
            got += positions(take(subscription, newest - len(got)))
    assert got == list(range(1, newest + 1))
