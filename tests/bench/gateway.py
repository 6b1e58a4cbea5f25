# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a gateway takes to repeat messages: throughput to one listener, processor with many."""

from __future__ import annotations

import time

from tests.bench.harness import Bench, BenchError, Program, cpu_seconds, expect, progress
from tests.bench.table import Goal, Row

COUNT, LISTENERS, COUNT_FOR_ALL = 100_000, 50, 20_000


class _Contender:
    """A gateway with what is measured of it, a figure per round."""

    def __init__(self, bench: Bench, who: str) -> None:
        self._bench = bench
        self._who = who
        self.rate: list[float] = []
        self.lost: list[float] = []
        self.cpu: list[float] = []

    def turn(self) -> None:
        """Measure all of it, each with a fresh gateway."""
        self._one()
        self._many()

    def _start(self, listener: Program, heard: int, **connect: int) -> tuple[Program, float]:
        """Start a gateway between a feeder and a listener that has to hear so many greetings."""
        feeder = self._bench.program("feeder")
        (endpoint,) = feeder.do("bind", sockets=1)
        port = self._bench.address().rpartition(":")[2]
        self._process = self._bench.gateway(self._who, endpoint, port)
        listener.do("connect", address=f"tcp://127.0.0.1:{port}", **connect)
        deadline = time.monotonic() + 20
        while listener.do("greeted", patience=0.05) < heard:
            feeder.do("greet")
            if time.monotonic() > deadline:
                raise BenchError(f"the gateway of {self._who} passes nothing on")
        # What is still under way ends with this silence; after it nothing but what is counted comes.
        while listener.do("greeted", patience=0.2):
            pass
        return feeder, cpu_seconds(self._process)

    def _end(self, feeder: Program, listener: Program) -> None:
        feeder.close()
        listener.close()
        self._process.kill()
        self._process.wait()

    def _one(self) -> None:
        count = self._bench.size(COUNT)
        sink = self._bench.program("sink")
        feeder, _ = self._start(sink, True)
        feeder.do("prepare", first=0, count=count)
        sink.begin("collect", count=count, patience=3.0)
        start = feeder.do("blast")
        collected = sink.result()
        arrived = collected["count"]
        checked = sink.do("check_sent", first=0)
        # Only the gateway of 1.1.7 may lose some: its own socket takes a thousand and drops what comes beyond.
        if self._who != "peer":
            expect("" if arrived == count else f"{arrived} of {count} messages arrived", self._who)
            expect(checked["problem"], self._who)
            expect(f"{checked['changed']} messages were changed" if checked["changed"] else "", self._who)
        self.rate.append(arrived / (collected["last"] - start))
        self.lost.append(count - arrived)
        self._end(feeder, sink)

    def _many(self) -> None:
        count = self._bench.size(COUNT_FOR_ALL)
        crowd = self._bench.program("crowd")
        feeder, before = self._start(crowd, LISTENERS, subscribers=LISTENERS)
        crowd.begin("collect", count=count, first=0, patience=3.0)
        feeder.do("send", first=0, count=count)
        collected = crowd.result()
        if self._who != "peer":
            expect(f"{collected['wrong']} of {count} did not come to all" if collected["wrong"] else "", self._who)
        passed = collected["came"] / LISTENERS
        self.cpu.append((cpu_seconds(self._process) - before) / passed * 1e6)
        self._end(feeder, crowd)


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    ours, peer, limit = contenders = [_Contender(bench, who) for who in ("ours", "peer", "limit")]
    for number in range(bench.rounds):
        progress(f"gateway: round {number + 1}")
        for contender in contenders:
            contender.turn()
    figures = [
        (f"gateway, {bench.size(COUNT):,} of 500 bytes, 1 listener", "msg/s", Goal("at least", 0.9), "rate"),
        ("  lost of them", "", Goal("max", 0), "lost"),
        (f"  processor with {LISTENERS} listeners", "us/msg", Goal("at most", 1.1), "cpu"),
    ]
    return [
        Row(name, unit, goal, *(getattr(contender, figure) for contender in (ours, peer, limit)))
        for name, unit, goal, figure in figures
    ]
