# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of messages when a busy relay is told to stop."""

from __future__ import annotations

import signal

from tests.bench.bus import Bus
from tests.bench.harness import Bench, expect, progress
from tests.bench.table import Goal, Row

COUNT = 50_000


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    count = bench.size(COUNT)
    handed = Row(f"SIGTERM after {count:,} handed over: arrived", "", Goal("min", count))
    load = Row("SIGTERM under our publisher's load: lost", "", Goal("max", 0))
    for number in range(bench.rounds):
        progress(f"stop: round {number + 1}")
        handed.ours.append(_handed_over(bench, "ours", count))
        handed.peer.append(_handed_over(bench, "peer", count))
        load.ours.append(_under_load(bench))
    return [handed, load]


def _handed_over(bench: Bench, who: str, count: int) -> float:
    """Send to a relay, stop it at once, and count what arrives."""
    bus = Bus(bench, who)
    bus.feeder.do("prepare", first=0, count=count)
    bus.sink.begin("collect", count=count, patience=3.0)
    bus.feeder.do("blast")
    bus.relay.send_signal(signal.SIGTERM)
    arrived = int(bus.sink.result()["count"])
    if who == "ours":
        bus.check(0, count, arrived)
    bus.relay.wait(20)
    bus.close()
    return arrived


def _under_load(bench: Bench) -> float:
    """Stop a relay while one of our publishers goes on; how many of the accepted messages don't arrive."""
    bus = Bus(bench, "ours")
    publisher = bench.program("publisher", "ours")
    before = bench.size(20_000)
    bus.sink.begin("collect", count=before, patience=10.0)
    publisher.begin("publish_until_refused", address=bus.inbound, patience=1)
    arrived = int(bus.sink.result()["count"])
    bus.relay.send_signal(signal.SIGTERM)
    # Until nothing comes any more.
    bus.sink.begin("collect", count=10_000_000, patience=3.0)
    told = publisher.result()
    arrived += bus.sink.result()["count"]
    status = bus.relay.wait(20)
    expect("" if status == 0 else f"the relay ended with status {status}", "ours")
    expect("" if told["lost"] == 0 else f"{told['lost']} are said to be lost", "ours")
    publisher.close()
    bus.close()
    return float(told["published"] - arrived)
