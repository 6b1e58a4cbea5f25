# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a call of ``publish`` costs the application."""

from __future__ import annotations

from typing import NamedTuple

from tests.bench.harness import Bench, Program, expect, progress
from tests.bench.table import Goal, Row

# One block stays below the 1,000 messages that fedmsg 1.1.7 can hold for a subscriber.
BLOCK, WARM_UP = 800, 160
# Blocks are short, so there can be many rounds.
ROUNDS = 15


class _Case(NamedTuple):
    name: str
    size: int
    how: str
    depth: int
    # How many messages of a block 1.1.7 publishes: where one takes it milliseconds, fewer will do.
    peer: int


CASES = [
    _Case("publish, 300 bytes, modname given", 300, "given", 0, BLOCK),
    _Case("  modname guessed, 0 frames deep", 300, "guessed", 0, 200),
    _Case("  modname guessed, 30 frames deep", 300, "guessed", 30, 100),
    _Case("  modname guessed, 300 frames deep", 300, "guessed", 300, 20),
    _Case("publish, 10 KB nested", 10_000, "given", 0, BLOCK),
]


class Contender:
    """A publisher with a subscriber of its own, which checks all that was published.

    Args:
        bench: The surroundings.
        who: Who publishes.
        way: By which means.
    """

    def __init__(self, bench: Bench, who: str, way: str) -> None:
        self.who = who
        address = bench.address()
        self._publisher: Program = bench.program("publisher", who)
        self._publisher.do(f"open_{way}", address=address)
        self._sink = bench.program("sink")
        self._sink.do("connect", address=address)
        self._published = 0
        while not self._sink.do("greeted", patience=0.05):
            self._publisher.do("publish", count=1, size=300, how="given", depth=0)
            self._published += 1

    def turn(self, case: _Case, count: int) -> float:
        """Publish one block; microseconds for each message."""
        self._run(case, min(WARM_UP, count))
        return self._run(case, count)

    def _run(self, case: _Case, count: int) -> float:
        self._sink.begin("collect", count=count, patience=5.0)
        microseconds = float(self._publisher.do("publish", count=count, size=case.size, how=case.how, depth=case.depth))
        arrived = self._sink.result()["count"]
        first, self._published = self._published + 1, self._published + count
        expect("" if arrived == count else f"{arrived} of {count} messages arrived", self.who)
        if self.who != "bare":
            modname = "bench" if case.how == "given" else "__main__"
            topic = f"org.fedoraproject.dev.{modname}.update"
            expect(self._sink.do("check_envelopes", topic=topic, size=case.size, first=first), self.who)
        return microseconds


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    ours, peer, limit, bare = (
        Contender(bench, who, way)
        for who, way in (("ours", "fedmsg"), ("peer", "fedmsg"), ("limit", "limit"), ("bare", "bare"))
    )
    rows = {case: Row(case.name, "us", _goal(case)) for case in CASES}
    plain = Row("plain send of 500 bytes", "us")
    block = bench.size(BLOCK)
    for number in range(max(bench.rounds, ROUNDS)):
        progress(f"publish: round {number + 1}")
        for case, row in rows.items():
            row.ours.append(ours.turn(case, block))
            # What guessing costs more is too little to be told from figures that are further apart.
            row.limit.append(limit.turn(case, block) if case.how == "given" else ours.turn(CASES[0], block))
            row.peer.append(peer.turn(case, bench.size(case.peer)))
        plain.limit.append(bare.turn(CASES[0], block))
    return [*rows.values(), plain]


def _goal(case: _Case) -> Goal:
    if case.how == "guessed":
        return Goal("plus", 1.0)
    return Goal("at most", 0.9 if case.size == 300 else 1.05)
