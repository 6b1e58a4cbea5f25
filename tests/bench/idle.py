# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much memory a process takes that has nothing to do, once it has shown that it works."""

from __future__ import annotations

import subprocess
import time

from tests.bench.bus import Bus
from tests.bench.harness import Bench, BenchError, memory_mib, progress
from tests.bench.hub import Hub
from tests.bench.table import Goal, Row


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    relay = Row("idle fedmsg-relay, resident", "MiB", Goal("max", 25))
    hub = Row("idle fedmsg-hub, resident", "MiB", Goal("max", 35))
    tail = Row("idle fedmsg-tail, resident", "MiB", Goal("max", 28))
    for number in range(bench.rounds):
        progress(f"idle: round {number + 1}")
        for who, relays, hubs, tails in (
            ("ours", relay.ours, hub.ours, tail.ours),
            ("peer", relay.peer, hub.peer, tail.peer),
        ):
            bus = Bus(bench, who)
            relays.append(memory_mib(bus.relay))
            tails.append(memory_mib(_tail(bench, bus)))
            bus.close()
            running = Hub(bench, who, {})
            hubs.append(memory_mib(running.process))
            running.close()
        limit = Bus(bench, "limit")
        relay.limit.append(memory_mib(limit.relay))
        limit.close()
        # A bare subscriber takes what a bare relay does: Python and pyzmq.
        tail.limit.append(relay.limit[-1])
        hub.limit.append(relay.limit[-1])
    return [relay, hub, tail]


def _tail(bench: Bench, bus: Bus) -> subprocess.Popen[bytes]:
    """Start a tail and wait until it has printed a message."""
    output = bench.folder / f"tail-{time.monotonic_ns()}.txt"
    argv = bench.command(bus.who, "fedmsg-tail", "--config-filename", bus.config)
    tail = bench.start(argv, output=output)
    deadline = time.monotonic() + 20
    while b"greeting" not in output.read_bytes():
        bus.feeder.do("greet")
        bus.sink.do("greeted", patience=0.05)
        if time.monotonic() > deadline:
            raise BenchError(f"the tail of {bus.who} shows nothing")
    return tail
