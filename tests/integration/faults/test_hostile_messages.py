# SPDX-License-Identifier: LGPL-2.1-or-later
"""Malformed messages thrown at tail and relay: none ends them, none is taken, good ones come through."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import zmq

from fedmsg._util.ratelimit import EVERY
from fedmsg.testing import Bus, Process, free_address, wait_until
from fedmsg.transport.zmq.source import Source
from fedmsg.transport.zmq.source import tail as receive_all
from tests.integration.faults import hostile
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import Witness, memory, raw, shake_hands

FORMATS = ["", "--json", "--pretty", "--really-pretty", "--query=msg.n"]
# Growth that is no leak: the allocator keeps room for the biggest message.
SLACK = 12 * 1024


class Enemy:
    """Publishes whatever it is told to, in portions that are all taken before the next is sent.

    Args:
        address: Where it is bound, or what it connects to.
        connect: Whether it connects.
    """

    def __init__(self, address: str, *, connect: bool = False) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        if connect:
            self.socket.connect(address)
        else:
            self.socket.bind(address)
        self.sent = 0
        self.rounds = 0

    def wait_for_subscribers(self, count: int) -> None:
        """Wait until so many have subscribed."""
        for _ in range(count):
            assert self.socket.poll(20_000), "nobody subscribes"
            assert self.socket.recv() == b"\x01"

    def send(self, messages: Iterator[list[bytes]] | list[list[bytes]]) -> str:
        """Send messages, and then a good one.

        Returns:
            A word that only the last one has.
        """
        for frames in messages:
            self.socket.send_multipart(frames)
            self.sent += 1
        self.rounds += 1
        self.socket.send_multipart(hostile.message(hostile.around(f'{{"n": "round {self.rounds} is over"}}')))
        return f"round {self.rounds} is over"

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
        self._context.term()

    def __enter__(self) -> Enemy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def portions(total: int) -> Iterator[list[list[bytes]]]:
    """Give the small hostile messages again and again, a thousand at a time."""
    endless = itertools.cycle([one.frames for one in hostile.small()])
    for _ in range(0, total, 1000):
        yield [next(endless) for _ in range(1000)]


@pytest.mark.soak
def test_tail_in_every_format(figures: Figures, full_size: bool) -> None:
    total = 1_000_000 if full_size else 8_000
    address, start = free_address(), time.monotonic()
    with Bus({"endpoints": {"enemy": [address]}}) as bus, Enemy(address) as enemy, ExitStack() as stack:
        tails = [
            stack.enter_context(Process(["fedmsg-tail", *filter(None, [flag])], env=bus.environ)) for flag in FORMATS
        ]
        enemy.wait_for_subscribers(len(tails))

        def throw(messages: list[list[bytes]]) -> None:
            word = enemy.send(messages)
            for tail in tails:
                tail.wait_for(lambda line: word in line, timeout=60)
                del tail.out[:]

        for one in hostile.big() + hostile.too_big():
            throw([one.frames])
        throw(hostile.odd_but_good())
        for portion in itertools.islice(portions(3000), 3):
            throw(portion)
        before = [memory(tail.popen.pid) for tail in tails]
        for portion in portions(total - enemy.sent):
            throw(portion)
        after = [memory(tail.popen.pid) for tail in tails]
        statuses = [tail.stop() for tail in tails]
    assert statuses == [0] * len(tails)
    assert [after[i] - before[i] for i in range(len(tails)) if after[i] - before[i] > SLACK] == []
    kinds = {one.kind for one in hostile.small() + hostile.too_big()}
    for tail in tails:
        refused = [line for line in tail.err if "rejected a message" in line]
        # One warning for each kind, and another every ten seconds with the number of those left out.
        assert len(kinds) <= len(refused) <= len(kinds) * (2 + (time.monotonic() - start) / EVERY)
        assert [line for line in tail.err if line not in refused] == []
        assert all(address in line and line.isprintable() for line in refused)
        assert max(map(len, refused)) < 500
    figures(
        f"hostile messages at {len(tails)} tails", sent=enemy.sent, arrived=0, lost=0, exits=0,
        memory_before=max(before), memory_after=max(after), remarks=f"{enemy.rounds} good ones came through",
    )  # fmt: skip


def test_what_is_refused_is_counted_by_reason(caplog: pytest.LogCaptureFixture) -> None:
    address = free_address()
    messages = hostile.small() + hostile.big() + hostile.too_big()
    taken = []
    with Enemy(address) as enemy, Source({}, [("enemy", address)]) as source:

        def receive() -> None:
            for _, _, _, envelope in receive_all(lambda: source):
                taken.append(envelope["msg"])
                if envelope["msg"] == {"n": "round 1 is over"}:
                    return

        thread = threading.Thread(target=receive)
        thread.start()
        enemy.wait_for_subscribers(1)
        with caplog.at_level(logging.WARNING):
            enemy.send([*(one.frames for one in messages), *hostile.odd_but_good()])
            thread.join()
    assert source.rejections.counts == Counter(one.kind for one in messages)
    assert len(taken) == len(hostile.odd_but_good()) + 1
    assert len(caplog.records) == len(source.rejections.counts)


@contextmanager
def oversized_at(address: str) -> Iterator[None]:
    """Have somebody publish what is too big, again and again, for as long as the block lasts."""
    stop = threading.Event()
    claims = [
        b"\x02" + (hostile.MAX_SIZE + 1).to_bytes(8, "big"),
        b"\x02" + b"\x7f" + b"\xff" * 7,
        b"\x02" + b"\xff" * 8,
    ]
    body = hostile.too_big()[0].frames[1]

    def run() -> None:
        for number in itertools.count():
            if stop.wait(0.02):
                return
            with raw(address) as connection:
                shake_hands(connection, b"PUB")
                try:
                    connection.sendall(claims[number % 3] + body[: 1024 * 1024])
                    connection.recv(1)
                except ConnectionError:
                    continue  # the relay has ended it, as it should

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.soak
def test_relay_and_the_tail_behind_it(figures: Figures, full_size: bool) -> None:
    total = 1_000_000 if full_size else 20_000
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        relay = bus.start_relay()
        witness.greet(bus)
        inbound = bus.config["relay_inbound"][0]
        with bus.tail("--json") as tail, Enemy(inbound, connect=True) as enemy, bus.context() as context:
            enemy.wait_for_subscribers(1)
            passed: Counter[tuple[bytes, ...]] = Counter()
            good = []

            def throw(messages: list[list[bytes]]) -> None:
                word = enemy.send(messages)
                context.publish("good", {"n": enemy.rounds}, modname="test")
                tail.wait_for(lambda line: word in line, timeout=60)
                tail.wait_for(lambda line: f'"n":{enemy.rounds}' in line)
                wait_until(lambda: len(witness.frames) >= len(messages) + 2)
                good.extend(witness.numbers("good"))
                passed.update(
                    tuple(frames)
                    for frames in witness.frames
                    if word.encode() not in frames[-1] and not frames[0].endswith(b".good")
                )
                del witness.frames[:], tail.out[:]

            # The last greeting of the tail, which has it by now.
            wait_until(lambda: any(b"that was all" in frames[-1] for frames in witness.frames))
            del witness.frames[:]
            for one in hostile.big():
                throw([one.frames])
            for portion in itertools.islice(portions(5000), 5):
                throw(portion)
            before = memory(relay.popen.pid), memory(tail.popen.pid)
            with oversized_at(inbound):
                for portion in portions(total - enemy.sent):
                    throw(portion)
            after = memory(relay.popen.pid), memory(tail.popen.pid)
            assert context.lost == 0
            assert tail.stop() == 0
        assert bus.stop_relay() == 0
    # What the relay is not told to look at it passes on, every frame of it.
    assert passed.total() == enemy.sent
    assert set(passed) == {tuple(one.frames) for one in hostile.small() + hostile.big()}
    assert good == [*range(1, enemy.rounds + 1)]
    assert after[0] - before[0] < SLACK
    assert after[1] - before[1] < SLACK
    assert relay.err == []
    for name, index in (("relay", 0), ("tail behind a relay", 1)):
        figures(
            f"hostile messages at a {name}", sent=enemy.sent, arrived=enemy.sent if index == 0 else 0, lost=0, exits=0,
            memory_before=before[index], memory_after=after[index], remarks=f"{len(good)} good ones came through",
        )  # fmt: skip
