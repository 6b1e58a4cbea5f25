# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a relay takes to pass messages on: throughput, processor, memory, delay."""

from __future__ import annotations

import statistics

from tests.bench.bus import Bus
from tests.bench.harness import Bench, cpu_seconds, expect, memory_mib, progress
from tests.bench.table import Goal, Row

COUNT, PER_SECOND, PACED = 100_000, 1_000, 3_000
# With so few under way at a time, no queue of the relay's takes up memory worth mentioning.
WINDOW, WINDOWS = 500, 40


class _Contender:
    """A relay with what is measured of it, a figure per round."""

    def __init__(self, bench: Bench, who: str) -> None:
        self._bench = bench
        self._who = who
        self.rate: list[float] = []
        self.cpu: list[float] = []
        self.memory: list[float] = []
        self.memory_blast: list[float] = []
        self.lost: list[float] = []
        self.changed: list[float] = []
        self.median: list[float] = []
        self.slowest: list[float] = []

    def turn(self) -> None:
        """Measure all of it with a fresh relay."""
        bus = Bus(self._bench, self._who)
        self._in_windows(bus)
        self._paced(bus)
        self._blast(bus)
        bus.close()

    def _in_windows(self, bus: Bus) -> None:
        for number in range(self._bench.size(WINDOWS)):
            bus.sink.begin("collect", count=WINDOW, patience=5.0)
            bus.feeder.do("send", first=number * WINDOW, count=WINDOW)
            bus.check(number * WINDOW, WINDOW, bus.sink.result()["count"])
        self.memory.append(memory_mib(bus.relay, "VmHWM"))

    def _paced(self, bus: Bus) -> None:
        count = self._bench.size(PACED)
        bus.sink.begin("clock", count=count, patience=5.0)
        sent = bus.feeder.do("pace", first=0, count=count, per_second=PER_SECOND)
        received = bus.sink.result()
        expect("" if len(received) == count else f"{len(received)} of {count} messages arrived", self._who)
        delays = sorted((there - then) * 1e6 for then, there in zip(sent, received, strict=True))
        self.median.append(statistics.median(delays))
        self.slowest.append(delays[int(0.99 * count)])

    def _blast(self, bus: Bus) -> None:
        count = self._bench.size(COUNT)
        bus.feeder.do("prepare", first=0, count=count)
        before = cpu_seconds(bus.relay)
        bus.sink.begin("collect", count=count, patience=3.0)
        start = bus.feeder.do("blast")
        collected = bus.sink.result()
        arrived = collected["count"]
        self.lost.append(count - arrived)
        self.rate.append(arrived / (collected["last"] - start))
        self.cpu.append((cpu_seconds(bus.relay) - before) / count * 1e6)
        self.memory_blast.append(memory_mib(bus.relay, "VmHWM"))
        self.changed.append(bus.check(0, count, arrived))


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    ours, peer, limit = contenders = [_Contender(bench, who) for who in ("ours", "peer", "limit")]
    for number in range(bench.rounds):
        progress(f"relay: round {number + 1}")
        for contender in contenders:
            contender.turn()

    def row(name: str, unit: str, goal: Goal | None, figure: str) -> Row:
        return Row(name, unit, goal, *(getattr(contender, figure) for contender in (ours, peer, limit)))

    count = bench.size(COUNT)
    return [
        row(f"relay, {count:,} of 500 bytes", "msg/s", Goal("at least", 0.9), "rate"),
        row("  lost of them", "", Goal("max", 0), "lost"),
        row("  other bytes than sent", "", Goal("max", 0), "changed"),
        row("  processor", "us/msg", Goal("at most", 2.5 / 1.6), "cpu"),
        row(f"  memory at most, with {WINDOW} under way", "MiB", Goal("max", 30), "memory"),
        row("  memory at most, with the backlog", "MiB", None, "memory_blast"),
        row(f"  delay at {PER_SECOND:,}/s, median", "us", Goal("at most", 1.2), "median"),
        row(f"  delay at {PER_SECOND:,}/s, slowest of 99 %", "us", Goal("at most", 1.2), "slowest"),
    ]
