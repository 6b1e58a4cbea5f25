# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs to put messages into words."""

from __future__ import annotations

import contextlib
import select
import subprocess
import time

from tests.bench.harness import Bench, BenchError, expect, progress
from tests.bench.table import Goal, Row

WARM_UP, TIMES, MESSAGES = 2_000, 20_000, 50_000
FEW, MANY = 2, 60

# What stands once in what is shown of a message.
_MARK = b"bench.update -- "


class _Terse:
    """A ``fedmsg-tail --terse`` of one of the contenders, and the publisher that it listens to."""

    def __init__(self, bench: Bench, who: str) -> None:
        self._who = who
        self._feeder = bench.program("feeder")
        (address,) = self._feeder.do("bind", sockets=1)
        config = bench.configuration(who, bench.address(), address)
        argv = bench.command(who, "fedmsg-tail", "--terse", "--config-filename", config)
        self._tail = subprocess.Popen(
            argv,
            env=bench.environ,
            cwd=bench.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=1 << 20,
        )
        self._first = 0
        try:
            self._feeder.do("subscribed")
            self.turn(WARM_UP)
        except BaseException:
            self.close()
            raise

    def turn(self, count: int) -> float:
        """Show so many messages; messages per second."""
        start = time.perf_counter()
        self._feeder.begin("send", first=self._first, count=count)
        self._first += count
        assert self._tail.stdout is not None
        seen, rest = 0, b""
        while seen < count:
            # What is in the buffer would not be seen here, so it is taken whole.
            if not select.select([self._tail.stdout], [], [], 30)[0]:
                raise BenchError(f"{self._who}: {seen} of {count} messages were shown")
            text = rest + self._tail.stdout.read1(1 << 20)  # type: ignore[attr-defined]
            seen += text.count(_MARK)
            rest = text[1 - len(_MARK) :]
        seconds = time.perf_counter() - start
        self._feeder.result()
        return count / seconds

    def close(self) -> None:
        """End it."""
        self._tail.kill()
        assert self._tail.stdout is not None
        self._tail.stdout.close()
        self._tail.wait()


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    made = Row("make_processors", "ms")
    few = Row(f"msg2repr with {FEW} processors", "us", Goal("max", 6.0))
    many = Row(f"  with {MANY}", "us", Goal("max", 7.0))
    terse = Row("fedmsg-tail --terse", "msg/s")
    with contextlib.ExitStack() as stack:
        tails = {who: stack.enter_context(contextlib.closing(_Terse(bench, who))) for who in ("ours", "peer")}
        for number in range(bench.rounds):
            progress(f"meta: round {number + 1}")
            for who, tail in tails.items():
                program = bench.program("words", who)
                figures = [(made, program.do("make"))]
                for row, wanted in ((few, FEW), (many, MANY)):
                    there = program.do("add", count=0 if wanted == FEW else MANY - FEW)
                    expect("" if there == wanted else f"there are {there} processors, not {wanted}", who)
                    program.do("say", count=WARM_UP)
                    figures.append((row, min(program.do("say", count=bench.size(TIMES)) for _ in range(3))))
                program.close()
                figures.append((terse, tail.turn(bench.size(MESSAGES))))
                for row, figure in figures:
                    (row.peer if who == "peer" else row.ours).append(figure)
    return [made, few, many, terse]
