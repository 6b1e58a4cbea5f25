# SPDX-License-Identifier: LGPL-2.1-or-later
"""The relay goes away and comes back, under programs that go on."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.testing import Bus, Process, envelopes
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import Witness, doubled, freeze, publishing, until_more
from tests.stream_relays import StreamBus, sqlite_url

# A bus keeps nothing for a subscriber that is away. So that a missing message means a lost one,
# publishers here look for a relay that has come back later than the witness does.
LATER = {"zmq_reconnect_ivl": 500, "zmq_reconnect_ivl_max": 500, "timeout": 20}


@contextlib.contextmanager
def lines_into(process: Process) -> Iterator[list[int]]:
    """Write numbered lines to a process's standard input for as long as the block lasts.

    Yields:
        The numbers that have been written.
    """
    stdin = process.popen.stdin
    assert stdin is not None
    written: list[int] = []
    stop = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if stop.wait(0.001):
                return
            stdin.write(f"line {number}\n".encode())
            stdin.flush()
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield written
    finally:
        stop.set()
        writer.join()
        stdin.close()


def logged(texts: list[str]) -> list[int]:
    """Give the numbers of the lines that came through."""
    return [int(text.removeprefix("line ")) for text in texts if text.startswith("line ")]


@pytest.mark.soak
@pytest.mark.parametrize("relay", ["plain", "storing"])
def test_what_a_killed_relay_loses_is_reported(relay: str, figures: Figures, full_size: bool, tmp_path: Path) -> None:
    kills, settings = 20 if full_size else 2, {**LATER, "timeout": 10}
    with StreamBus(sqlite_url(tmp_path), **settings) if relay == "storing" else Bus(settings) as bus:
        bus.start_relay()
        with (
            Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness,
            bus.tail("--json") as tail,
            Process(["fedmsg-logger"], env=bus.environ, stdin=True) as logger,
        ):
            witness.greet(bus)
            with lines_into(logger) as written:
                for _ in range(kills):
                    assert bus.relay is not None
                    until_more(witness.frames, 100)
                    # Held up first, so that there is something in its hands when it is killed.
                    freeze(bus.relay.popen.pid)
                    until_more(written, 100)
                    assert bus.stop_relay(signal.SIGKILL) == -signal.SIGKILL
                    bus.start_relay()
                until_more(witness.frames, 100)
                # The tail may be back later than the others.
                until_more(tail.out, 100)
            status = logger.wait()
            last = f"line {written[-1]}"
            tail.wait_for(f'"log":"{last}"')
            witness_got = logged([body["msg"].get("log", "") for body in witness.bodies("log")])
            tail_got = logged([body["msg"].get("log", "") for body in envelopes(tail.out)])
            tail_status = tail.stop()
        relay_status = bus.stop_relay()
    lost = len(written) - len(set(witness_got))
    told = re.search(r"about (\d+) messages may be lost", logger.err[-1])
    assert (status, tail_status, relay_status) == (4, 0, 0)
    assert lost > 0
    assert told is not None
    assert int(told[1]) >= lost
    assert witness_got == sorted(set(witness_got))
    assert tail_got == sorted(set(tail_got))
    # Once all were back, nothing was missing any more.
    assert set(range(written[-1] - 50, written[-1] + 1)) <= set(tail_got)
    figures(
        f"{relay} relay killed {kills} times under a logger and a tail",
        sent=len(written), arrived=len(set(witness_got)), lost=lost, exits=0, remarks=f"reported: about {told[1]}",
    )  # fmt: skip


@pytest.mark.soak
def test_a_relay_that_is_stopped_and_started_again_loses_nothing(figures: Figures, full_size: bool) -> None:
    restarts = 50 if full_size else 2
    with Bus(LATER) as bus:
        bus.start_relay()
        statuses = []
        with Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness, bus.context() as context:
            witness.greet(bus)
            with (
                # Other settings, another socket.
                bus.context(zmq_linger=2000) as other,
                publishing(context, "one") as one,
                publishing(other, "two", pause=0.002) as two,
            ):
                for _ in range(restarts):
                    until_more(one, 500)
                    until_more(two, 20)
                    statuses.append(bus.stop_relay())
                    bus.start_relay()
                until_more(one, 500)
                until_more(two, 20)
            witness.wait_for(len(one), "one")
            witness.wait_for(len(two), "two")
            got = {word: witness.numbers(word) for word in ("one", "two")}
            assert context.lost == 0
            assert other.lost == 0
        statuses.append(bus.stop_relay())
    assert statuses == [0] * (restarts + 1)
    # Exactly once, and in order.
    assert got == {"one": one, "two": two}
    assert doubled(got["one"]) == []
    figures(
        f"relay stopped and started {restarts} times under load",
        sent=len(one) + len(two), arrived=len(got["one"]) + len(got["two"]), lost=0, exits=0,
    )  # fmt: skip


@pytest.mark.soak
def test_a_restarted_relay_waits_for_the_tails_it_had(figures: Figures, full_size: bool, tmp_path: Path) -> None:
    """Both sides look for the new relay at times of their own, and a tail may be the later one."""
    restarts = 50 if full_size else 2
    with Bus({"timeout": 20}) as bus:
        # As systemd does: a folder that stays over a restart.
        bus.environ["RUNTIME_DIRECTORY"] = str(tmp_path)
        bus.start_relay()
        with bus.tail("--json") as one, bus.tail("--json") as other, bus.context() as context:
            with publishing(context, "load") as published:
                for _ in range(restarts):
                    until_more(published, 500)
                    assert bus.stop_relay() == 0
                    bus.start_relay()
                until_more(published, 500)
            assert context.lost == 0
            for tail in (one, other):
                tail.wait_for(f'"n":{published[-1]}}}')
            got = [
                [body["msg"]["n"] for body in envelopes(tail.out) if body["topic"].endswith(".load")]
                for tail in (one, other)
            ]
            assert [one.stop(), other.stop()] == [0, 0]
        assert bus.stop_relay() == 0
    # Named one by one, for who has to find out why.
    assert [sorted(set(published) - set(numbers)) for numbers in got] == [[], []]
    assert got == [published] * 2
    figures(
        f"relay restarted {restarts} times before two tails",
        sent=2 * len(published), arrived=sum(map(len, got)), lost=0, exits=0,
    )  # fmt: skip
