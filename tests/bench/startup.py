# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long things take to start, and whether what they say at once arrives."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence

import zmq

from tests.bench.bus import Bus
from tests.bench.harness import Bench, BenchError, expect, progress
from tests.bench.programs import payload
from tests.bench.table import Goal, Row

MESSAGES, MESSAGES_PEER, LINES, TIMES = 1_000, 40, 20_000, 7


class _Timer:
    """Runs command lines without anything of this machine's configuration."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def seconds(self, argv: Sequence[str], stdin: str = "") -> float:
        """The time from start to end of a process that must succeed."""
        start = time.perf_counter()
        run = subprocess.run(
            argv,
            input=stdin,
            text=True,
            capture_output=True,
            env=self._bench.environ,
            cwd=self._bench.folder,
            check=False,
        )
        seconds = time.perf_counter() - start
        expect("" if run.returncode == 0 else f"status {run.returncode}: {run.stderr[-300:]}", " ".join(argv))
        return seconds

    def python(self, who: str, code: str) -> float:
        """The time that an interpreter takes to run some code."""
        return self.seconds([self._bench.python(who), "-c", code])


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    timer = _Timer(bench)
    buses = {who: Bus(bench, who) for who in ("ours", "peer")}
    rows = _commands(bench, timer, buses)
    rows = [*_logger(bench, timer, buses), *rows]
    for bus in buses.values():
        bus.close()
    return [*rows, _relay(bench)]


def _logger(bench: Bench, timer: _Timer, buses: dict[str, Bus]) -> list[Row]:
    times = {"ours": -(-bench.size(MESSAGES) // bench.rounds), "peer": -(-bench.size(MESSAGES_PEER) // bench.rounds)}
    one = Row("fedmsg-logger --message", "s", Goal("max", 0.15))
    delivered = Row(
        f"  delivered of {times['ours'] * bench.rounds:,} runs", "", Goal("min", times["ours"] * bench.rounds)
    )
    lines = Row(f"fedmsg-logger, {bench.size(LINES):,} lines piped", "lines/s", Goal("min", 60_000))
    complete = Row("  delivered of them", "", Goal("min", bench.size(LINES)))
    arrived = dict.fromkeys(buses, 0)
    for number in range(bench.rounds):
        progress(f"logger: round {number + 1}")
        for who, bus in buses.items():
            command = bench.command(who, "fedmsg-logger", "--config-filename", bus.config)
            seconds, came = _say(timer, bus, command, times[who])
            (one.peer if who == "peer" else one.ours).append(seconds)
            arrived[who] += came
            rate, came = _pipe(timer, bus, command, bench.size(LINES))
            (lines.peer if who == "peer" else lines.ours).append(rate)
            (complete.peer if who == "peer" else complete.ours).append(came)
        one.limit.append(statistics.median(timer.python("limit", "import zmq") for _ in range(TIMES)))
    delivered.ours.append(arrived["ours"])
    # As a share, for 1.1.7 is run less often.
    delivered.peer.append(arrived["peer"] * times["ours"] / times["peer"])
    return [one, delivered, lines, complete]


def _say(timer: _Timer, bus: Bus, command: list[str], times: int) -> tuple[float, int]:
    """Run a logger so many times: the median of the seconds, and how many messages arrived."""
    bus.sink.begin("collect", count=times, patience=20.0 if bus.who == "ours" else 3.0)
    seconds = statistics.median(timer.seconds([*command, "--message", f"line {number}"]) for number in range(times))
    arrived = bus.sink.result()["count"]
    if arrived == times:
        expect(bus.sink.do("check_lines", first=0), bus.who)
    return seconds, arrived


def _pipe(timer: _Timer, bus: Bus, command: list[str], count: int) -> tuple[float, int]:
    """Pipe lines into a logger: how many a second from its start to its end, and how many arrived."""
    bus.sink.begin("collect", count=count, patience=5.0)
    seconds = timer.seconds(command, "".join(f"line {number}\n" for number in range(count)))
    arrived = int(bus.sink.result()["count"])
    if bus.who == "ours":
        expect("" if arrived == count else f"{arrived} of {count} lines arrived", bus.who)
        expect(bus.sink.do("check_lines", first=0), bus.who)
    return count / seconds, arrived


def _commands(bench: Bench, timer: _Timer, buses: dict[str, Bus]) -> list[Row]:
    query = Row("fedmsg-config --query", "s", Goal("max", 0.06))
    usage = Row("fedmsg-tail --help", "s", Goal("max", 0.07))
    imported = Row("import fedmsg", "s", Goal("max", 0.03))

    def best(argv: Sequence[str]) -> float:
        # Of several runs the shortest: what others do on this machine can only make one longer.
        return min(timer.seconds(argv) for _ in range(TIMES))

    for number in range(bench.rounds):
        progress(f"commands: round {number + 1}")
        for who, bus in buses.items():
            config = ["--config-filename", bus.config]
            for row, argv in (
                (query, bench.command(who, "fedmsg-config", *config, "--query", "environment")),
                (usage, bench.command(who, "fedmsg-tail", "--help")),
                (imported, [bench.python(who), "-c", "import fedmsg"]),
            ):
                (row.peer if who == "peer" else row.ours).append(best(argv))
        query.limit.append(best([bench.python("limit"), "-c", "pass"]))
        usage.limit.append(query.limit[-1])
        imported.limit.append(best([bench.python("limit"), "-c", "import zmq"]))
    return [query, usage, imported]


def _relay(bench: Bench) -> Row:
    row = Row("fedmsg-relay, start to first message", "s", Goal("max", 0.25))
    for number in range(bench.rounds):
        progress(f"relay's start: round {number + 1}")
        row.ours.append(min(_until_first(bench, "ours") for _ in range(3)))
        row.peer.append(_until_first(bench, "peer"))
        row.limit.append(min(_until_first(bench, "limit") for _ in range(3)))
    return row


def _until_first(bench: Bench, who: str) -> float:
    """Seconds from the start of a relay until a message has gone through it, with both ends waiting for it."""
    inbound, outbound = bench.address(), bench.address()
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher, context.socket(zmq.SUB) as subscriber:
        for socket in (publisher, subscriber):
            socket.setsockopt(zmq.LINGER, 0)
            # They must not be what takes the time.
            socket.setsockopt(zmq.RECONNECT_IVL, 2)
        subscriber.subscribe(b"")
        publisher.connect(inbound)
        subscriber.connect(outbound)
        start = time.perf_counter()
        relay = bench.relay(who, inbound, outbound)
        while not subscriber.poll(1):
            publisher.send_multipart(payload.GREETING)
            if time.perf_counter() - start > 20:
                raise BenchError(f"the relay of {who} passes nothing on")
        seconds = time.perf_counter() - start
        relay.kill()
        relay.wait()
    return seconds
