# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the stream promises, shown with real processes: publisher, relay, database and reader are killed and cut off.

Confirmed and not delivered 0; out of order 0; doubled after de-duplication 0.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process, wait_until
from tests import requirements
from tests.integration.faults import stream_parts
from tests.integration.faults.conftest import Figures
from tests.integration.faults.link import Link
from tests.integration.faults.stream_parts import Outbox, handled, results
from tests.postgres import Cluster
from tests.stream_relays import StreamBus, number_of, sqlite_url

REPOSITORY = Path(__file__).parents[3]
NAMES = ("first", "second")

_never = threading.Event()

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


class Ground:
    """A publisher, a relay and two durable readers, all of them processes that go on until the end.

    Args:
        folder: Where their files are.
        url: The URL of the store.
        rate: Messages per second; 0 for as many as there can be.
        window: How many messages are sent ahead of their confirms.
        settings: Settings of all of them.

    Attributes:
        bus: The bus, with the relay.
        config: The configuration of publisher and readers.
        publisher: The publisher.
        readers: The readers by name.
        folder: Where their files are.
    """

    def __init__(self, folder: Path, url: str, *, rate: float = 0.0, window: int = 50, **settings: Any) -> None:
        self.folder = folder
        self._publishing = ["publish", str(folder), str(window), str(rate)]
        self.bus = StreamBus(url, timeout=300, **settings)
        self.config = dict(self.bus.config)
        self.publisher: Process
        self.readers: dict[str, Process] = {}
        self._counted = dict.fromkeys(NAMES, (0, 0))

    def start(self) -> None:
        """Start all of them."""
        self.bus.start_relay()
        for name in NAMES:
            self.start_reader(name)
        self.start_publisher()

    def start_part(self, *arguments: str) -> Process:
        """Start a process of `stream_parts`."""
        process = Process([sys.executable, "-m", stream_parts.__name__, *arguments], stdin=True, cwd=REPOSITORY)
        assert process.popen.stdin is not None
        process.popen.stdin.write(json.dumps(self.config).encode() + b"\n")
        process.popen.stdin.flush()
        return process

    def start_publisher(self) -> None:
        """Start the publisher, which goes on where the one before it was."""
        self.publisher = self.start_part(*self._publishing)

    def start_reader(self, name: str) -> None:
        """Start a reader."""
        self.readers[name] = self.start_part("read", str(self.folder), name)

    def handled(self, name: str) -> list[tuple[int, int]]:
        """Return what a reader has handled: numbers and positions."""
        return handled(self.folder, name)

    def count(self, name: str) -> int:
        """Return how many messages a reader has handled; what was counted before is not read again."""
        path, (offset, count) = self.folder / name, self._counted[name]
        if path.exists():
            with path.open("rb") as file:
                file.seek(offset)
                news = file.read()
            self._counted[name] = (offset + len(news), count + news.count(b"\n"))
        return self._counted[name][1]

    def check_alive(self) -> None:
        """Raise an error where one of them has ended."""
        for process in (self.publisher, *self.readers.values()):
            assert process.popen.poll() is None, process.report()

    def wait_for_more(self, more: int = 20, timeout: float = 60.0) -> float:
        """Wait until both readers have handled so many messages more; return how long it took."""
        begin, goal = time.monotonic(), {name: self.count(name) + more for name in NAMES}
        wait_until(
            lambda: all(self.count(name) >= goal[name] for name in NAMES),
            timeout, meanwhile=self.check_alive, what=lambda: f"{goal}: {self.report()}",
        )  # fmt: skip
        return time.monotonic() - begin

    def report(self) -> str:
        """Return what they have printed last."""
        parts = {"publisher": self.publisher, **self.readers}
        if self.bus.relay is not None:
            parts["relay"] = self.bus.relay
        return "; ".join(f"{name}: {process.report()}" for name, process in parts.items())

    def finish(self) -> dict[str, int]:
        """Stop the publisher, let the readers come to the end, and check what all of them have; return figures."""
        self.publisher.close()
        outbox = Outbox(self.folder)
        made = {number_of(json.dumps(envelope).encode()): envelope["msg_id"] for envelope in outbox.made}
        confirmed = dict(enumerate(outbox.confirmed))
        stored = {entry.position: json.loads(entry.body) for entry in self.bus.entries()}
        numbers = {position: body["msg"]["n"] for position, body in stored.items()}
        wait_until(
            lambda: all(self.handled(name) and self.handled(name)[-1][1] == max(stored) for name in NAMES),
            60, what=lambda: f"readers come to {max(stored)}: {self.report()}",
        )  # fmt: skip
        # Every message is there under the position of its confirm, once, in the order of the calls.
        assert {position: number for number, position in confirmed.items()}.items() <= numbers.items()
        assert list(stored) == list(range(1, len(stored) + 1))
        assert list(numbers.values()) == list(range(len(numbers)))
        assert [body["msg_id"] for body in stored.values()] == [made[number] for number in numbers.values()]
        doubled = 0
        for name in NAMES:
            got = self.handled(name)
            once = list(dict.fromkeys(got))
            assert once == [(number, position) for position, number in numbers.items()]
            doubled += len(got) - len(once)
        return {"confirmed": len(confirmed), "delivered": len(stored), "doubled": doubled}

    def __enter__(self) -> Ground:
        self.bus.__enter__()
        try:
            self.start()
            self.wait_for_more()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End all of them."""
        for process in (getattr(self, "publisher", None), *self.readers.values()):
            if process is not None:
                process.close()
        self.bus.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def kill(process: Process) -> None:
    """Kill a process as by ``kill -9``, and wait for its end."""
    process.popen.send_signal(signal.SIGKILL)
    process.wait()
    process.close()


def kill_publisher(ground: Ground) -> None:
    """Kill the publisher and start it again."""
    kill(ground.publisher)
    ground.start_publisher()


def kill_relay(ground: Ground) -> None:
    """Kill the relay and start it again."""
    ground.bus.kill_relay()
    ground.bus.start_relay()


def kill_reader(ground: Ground) -> None:
    """Kill a reader and start it again."""
    kill(ground.readers["first"])
    ground.start_reader("first")


def kill_all(ground: Ground) -> None:
    """Kill all of them at once and start them again."""
    for process in (ground.publisher, *ground.readers.values()):
        process.popen.send_signal(signal.SIGKILL)
    ground.bus.kill_relay()
    for process in (ground.publisher, *ground.readers.values()):
        process.close()
    ground.start()


VICTIMS = {"publisher": kill_publisher, "relay": kill_relay, "reader": kill_reader, "all at once": kill_all}


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_at_random_moments(
    victim: str, database_url: str, tmp_path: Path, figures: Figures, full_size: bool
) -> None:
    with Ground(tmp_path, database_url) as ground:
        kills(ground, lambda: VICTIMS[victim](ground), victim, figures, full_size=full_size)


def test_postgresql_is_killed_at_random_moments(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    with Cluster(durable=True) as cluster, Ground(tmp_path, cluster.create()) as ground:

        def restart() -> None:
            cluster.kill()
            cluster.start_again()

        kills(ground, restart, "PostgreSQL", figures, full_size=full_size)


def test_reader_that_stores_its_position_with_its_result_handles_each_message_once(
    tmp_path: Path, figures: Figures, full_size: bool
) -> None:
    chance, rounds, waits = random.Random("once"), 100 if full_size else 2, []
    with Ground(tmp_path, sqlite_url(tmp_path), rate=100) as ground, contextlib.ExitStack() as stack:
        for number in range(rounds):
            reader = stack.enter_context(ground.start_part("keep", str(tmp_path)))
            goal, begin = ground.count("first") + 20, time.monotonic()
            wait_until(
                lambda: bool(found := results(tmp_path)) and found[-1][0] >= goal,  # noqa: B023 - it is called at once
                60, meanwhile=lambda: reader.popen.poll() is None or pytest.fail(reader.report()),  # noqa: B023
            )  # fmt: skip
            waits.append(time.monotonic() - begin)
            _never.wait(chance.uniform(0.0, 0.1))
            kill(reader)
            if number % 2:
                kill_relay(ground)
        stack.enter_context(ground.start_part("keep", str(tmp_path)))
        found = ground.finish()
        wanted = [(number_of(entry.body), entry.position) for entry in ground.bus.entries()]
        wait_until(lambda: len(results(tmp_path)) >= len(wanted), 60)
        assert results(tmp_path) == wanted
        note(figures, f"reader with its own position killed {rounds} times", {**found, "doubled": 0}, waits)


def kills(ground: Ground, strike: Callable[[], None], victim: str, figures: Figures, *, full_size: bool) -> None:
    """Strike again and again at random moments, see that everything goes on each time, and check what came."""
    chance, waits = random.Random(victim), []
    rounds = 100 if full_size else 2
    for _ in range(rounds):
        _never.wait(chance.uniform(0.0, 0.3))
        strike()
        waits.append(ground.wait_for_more())
    kept = ground.bus.url.partition(":")[0]
    note(figures, f"{victim} killed {rounds} times, {kept}", ground.finish(), waits)


def note(figures: Figures, what: str, found: dict[str, int], waits: list[float]) -> None:
    """Add a row to the table of figures."""
    waits.sort()
    figures(
        what, sent=found["confirmed"], arrived=found["delivered"], lost=0,
        remarks=f"{found['doubled']} came twice, 0 after de-duplication; "
        f"going on after {waits[len(waits) // 2]:.2f} s, at most {waits[-1]:.2f} s",
    )  # fmt: skip


# ---------------------------------------------------------------- something is away for a while


@pytest.fixture
def away(full_size: bool) -> float:
    """Return for how many seconds something is away."""
    return 60.0 if full_size else 1.0


@pytest.mark.parametrize("which", ["publisher", "readers"])
def test_network_is_cut(which: str, tmp_path: Path, figures: Figures, full_size: bool) -> None:
    ground = Ground(tmp_path, sqlite_url(tmp_path), rate=1000 if full_size else 200, window=1000)
    key = {"publisher": "relay_confirmed", "readers": "relay_stream"}[which]
    seconds = 10.0 if full_size else 1.0
    with Link(ground.config[key][0]) as link:
        ground.config[key] = [link.address]
        with ground:
            link.cut()
            _never.wait(seconds)
            link.mend()
            waits = [ground.wait_for_more()]
            note(figures, f"network of {which} cut for {seconds:.0f} s", ground.finish(), waits)


def test_relay_is_away(tmp_path: Path, figures: Figures, away: float) -> None:
    with Ground(tmp_path, sqlite_url(tmp_path), rate=1000) as ground:
        ground.bus.kill_relay()
        _never.wait(away)
        ground.bus.start_relay()
        waits = [ground.wait_for_more()]
        note(figures, f"relay away for {away:.0f} s", ground.finish(), waits)


def test_database_is_away(tmp_path: Path, figures: Figures, away: float) -> None:
    with Cluster(durable=True) as cluster, Ground(tmp_path, cluster.create(), rate=1000) as ground:
        cluster.kill()
        _never.wait(away)
        cluster.start_again()
        waits = [ground.wait_for_more()]
        note(figures, f"PostgreSQL away for {away:.0f} s", ground.finish(), waits)


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Mount a file system in memory, of so many bytes."""
    if os.geteuid():
        requirements.is_missing("the rights to mount a file system (run it as root)")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_disk_is_full(tmp_path: Path, figures: Figures, away: float) -> None:
    with small_disk(tmp_path / "disk", 64 << 20) as disk, Ground(tmp_path, sqlite_url(disk), rate=200) as ground:
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 65536)
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        assert ground.bus.relay is not None
        ground.bus.relay.wait_for("messages wait to be stored", 60)
        _never.wait(away)
        filler.unlink()
        waits = [ground.wait_for_more()]
        note(figures, f"disk full for {away:.0f} s", ground.finish(), waits)
