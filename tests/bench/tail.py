# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast messages come out of ``tail_messages``, from one endpoint and from many.

All messages are sent before the clock starts: they wait in the subscriber's queue, in the
connection and at the publisher. So what is timed is receiving alone, and not how the
publisher and the subscriber share the processors.
"""

from __future__ import annotations

from typing import Any

from tests.bench.harness import Bench, expect, progress
from tests.bench.table import Goal, Row

COUNT, WARM_UP, CHECKED = 200_000, 5_000, 5_000


class Contender:
    """A listener, and the publishers that it listens to.

    Args:
        bench: The surroundings.
        who: Who listens.
        sockets: To how many publishers.
        way: By which means.
        options: What it is opened with.
    """

    def __init__(self, bench: Bench, who: str, sockets: int, way: str, **options: Any) -> None:
        self._who = who
        self._feeder = bench.program("feeder")
        endpoints = self._feeder.do("bind", sockets=sockets)
        self._tailer = bench.program("tailer", who)
        self._tailer.do(f"open_{way}", endpoints=endpoints, **options)
        # The first read opens the sockets, and so the subscriptions come.
        self._tailer.begin("check", count=WARM_UP, first=0)
        self._feeder.do("subscribed")
        self._feeder.do("send", first=0, count=WARM_UP)
        expect(self._tailer.result(), who)

    def turn(self, count: int) -> float:
        """Read so many messages that wait; messages per second."""
        self._feeder.do("send", first=0, count=count)
        done = self._tailer.do("read", first=0, count=count)
        expect(done["problem"], self._who)
        self._feeder.do("send", first=0, count=CHECKED)
        expect(self._tailer.do("check", count=CHECKED, first=0), self._who)
        return float(count / done["seconds"])


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    count = bench.size(COUNT)
    limit = Contender(bench, "limit", 1, "limit")
    rows: list[tuple[Row, Contender, Contender | None]] = []
    for sockets in (1, 50, 200):
        peer = Contender(bench, "peer", sockets, "fedmsg", speed=False)
        for speed in (True, False):
            extra = "with orjson" if speed else "without"
            plural = "s" if sockets > 1 else ""
            row = Row(f"tail, {sockets} endpoint{plural}, {extra}", "msg/s", Goal("at least", 1.5 if speed else 1.0))
            rows.append((row, Contender(bench, "ours", sockets, "fedmsg", speed=speed), None if speed else peer))
    for number in range(bench.rounds):
        progress(f"tail: round {number + 1}")
        for row, ours, peer_or_none in rows:
            # The limit has its turn next to each, for all to be measured under the same conditions.
            row.limit.append(limit.turn(count))
            row.ours.append(ours.turn(count))
            if peer_or_none is not None:
                row.peer.append(peer_or_none.turn(count))
    return [row for row, _, _ in rows]
