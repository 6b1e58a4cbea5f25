# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a stream costs as it grows: the same work with a thousand messages and with ten million."""

from __future__ import annotations

import time
from contextlib import ExitStack

from tests.bench.harness import Bench, end, progress
from tests.bench.stream_bus import DATABASES, Storing, opened, urls
from tests.bench.table import Goal, Row

SMALL, LARGE = 1_000, 10_000_000
# Of what is measured; and how many are stored between two reports.
PUBLISHED, READ, STEP = 1_000, 20_000, 200_000


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group; the limit is ours with a thousand messages."""
    large = max(10 * SMALL, bench.size(LARGE) // STEP * STEP)
    rows: list[Row] = []
    with ExitStack() as stack, urls(bench, stack) as databases:
        for name in DATABASES:
            mine = [
                Row(f"relay's start, {name}, {large:,} messages", "s", Goal("max", 1.0)),
                Row("  info", "ms", Goal("at most", 1.5)),
                Row("  confirmed one by one", "msg/s", Goal("at least", 0.8)),
                Row("  the last 20,000 read", "msg/s", Goal("at least", 0.8)),
            ]
            rows += mine
            places = {"limit": (databases[name](), SMALL), "ours": (databases[name](), large)}
            for url, count in places.values():
                _fill(bench, url, count)
            relays = {who: Storing(bench, url) for who, (url, _) in places.items()}
            for number in range(bench.rounds):
                progress(f"stream-growth: {name}, round {number + 1}")
                for who, relay in relays.items():
                    for row, figure in zip(mine, _measure(bench, relay), strict=True):
                        figures: list[float] = getattr(row, who)
                        figures.append(figure)
    return rows


def _fill(bench: Bench, url: str, count: int) -> None:
    program = bench.program("streamer", "ours")
    program.do("open_ours", url=url)
    done = 0
    while done < count:
        step = min(STEP, count - done)
        program.do("append", count=step)
        done += step
        if done % (10 * STEP) == 0:
            progress(f"stream-growth: {done:,} stored")
    program.close()


def _measure(bench: Bench, relay: Storing) -> list[float]:
    """Return the seconds of a start, the milliseconds of info, and messages per second published and read."""
    relay.info()
    end(relay.process, 0.0)
    begin = time.perf_counter()
    relay.start()
    newest = relay.info()["newest"]
    start = time.perf_counter() - begin
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        relay.info()
        times.append(time.perf_counter() - begin)
    program = opened(bench, "ours", relay.config)
    speed = program.do("one_by_one", count=bench.size(PUBLISHED))
    reading = program.do("read", count=min(READ, newest), last=min(READ, newest))
    program.close()
    return [start, 1000 * sorted(times)[len(times) // 2], speed, reading["speed"]]
