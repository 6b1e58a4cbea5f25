# SPDX-License-Identifier: LGPL-2.1-or-later
"""What storing costs a publisher, and how quickly a store gives out again what it has."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

import zmq

from tests.bench.harness import Bench, BenchError, expect, memory_mib, progress
from tests.bench.table import Goal, Row
from tests.postgres import Cluster

PUBLISHED, REPLAYED = 3_000, 1_000_000
# Of 1.1.7 fewer will do.
PEER_PUBLISHED = 500
DATABASES = ("SQLite", "PostgreSQL")


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    return [*_measure_storing(bench), *_measure_replay(bench)]


def _measure_storing(bench: Bench) -> list[Row]:
    rows = {database: Row(f"stored publish, {database}", "msg/s", Goal("at least", 0.6)) for database in DATABASES}
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(durable=True))
        programs = {}
        for database in DATABASES:
            for who in ("ours", "limit", "peer"):
                # 1.1.7 can't store its own messages on PostgreSQL: an id is longer than the column for it.
                if (database, who) == ("PostgreSQL", "peer"):
                    continue
                url = cluster.create() if database == "PostgreSQL" else f"sqlite:///{bench.folder}/{who}.db"
                program = bench.program("storer", who)
                stack.callback(program.close)
                program.do(f"open_{'limit' if who == 'limit' else 'fedmsg'}", address=bench.address(), url=url)
                program.do("publish", count=50)
                programs[database, who] = program
        for number in range(bench.rounds):
            progress(f"replay: storing, round {number + 1}")
            for (database, who), program in programs.items():
                count = bench.size(PEER_PUBLISHED if who == "peer" else PUBLISHED)
                figures: list[float] = getattr(rows[database], who)
                figures.append(program.do("publish", count=count))
    return list(rows.values())


def _measure_replay(bench: Bench) -> list[Row]:
    """Replay of a million messages, on one question after the other."""
    count = bench.size(REPLAYED)
    speed = Row(f"replay of {count:,} messages", "msg/s", Goal("at least", 0.6))
    memory = Row("  memory that grows at the server meanwhile", "MiB", Goal("max", 40.0))
    url, address, plain = f"sqlite:///{bench.folder}/replay.db", bench.address(), bench.address()
    progress(f"replay: storing {count:,} messages")
    filler = bench.program("storer")
    filler.begin("fill", url=url, count=count)
    filler.result(600)
    config = bench.folder / "replay.py"
    config.write_text(f"config = {{'persistent_store': {url!r}, 'replay_endpoints': {{'bench': {address!r}}}}}\n")
    server = bench.start(bench.command("ours", "fedmsg-replay", "--config-filename", str(config)))
    answerer = bench.program("storer")
    answerer.begin("answer", address=plain, url=url)
    for where in (address, plain):
        _wait_for(where)
    asker = bench.program("storer")
    before = memory_mib(server)
    for number in range(bench.rounds):
        progress(f"replay: asking, round {number + 1}")
        for how, where, figures in (("ours", address, speed.ours), ("limit", plain, speed.limit)):
            asker.begin("ask", address=where, count=count, how=how)
            done = asker.result(600)
            expect("" if done["count"] == count else f"{done['count']} of {count} messages came in order", how)
            figures.append(count / done["seconds"])
    memory.ours.append(memory_mib(server) - before)
    return [speed, memory]


def _wait_for(address: str) -> None:
    """Ask a server for one message, again and again until it answers.

    Raises:
        BenchError: It does not.
    """
    deadline = time.monotonic() + 20
    with zmq.Context() as context:
        while time.monotonic() < deadline:
            with context.socket(zmq.REQ) as socket:
                socket.linger = 0
                socket.connect(address)
                socket.send(json.dumps({"seq_id_range": [1, 1]}).encode())
                if socket.poll(1000):
                    return
    raise BenchError(f"nobody answers at {address}")
