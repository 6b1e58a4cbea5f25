# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs a relay to keep its messages, and how quickly it reads them again."""

from __future__ import annotations

from contextlib import ExitStack

from tests.bench.harness import Bench, expect, progress
from tests.bench.table import Goal, Row
from tests.postgres import Cluster

# In batches of 500; a round adds so many to what is there.
APPENDED, READ = 100_000, 100_000
GOALS = {"SQLite": 0.7, "PostgreSQL": 0.6}


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    appending = {name: Row(f"stream, append, {name}", "msg/s", Goal("at least", goal)) for name, goal in GOALS.items()}
    reading = {name: Row(f"stream, read, {name}", "msg/s") for name in GOALS}
    count = max(500, bench.size(APPENDED) // 500 * 500)
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(durable=True))
        programs = {}
        for name in GOALS:
            for who in ("ours", "limit"):
                url = cluster.create() if name == "PostgreSQL" else f"sqlite:///{bench.folder}/stream-{who}.db"
                program = bench.program("streamer", who)
                stack.callback(program.close)
                program.do(f"open_{who}", url=url)
                program.do("append", count=500)
                programs[name, who] = program
        for number in range(bench.rounds):
            progress(f"stream: round {number + 1}")
            for (name, who), program in programs.items():
                figures: list[float] = getattr(appending[name], who)
                figures.append(program.do("append", count=count))
            for (name, who), program in programs.items():
                figures = getattr(reading[name], who)
                done = program.do("read", count=min(count, READ))
                expect("" if done["count"] == min(count, READ) else f"{done['count']} messages were read", who)
                figures.append(done["speed"])
    return [*appending.values(), *reading.values()]
