# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many commands ``fedmsg-trigger`` starts, and how many messages it looks through for those that match."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from tests.bench.harness import Bench, BenchError, expect, progress
from tests.bench.table import Goal, Row

COMMANDS, MESSAGES, WARM_UP = 300, 100_000, 20
_PATIENCE = 120.0


class Trigger:
    """A ``fedmsg-trigger`` of one of the contenders, and a plain publisher for it.

    Its command adds a byte to a file, so that what was run can be counted.

    Args:
        bench: The surroundings.
        who: Whose it is.
        exclude: Which topics it passes over.
    """

    def __init__(self, bench: Bench, who: str, exclude: str) -> None:
        self._who = who
        self._feeder = bench.program("feeder")
        (address,) = self._feeder.do("bind", sockets=1)
        config = bench.configuration(who, bench.address(), address)
        self._file = bench.folder / f"{address.rpartition(':')[2]}.count"
        self._file.touch()
        arguments = ("--exclude", exclude, "--command", f"printf . >> {self._file}")
        bench.start(bench.command(who, "fedmsg-trigger", "--config-filename", config, *arguments))
        self._feeder.do("subscribed")

    def commands(self, count: int) -> float:
        """Send messages that match; commands per second."""
        return count / self._seconds(count, count)

    def messages(self, count: int) -> float:
        """Send messages that don't match, and one that does; messages per second."""
        return count / self._seconds(count, 1)

    def _seconds(self, count: int, runs: int) -> float:
        """The seconds until so many messages and a greeting have led to so many runs of the command."""
        before = self._file.stat().st_size
        self._feeder.do("prepare", first=0, count=count)
        start: float = self._feeder.do("blast")
        if runs == 1:
            self._feeder.do("greet")
        _wait_for_size(self._file, before + runs, self._who)
        return time.perf_counter() - start


def _wait_for_size(file: Path, size: int, who: str) -> None:
    pause, deadline = threading.Event(), time.monotonic() + _PATIENCE
    while (found := file.stat().st_size) < size:
        if time.monotonic() > deadline:
            raise BenchError(f"{who}: the command ran {size - found} times too few")
        pause.wait(0.001)
    expect("" if found == size else f"the command ran {found - size} times too often", who)


def _bare(bench: Bench, count: int) -> float:
    """Start bash with the same command, and nothing else; commands per second."""
    file = bench.folder / "bare.count"
    file.write_bytes(b"")
    argv = ["/bin/bash", "-c", f"printf . >> {file}"]
    start = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn(argv[0], argv, bench.environ), 0)
    seconds = time.perf_counter() - start
    expect("" if file.stat().st_size == count else "the command ran too few times", "limit")
    return count / seconds


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    commands = Row("fedmsg-trigger, commands run", "cmd/s", Goal("at least", 0.8))
    messages = Row("  messages looked through", "msg/s")
    running = {who: Trigger(bench, who, "no-such-topic") for who in ("ours", "peer")}
    looking = {who: Trigger(bench, who, "update$") for who in ("ours", "peer")}
    for trigger in running.values():
        trigger.commands(WARM_UP)
    for number in range(bench.rounds):
        progress(f"trigger: round {number + 1}")
        commands.limit.append(_bare(bench, bench.size(COMMANDS)))
        for who, trigger in running.items():
            (commands.peer if who == "peer" else commands.ours).append(trigger.commands(bench.size(COMMANDS)))
        for who, trigger in looking.items():
            (messages.peer if who == "peer" else messages.ours).append(trigger.messages(bench.size(MESSAGES)))
    return [commands, messages]
