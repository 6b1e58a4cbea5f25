# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus with a stream: confirms, subscriptions, delays, beside the bare database, JetStream and RabbitMQ.

Of the two other systems the defaults are measured. JetStream confirms when a message is in its file, which it syncs
every two minutes; a quorum queue of RabbitMQ confirms when it is in the log, synced by groups. Ours is synced first.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fedmsg.exceptions import TransportError
from fedmsg.stream import asking
from tests.bench.harness import Bench, BenchError, Program, expect, memory_mib, progress
from tests.bench.table import Goal, Row
from tests.brokers import JetStream, RabbitMQ
from tests.postgres import Cluster

DATABASES = ("SQLite", "PostgreSQL")
ONE_BY_ONE, PIPELINED, READ = 2_000, 50_000, 1_000_000
# The others are slower.
OTHERS = {"jetstream": (2_000, 20_000, 20_000), "rabbitmq": (500, 5_000, 0)}
PACE, PACED = 1000.0, 5_000
LAGGING = 1000


class Storing:
    """A relay with a store.

    Attributes:
        config: The configuration of its clients.
        process: The relay.
    """

    def __init__(self, bench: Bench, url: str) -> None:
        self.config: dict[str, Any] = {
            "relay_inbound": [bench.address()],
            "relay_confirmed": [bench.address()],
            "relay_stream": [bench.address()],
            "endpoints": {"relay_outbound": [bench.address()]},
            "timeout": 30,
        }
        self._bench = bench
        name = "storing-" + self.config["relay_inbound"][0].rpartition(":")[2]
        self._file = bench.configuration_file(name, {**self.config, "relay_store": url} if url else self.config)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process: subprocess.Popen[bytes] = self._bench.start(
            self._bench.command("ours", "fedmsg-relay", "--config-filename", self._file)
        )

    def info(self, timeout: float = 30.0) -> dict[str, Any]:
        """Return the figures of the stream."""
        try:
            return asking.info(self.config, self.config["relay_stream"][0], timeout)
        except TransportError as error:
            raise BenchError(f"the relay does not answer: {error}") from error


@contextmanager
def urls(bench: Bench, stack: ExitStack) -> Iterator[dict[str, Any]]:
    """Give a function for each kind of database that makes one and returns its URL."""
    cluster = stack.enter_context(Cluster(durable=True))
    numbers = iter(range(1000))
    yield {"SQLite": lambda: f"sqlite:///{bench.folder}/bus-{next(numbers)}.db", "PostgreSQL": cluster.create}


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    with ExitStack() as stack, urls(bench, stack) as databases:
        return [*_confirms(bench, databases, stack), *_delays(bench, databases), *_lagging(bench, databases)]


def opened(bench: Bench, who: str, where: Any) -> Program:
    program = bench.program("confirmer")
    program.do("open_as", who=who, where=where)
    return program


def _confirms(bench: Bench, databases: dict[str, Any], stack: ExitStack) -> list[Row]:
    """Measure publishing with confirms and reading, by all contenders in turn."""
    goals = {"SQLite": (0.6, 35_000, 150_000), "PostgreSQL": (0.5, 35_000, 100_000)}
    rows: dict[str, list[Row]] = {}
    contenders: dict[tuple[str, str], Program] = {}
    for name in DATABASES:
        one, many, reading = goals[name]
        rows[name] = [
            Row(f"confirmed one by one, {name}", "msg/s", Goal("at least", one)),
            Row(f"confirmed, pipelined, {name}", "msg/s", Goal("min", many)),
            Row(f"subscription from the first, {name}", "msg/s", Goal("min", reading)),
        ]
        contenders[name, "ours"] = opened(bench, "ours", Storing(bench, databases[name]()).config)
        contenders[name, "limit"] = opened(bench, "limit", databases[name]())
    others: dict[str, list[Row]] = {}
    for who, server in (("jetstream", JetStream), ("rabbitmq", RabbitMQ)):
        title = server.__name__
        others[who] = [Row(f"  {title}, {what}", "msg/s") for what in ("one by one", "pipelined", "read")]
        contenders[who, "peer"] = opened(bench, who, stack.enter_context(server()).url)
    for number in range(bench.rounds):
        progress(f"stream-bus: round {number + 1}")
        for (name, who), program in contenders.items():
            counts = OTHERS.get(name, (ONE_BY_ONE, PIPELINED, 0))
            target = others.get(name) or rows[name]
            _add(target[0], who, program.do("one_by_one", count=bench.size(counts[0])))
            program.begin("pipelined", count=max(500, bench.size(counts[1]) // 500 * 500))
            _add(target[1], who, program.result(600))
    _read(bench, rows, others, contenders)
    return [row for group in (*rows.values(), *others.values()) for row in group if row.ours or row.peer]


def _add(row: Row, who: str, figure: float) -> None:
    figures: list[float] = getattr(row, who)
    figures.append(figure)


def _read(
    bench: Bench,
    rows: dict[str, list[Row]],
    others: dict[str, list[Row]],
    contenders: dict[tuple[str, str], Program],
) -> None:
    """Fill what there is to a million, and read it from the first message on."""
    count = bench.size(READ)
    for (_, who), program in contenders.items():
        if who != "peer":
            program.begin("pipelined", count=count // 500 * 500)
            program.result(600)
    for number in range(bench.rounds):
        progress(f"stream-bus: reading, round {number + 1}")
        for (name, who), program in contenders.items():
            wanted = OTHERS[name][2] if who == "peer" else count
            if wanted:
                program.begin("read", count=max(500, bench.size(wanted) // 500 * 500) if who == "peer" else wanted)
                done = program.result(600)
                _add((others.get(name) or rows[name])[2], who, done["speed"])


def _delays(bench: Bench, databases: dict[str, Any]) -> list[Row]:
    """Measure the time from publishing to a listener, at a pace: stored, and by a relay without a store."""
    rows = {
        "p50": Row("delay through a stream, SQLite, median", "ms", Goal("max", 1.0)),
        "p99": Row("  99th percentile", "ms", Goal("max", 5.0)),
    }
    pairs = {who: _pair(bench, databases["SQLite"]() if who == "ours" else "") for who in ("ours", "limit")}
    for number in range(bench.rounds):
        progress(f"stream-bus: delays, round {number + 1}")
        for who, (publisher, listener) in pairs.items():
            for name, figure in _delay(bench, publisher, listener).items():
                _add(rows[name], who, figure)
    return list(rows.values())


def _pair(bench: Bench, url: str, relay: Storing | None = None) -> tuple[Program, Program]:
    config = (relay or Storing(bench, url)).config
    publisher, listener = bench.program("delayer"), bench.program("delayer")
    publisher.do("publisher", config=config)
    listener.do("listener", config=config, stream=bool(url))
    # Until the listener is there.
    listener.begin("listen", count=1)
    while True:
        publisher.do("publish", count=10, pace=100.0)
        try:
            listener.result(0.2)
        except BenchError:
            continue
        break
    return publisher, listener


def _delay(bench: Bench, publisher: Program, listener: Program) -> dict[str, float]:
    count = bench.size(PACED)
    listener.begin("listen", count=count)
    publisher.begin("publish", count=count, pace=PACE)
    publisher.result()
    found: dict[str, float] = listener.result()
    return found


def _lagging(bench: Bench, databases: dict[str, Any]) -> list[Row]:
    """Measure what a thousand durable subscriptions cost that lag behind."""
    rows = [
        Row(f"relay with {LAGGING:,} lagging subscriptions", "MiB", Goal("max", 150.0)),
        Row("  delay beside them, median; limit: without them", "ms", Goal("at most", 2.0)),
        Row("  99th percentile", "ms", Goal("at most", 2.0)),
    ]
    url = databases["SQLite"]()
    relay = Storing(bench, url)
    filler = opened(bench, "ours", relay.config)
    filler.do("pipelined", count=max(20 * 500, bench.size(PIPELINED) // 500 * 500))
    publisher, listener = _pair(bench, url, relay)
    alone = [_delay(bench, publisher, listener) for _ in range(bench.rounds)]
    laggards = bench.program("laggards")
    laggards.begin("lag", address=relay.config["relay_stream"][0], count=LAGGING, credit=10)
    served = laggards.result(300)
    expect("" if served == LAGGING else f"{served} of {LAGGING} subscriptions were served", "ours")
    for number in range(bench.rounds):
        progress(f"stream-bus: lagging, round {number + 1}")
        beside = _delay(bench, publisher, listener)
        for row, name in zip(rows[1:], ("p50", "p99"), strict=True):
            row.ours.append(beside[name])
            row.limit.append(alone[number][name])
        rows[0].ours.append(memory_mib(relay.process))
    return rows
