# SPDX-License-Identifier: LGPL-2.1-or-later
"""What asyncio costs: `fedmsg.aio` beside the synchronous functions, which stand as the limit."""

from __future__ import annotations

from tests.bench.harness import Bench, progress
from tests.bench.publish import BLOCK, CASES, ROUNDS
from tests.bench.publish import Contender as Publishing
from tests.bench.table import Goal, Row
from tests.bench.tail import COUNT
from tests.bench.tail import Contender as Listening

# The plain case, and a large message.
PUBLISHED = [case for case in CASES if case.how == "given"]


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    return [*_publish(bench), *_tail(bench)]


def _publish(bench: Bench) -> list[Row]:
    asynchronous, synchronous = Publishing(bench, "ours", "aio"), Publishing(bench, "ours", "fedmsg")
    rows = {case: Row(f"aio {case.name}", "us", Goal("at most", 1.2)) for case in PUBLISHED}
    block = bench.size(BLOCK)
    for number in range(max(bench.rounds, ROUNDS)):
        progress(f"aio publish: round {number + 1}")
        for case, row in rows.items():
            row.ours.append(asynchronous.turn(case, block))
            row.limit.append(synchronous.turn(case, block))
    return [*rows.values()]


def _tail(bench: Bench) -> list[Row]:
    count = bench.size(COUNT)
    rows: list[tuple[Row, Listening, Listening]] = []
    for sockets in (1, 200):
        row = Row(f"aio tail, {sockets} endpoint{'s' if sockets > 1 else ''}", "msg/s", Goal("at least", 0.8))
        asynchronous, synchronous = (Listening(bench, "ours", sockets, way, speed=True) for way in ("aio", "fedmsg"))
        rows.append((row, asynchronous, synchronous))
    for number in range(bench.rounds):
        progress(f"aio tail: round {number + 1}")
        for row, asynchronous, synchronous in rows:
            row.ours.append(asynchronous.turn(count))
            row.limit.append(synchronous.turn(count))
    return [row for row, _, _ in rows]
