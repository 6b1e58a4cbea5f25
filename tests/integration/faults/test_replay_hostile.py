# SPDX-License-Identifier: LGPL-2.1-or-later
"""Strangers at the port of a replay server: it answers on, with memory that does not grow."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given, settings, strategies

from fedmsg.replay import ReplayContext, get_replay, sqlstore
from fedmsg.testing import Process, free_address, wait_until
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import frame, memory, raw, ready, shake_hands, threads
from tests.open_files import descriptors
from tests.unit.replay.stores import envelope, opened

NAME = "shop"
STORED = 2000
SLACK = 24 * 1024


class Server:
    """A ``fedmsg-replay`` that has some messages."""

    def __init__(self, folder: Path, **more: Any) -> None:
        url = f"sqlite:///{folder / 'store.db'}"
        store = sqlstore.connect(url)
        store.add_many(envelope(number, msg={"n": number, "text": "x" * 1000}) for number in range(STORED))
        store.close()
        self.address = free_address()
        self.config = {"persistent_store": url, "replay_endpoints": {NAME: self.address}, "timeout": 60, **more}
        path = folder / "replay.py"
        path.write_text(f"config = {self.config!r}\n")
        self.process = Process(["fedmsg-replay"], env={"FEDMSG_CONFIG": str(path)})

    def still_serves(self) -> None:
        """Ask as an honest listener does."""
        found = list(get_replay(NAME, {"seq_id_range": [1, STORED]}, self.config))
        assert [message["seq_id"] for message in found] == list(range(1, STORED + 1))


@contextmanager
def serving(folder: Path, **more: Any) -> Iterator[Server]:
    server = Server(folder, **more)
    try:
        server.process.wait_ready()
        server.still_serves()
        yield server
        server.still_serves()
        assert server.process.stop() == 0, server.process.report()
    finally:
        server.process.close()


def ask_nonsense(address: str, times: int) -> int:
    """Ask one question after the other that has no answer; each gets an error."""
    noise = random.Random(3)
    values: list[Any] = [
        None, True, -1, 0, 2**63, 10**400, 1.5, "1", "", [], {}, [[]], [1], [1, 2, 3], [None, None], ["a", "b"],
        [10**400, 5], [float("nan"), 1.0], "x" * 5000, list(range(10_001)), {"seq_id": 1}, "\x00", "'; DROP TABLE x;--",
    ]  # fmt: skip
    keys = ["seq_id", "seq_ids", "seq_id_range", "msg_id", "msg_ids", "time", "nonsense", ""]
    errors = 0
    with zmq.Context() as context, context.socket(zmq.REQ) as asker:
        asker.linger = 0
        asker.connect(address)
        for _ in range(times):
            kind = noise.randrange(3)
            if kind:
                question = json.dumps({noise.choice(keys): noise.choice(values) for _ in range(kind)}).encode()
            else:
                question = noise.randbytes(noise.choice((0, 10, 1000, 100_000)))
            asker.send(question)
            assert asker.poll(20_000), f"no answer to {question[:200]!r}"
            answer = asker.recv_multipart()
            errors += answer[0].startswith(b"error: ")
    return errors


def ask_and_go(address: str, times: int) -> None:
    """Ask for all there is, and go before the answer comes."""
    for _ in range(0, times, 100):
        # Its end waits for the questions to be handed over.
        with zmq.Context() as context:
            for _ in range(100):
                with context.socket(zmq.REQ) as asker:
                    asker.linger = 1000
                    asker.connect(address)
                    asker.send(b"{}")


def say_half(address: str, times: int) -> None:
    """Shake hands as one who asks, and end in the middle of the question; and send what is no question."""
    noise = random.Random(4)
    whole = b"\x01\x00" + frame(b'{"seq_id": 1}')
    others = [
        frame(b"{}"),
        b"\x01\x00" * 100 + frame(b"{}"),
        b"\x01\x01x" * 200 + b"\x01\x00" + frame(b"{}"),
        b"\x01\x00\x01\x00\x00\x00",
        b"\x02" + b"\x7f" * 8,
        b"\x03" + (10**7).to_bytes(8, "big") + bytes(1000),
        b"\x04\x05\x04PING",
    ]
    for number in range(times):
        with raw(address) as connection, contextlib.suppress(ConnectionError, TimeoutError):
            shake_hands(connection, (b"REQ", b"DEALER", b"ROUTER")[number % 3])
            connection.sendall(others[number % 7] if number % 2 else whole[: noise.randrange(len(whole))])


def open_and_wait(address: str, count: int) -> list[socket.socket]:
    """Open connections and leave them half-way."""
    connections = []
    for number in range(count):
        connection = raw(address)
        connections.append(connection)
        if number % 2:
            shake_hands(connection, b"REQ")
            connection.sendall(b"\x01\x00\x00\x20{")
        else:
            connection.sendall(ready(b"REQ"))
    return connections


Attack = Callable[[str, int], object]


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("attack", [ask_nonsense, ask_and_go, say_half], ids=lambda attack: attack.__name__)
def test_strangers(attack: Attack, tmp_path: Path, figures: Figures, full_size: bool) -> None:
    times, warm = (10_000, 2_000) if full_size else (300, 300)
    if attack is ask_nonsense and full_size:
        times = 200_000
    with serving(tmp_path) as server:
        attack(server.address, warm)
        server.still_serves()
        before = memory(server.process.popen.pid)
        attack(server.address, times)
        server.still_serves()
        after = memory(server.process.popen.pid)
    assert after < before + SLACK
    figures(f"replay server: {attack.__name__}", sent=times, exits=0, memory_before=before, memory_after=after)


@pytest.mark.soak
def test_connections_that_are_left_half_way(tmp_path: Path, full_size: bool) -> None:
    with serving(tmp_path) as server:
        pid = server.process.popen.pid
        idle = (descriptors(pid), threads(pid))
        connections = open_and_wait(server.address, 500 if full_size else 100)
        server.still_serves()
        for connection in connections:
            connection.close()
        wait_until(lambda: descriptors(pid) <= idle[0] + 5, what="connections closed")
        assert threads(pid) == idle[1]


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_those_who_ask_and_do_not_read(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    """Answers that nobody takes are bounded all together, and others get theirs."""
    size = 500_000
    with serving(tmp_path, replay_max_bytes=size) as server, contextlib.ExitStack() as connections:
        pid = server.process.popen.pid
        before = memory(pid)
        stuck: list[socket.socket] = []
        # Each could hold 400 KB several times over.
        question = b"\x01\x00" + frame(b'{"seq_id_range": [1, 350]}')
        for _ in range(400 if full_size else 100):
            connection = connections.enter_context(raw(server.address, window=4096))
            shake_hands(connection, b"DEALER")
            connection.sendall(question * 6)
            stuck.append(connection)
        server.still_serves()
        after = memory(pid)
        # What is kept for all of them, twice while it is handed over, and a little for each.
        assert after < before + 2 * 8 * size // 1024 + SLACK
    figures("replay server: asking and not reading", sent=len(stuck), memory_before=before, memory_after=after, exits=0)


# The whole alphabet of Unicode takes ten seconds to set up.
TEXTS = strategies.text("aé\x00\ud800\U0001f600 '\"\\")
ANYTHING = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | TEXTS,
    lambda inner: strategies.lists(inner) | strategies.dictionaries(TEXTS, inner),
    max_leaves=20,
)
KEYS = strategies.sampled_from(["seq_id", "seq_ids", "seq_id_range", "msg_id", "msg_ids", "time"])
QUESTIONS = strategies.dictionaries(KEYS | TEXTS, ANYTHING).map(lambda query: json.dumps(query).encode())


def test_generated_questions(sqlite_url: str) -> None:
    with (
        opened(sqlite_url) as store,
        ReplayContext(name=NAME, persistent_store=store, replay_endpoints={NAME: free_address()}) as server,
    ):
        store.add(envelope(1))

        @given(QUESTIONS | strategies.binary())
        @settings(deadline=None, max_examples=100)
        def ask(question: bytes) -> None:
            for frame in server._answer(question, 10**6):
                assert frame.startswith(b"error: '") or json.loads(frame)["seq_id"] == 1

        ask()
