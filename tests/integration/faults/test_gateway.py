# SPDX-License-Identifier: LGPL-2.1-or-later
"""A gateway under load: stopped, restarted, with endpoints killed, stuck listeners and hostile frames."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.testing import Process, envelopes, wait_until
from tests.gateways import GatewayBus
from tests.integration.faults import hostile
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import Witness, memory, publishing, stuck_subscriber, until_more
from tests.integration.faults.test_hostile_messages import SLACK, Enemy, portions

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)

# How many messages a stuck listener may hold in these tests, and what each of them carries.
LIMIT = 2000
FILLER = "x" * 4000


def greet(witness: Witness, context: FedMsgContext) -> None:
    """Return once what a context publishes gets to a witness, and forget what it was."""
    wait_until(lambda: witness.bodies("hello"), meanwhile=lambda: context.publish("hello", modname="test"))
    context.publish("last-hello", modname="test")
    witness.wait_for(1, "last-hello")
    del witness.frames[:]


@SIGNALS
def test_a_stop_under_full_load(number: signal.Signals) -> None:
    with (
        GatewayBus() as bus,
        Witness(bus.address) as witness,
        bus.start_gateway() as gateway,
        bus.publisher("first") as first,
        bus.publisher("second") as second,
    ):
        for context in (first, second):
            greet(witness, context)
        with publishing(first, "one") as one, publishing(second, "two") as two:
            until_more(one, 3000)
            until_more(two, 1000)
            assert gateway.stop(number) == 0
        assert gateway.err == []
        said = gateway.wait_for("stopped after")
        # All up to some point, and nothing behind it.
        for word, published, least in (("one", one, 3000), ("two", two, 1000)):
            witness.wait_for(least, word)
            got = witness.numbers(word)
            assert got == published[: len(got)]
        assert "stopped after 0 " not in said


ENDPOINT = """
import itertools, json, sys, time, zmq
socket = zmq.Context().socket(zmq.PUB)
socket.bind(sys.argv[1])
for number in itertools.count():
    socket.send_multipart([b"org.fedoraproject.dev.test.killed", b'{"msg":{"n":%d}}' % number])
    time.sleep(0.001)
"""


@pytest.mark.soak
def test_an_endpoint_is_killed_and_comes_back(figures: Figures, full_size: bool) -> None:
    kills = 100 if full_size else 3
    with (
        GatewayBus() as bus,
        Witness(bus.address) as witness,
        bus.start_gateway() as gateway,
        bus.publisher("second") as second,
    ):
        greet(witness, second)
        with publishing(second, "steady", pause=0.001) as steady:
            for _ in range(kills):
                with Process([sys.executable, "-c", ENDPOINT, bus.first]) as endpoint:
                    heard = len(witness.frames)
                    wait_until(lambda: any(frames[0].endswith(b".killed") for frames in witness.frames[heard:]))  # noqa: B023
                    assert endpoint.stop(signal.SIGKILL) == -signal.SIGKILL
        # Whatever became of the one, the other did not suffer.
        witness.wait_for(len(steady), "steady")
        assert witness.numbers("steady") == steady
        assert gateway.stop() == 0
        assert gateway.err == []
    figures(
        f"an endpoint of a gateway killed {kills} times, at the other", sent=len(steady), arrived=len(steady), lost=0
    )


@pytest.mark.soak
def test_stuck_listeners(figures: Figures, full_size: bool) -> None:
    seconds, least = (600, 1_000_000) if full_size else (0, 20_000)
    # Without heartbeats, which would end such a connection after a while.
    settings = {"fedmsg.consumers.gateway.high_water_mark": LIMIT, "zmq_heartbeat_ivl": 0, "stop_timeout": 1}
    with (
        GatewayBus(**settings) as bus,
        Witness(bus.address) as witness,
        bus.start_gateway() as gateway,
        bus.publisher("first") as first,
    ):
        greet(witness, first)
        with stuck_subscriber(bus.address), stuck_subscriber(bus.address):
            before = memory(gateway.popen.pid)
            end, sent, arrived = time.monotonic() + seconds, 0, 0
            while sent < least or time.monotonic() < end:
                # In portions, lest the witness becomes one that lags behind too much.
                for _ in range(LIMIT // 4):
                    first.publish("flood", {"n": sent, "filler": FILLER}, modname="test")
                    sent += 1
                witness.wait_for(LIMIT // 4, "flood")
                assert witness.numbers("flood") == [*range(arrived, sent)]
                arrived = sent
                del witness.frames[:]
            peak = memory(gateway.popen.pid, "VmHWM")
            status = gateway.stop()
    # What the two may hold, and as much again for what is in the kernel's and ZeroMQ's hands.
    allowed = 2 * 2 * LIMIT * len(FILLER) // 1024
    assert sent * len(FILLER) // 1024 > allowed
    assert peak - before < allowed
    assert status == 8
    assert len(gateway.err) == 1
    assert "with work left: 2 subscribers had not taken everything" in gateway.err[0]
    figures(
        "gateway with 2 stuck listeners", sent=sent, arrived=arrived, lost=0, exits=0,
        memory_before=before, memory_after=peak, remarks=f"peak; {LIMIT} of 4 KB allowed for each; status 8",
    )  # fmt: skip


@pytest.mark.soak
def test_hostile_frames_pass_unread(figures: Figures, full_size: bool) -> None:
    total = 1_000_000 if full_size else 20_000
    with (
        GatewayBus() as bus,
        Witness(bus.address) as witness,
        bus.start_gateway() as gateway,
        Enemy(bus.first) as enemy,
        bus.publisher("second") as second,
    ):
        enemy.wait_for_subscribers(1)
        greet(witness, second)
        passed: Counter[tuple[bytes, ...]] = Counter()

        def throw(messages: list[list[bytes]]) -> None:
            word = enemy.send(messages).encode()
            second.publish("good", {"n": enemy.rounds}, modname="test")
            wait_until(lambda: len(witness.frames) >= len(messages) + 2, timeout=60)
            assert witness.numbers("good") == [enemy.rounds]
            passed.update(
                tuple(frames)
                for frames in witness.frames
                if word not in frames[-1] and not frames[0].endswith(b".good")
            )
            del witness.frames[:]

        for one in hostile.big():
            throw([one.frames])
        for portion in itertools.islice(portions(5000), 5):
            throw(portion)
        before = memory(gateway.popen.pid)
        for portion in portions(total - enemy.sent):
            throw(portion)
        after = memory(gateway.popen.pid)
        assert gateway.stop() == 0
        assert gateway.err == []
    assert passed.total() == enemy.sent
    assert set(passed) == {tuple(one.frames) for one in hostile.small() + hostile.big()}
    assert after - before < SLACK
    figures(
        "hostile messages at a gateway", sent=enemy.sent, arrived=enemy.sent, lost=0, exits=0,
        memory_before=before, memory_after=after, remarks=f"{enemy.rounds} good ones came through",
    )  # fmt: skip


def test_a_restarted_gateway_has_its_listeners_miss_the_same(tmp_path: Path) -> None:
    """Nobody keeps what is published while it is away; what comes after that it holds until all are back."""
    with GatewayBus() as bus, bus.publisher("first") as first:
        # As systemd does: a folder that stays over a restart.
        bus.environ["RUNTIME_DIRECTORY"] = str(tmp_path)
        tails = [Process(["fedmsg-tail", "--json"], env=bus.outside.environ) for _ in range(2)]
        with tails[0], tails[1]:
            with bus.start_gateway() as gateway:
                for tail in tails:
                    tail.wait_for("hello", meanwhile=lambda: first.publish("hello", modname="test"))
                with publishing(first, "load", pause=0.0005) as published:
                    until_more(published, 500)
                    assert gateway.stop() == 0
                    with bus.start_gateway() as again:
                        until_more(published, 1000)
                        for tail in tails:
                            tail.wait_for(f'"n":{len(published) - 1}}}')
                        until_more(published, 500)
                        assert again.stop() == 0
            assert [tail.stop() for tail in tails] == [0, 0]
        one, other = (
            [body["msg"]["n"] for body in envelopes(tail.out) if body["topic"].endswith(".load")] for tail in tails
        )
    # One gap, the same for both; at the very end one may have printed more than the other.
    least = min(len(one), len(other))
    assert least > 1500
    assert one[:least] == other[:least]
    assert len([number for number, following in itertools.pairwise(one[:least]) if following != number + 1]) == 1
