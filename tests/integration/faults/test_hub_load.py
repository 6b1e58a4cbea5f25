# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hub under more load than its consumers can take: bounded memory, exact counts, an end in time."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process, wait_until
from tests.hubs import Feed, HubProcess, envelope, install
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import memory, threads
from tests.open_files import descriptors

# A consumer that is slow until a file says otherwise, and says what became of its messages.
PLUGIN = """
import json, os, threading, time
from fedmsg.consumers import FedmsgConsumer

class Slow(FedmsgConsumer):
    topic = "*"
    config_key = "slow.enabled"

    def __init__(self, hub):
        super().__init__(hub)
        self.count = 0
        self.last = -1
        self.gaps = 0
        self.wait = threading.Event().wait
        threading.Thread(target=self.tell, daemon=True).start()

    def tell(self):
        while True:
            self.wait(0.1)
            line = [self.count, self.last, self.gaps, self.totals()]
            os.write(1, (json.dumps(line) + "\\\\n").encode())

    def consume(self, message):
        number = message["body"]["msg"]["n"]
        self.gaps += number != self.last + 1
        self.last = number
        self.count += 1
        if self.count % 10 == 0 and not os.path.exists("fast"):
            self.wait(0.01)

class Raising(FedmsgConsumer):
    topic = "*"
    config_key = "raising.enabled"

    def consume(self, message):
        raise ValueError("x" * 1000)

class Hanging(FedmsgConsumer):
    topic = "*"
    config_key = "hanging.enabled"
    queue_policy = "drop"
    queue_limit = 1000

    def consume(self, message):
        threading.Event().wait()
""".replace("\\\\", "\\")

POINTS = {"moksha.consumer": [f"{name.lower()} = loaded:{name}" for name in ("Slow", "Raising", "Hanging")]}
# Growth that is no leak: the queue at its limit, and room that the allocator keeps.
SLACK = 24 * 1024


class Told(dict[str, Any]):
    """What the slow consumer has said of itself: its count, the last number, gaps, and its totals."""


def told(hub: Process) -> Told:
    """Give what it has said last."""
    for line in reversed(list(hub.out)):
        if line.startswith("[") and line.endswith("}]"):
            count, last, gaps, totals = json.loads(line)
            return Told(count=count, last=last, gaps=gaps, **totals)
    return Told(count=0, last=-1, gaps=0, received=0, dropped=0, waiting=0)


@contextmanager
def loaded(folder: Path, feed: Feed, *enabled: str, **settings: Any) -> Iterator[Process]:
    """Run a hub with consumers of the plugin."""
    install(folder, "loaded", {"loaded.py": PLUGIN}, POINTS)
    config = {**feed.config, **{f"{name}.enabled": True for name in enabled}, **settings}
    with HubProcess(folder, config) as hub:
        hub.wait_ready()
        feed.wait()
        yield hub


class Sender:
    """Publishes numbered messages as fast as it is told."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        made = envelope("load", {"n": "@", "text": "x" * 300})
        self._topic = made["topic"].encode()
        self._before, self._after = (part.encode() for part in json.dumps(made).split('"@"'))
        self.sent = 0

    def send(self, count: int) -> None:
        """Publish so many."""
        for _ in range(count):
            self._feed.raw(self._topic, b"%s%d%s" % (self._before, self.sent, self._after))
            self.sent += 1

    def at(self, rate: int, seconds: float, look: Callable[[], object] = lambda: None) -> None:
        """Publish at a rate for a while."""
        start, pause, sent = time.monotonic(), threading.Event(), 0
        while (now := time.monotonic() - start) < seconds:
            due = int(now * rate) - sent
            self.send(due)
            sent += due
            look()
            pause.wait(0.01)


@pytest.mark.soak
@pytest.mark.parametrize("policy", ["block", "drop"])
def test_ten_times_as_many_as_it_can_handle(policy: str, tmp_path: Path, figures: Figures, full_size: bool) -> None:
    seconds = 60.0 if full_size else 2.0
    peak: list[int] = []
    settings = {"consumer_queue_limit": 1000, "consumer_queue_policy": policy, "receive_high_water_mark": 1000}
    if policy == "drop":
        # Whoever drops does so where it is counted.
        settings["receive_high_water_mark"] = 0
    with Feed() as feed, loaded(tmp_path / "home", feed, "slow", **settings) as hub:
        sender = Sender(feed)
        sender.at(500, 0.5)
        pid = hub.popen.pid
        before, open_before = memory(pid), (threads(pid), descriptors(pid))
        # It takes about a thousand in a second.
        sender.at(10_000, seconds, lambda: peak.append(memory(pid)))
        (tmp_path / "home" / "fast").write_text("")
        wait_until(lambda: told(hub)["last"] == sender.sent - 1, timeout=120)
        wait_until(lambda: told(hub)["waiting"] == 0)
        wait_until(lambda: threads(pid) <= open_before[0] and descriptors(pid) <= open_before[1])
        assert hub.stop() == 0
    end = told(hub)
    assert end["received"] == sender.sent
    assert end["handled"] + end["dropped"] == sender.sent
    assert end["count"] == end["handled"]
    if policy == "block":
        assert (end["dropped"], end["gaps"]) == (0, 0)
    else:
        assert end["dropped"] > 0
    assert max(peak) - before < SLACK
    figures(
        f"hub with ten times the load, {policy}", sent=sender.sent, arrived=end["handled"],
        lost=end["dropped"] if policy == "block" else 0, exits=0, memory_before=before, memory_after=max(peak),
        remarks=f"{end['dropped']} dropped and counted",
    )  # fmt: skip


@pytest.mark.soak
def test_stopping_under_full_load_keeps_a_row_without_gaps(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    rounds = 20 if full_size else 2
    state = tmp_path / "state"
    handled = -1
    with Feed() as feed:
        sender = Sender(feed)
        for number in range(rounds):
            sender.sent = handled + 1 + len(kept(state))
            folder = tmp_path / f"home-{number}"
            with loaded(folder, feed, "slow", state_directory=str(state), stop_timeout=1) as hub:
                sender.at(20_000, 0.5)
                stop = threading.Thread(target=lambda hub=hub: hub.stop())
                started = time.monotonic()
                stop.start()
                while stop.is_alive():
                    sender.send(200)
                stop.join()
                assert hub.popen.returncode == 0, hub.report()
                assert time.monotonic() - started < 15
            feed.wait_until_gone()
            rest = kept(state)
            # Those before the first that is kept have been handled, and none after it.
            assert rest == list(range(rest[0], rest[0] + len(rest)))
            assert told(hub)["last"] < rest[0]
            handled = rest[0] - 1
        with loaded(tmp_path / "home-end", feed, "slow", state_directory=str(state), stop_timeout=30) as hub:
            (tmp_path / "home-end" / "fast").write_text("")
            wait_until(lambda: told(hub)["last"] == rest[-1] and not kept(state))
            assert hub.stop() == 0
        # It begins where the one before has ended.
        assert told(hub)["count"] == len(rest)
    figures(
        "hub stopped under load", sent=rest[-1] + 1, arrived=rest[-1] + 1, lost=0, exits=0, remarks=f"{rounds} stops"
    )


def kept(state: Path) -> list[int]:
    """Give the numbers of the messages that are kept."""
    lines = [line for path in state.rglob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(json.loads(line)["body"])["msg"]["n"] for line in lines]


@pytest.mark.soak
def test_consumers_that_raise_and_hang_cost_the_hub_nothing(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    total = 1_000_000 if full_size else 8_000
    with Feed() as feed, loaded(tmp_path, feed, "slow", "raising", "hanging", stop_timeout=1) as hub:
        (tmp_path / "fast").write_text("")
        sender = Sender(feed)

        def throw(count: int) -> None:
            for _ in range(0, count, 1000):
                sender.send(1000)
                wait_until(lambda: told(hub)["last"] == sender.sent - 1, timeout=60)
                # A traceback for each.
                del hub.out[:-1], hub.err[:]

        throw(6000)
        pid = hub.popen.pid
        before, open_before = memory(pid), (threads(pid), descriptors(pid))
        throw(total)
        after = memory(pid)
        wait_until(lambda: threads(pid) <= open_before[0] and descriptors(pid) <= open_before[1])
        assert hub.stop() == 8
    assert told(hub)["gaps"] == 0
    assert after - before < SLACK
    figures(
        "hub whose consumers raise and hang", sent=sender.sent, arrived=told(hub)["count"], lost=0, exits=0,
        memory_before=before, memory_after=after,
    )  # fmt: skip


def test_a_crowd_of_consumers_gets_everything(tmp_path: Path) -> None:
    # Many distributions, each with one.
    text = PLUGIN.replace("slow.enabled", "crowd.enabled")
    for number in range(20):
        name = f"crowd{number}"
        install(tmp_path, name, {f"{name}.py": text}, {"moksha.consumer": [f"{name} = {name}:Slow"]})
    (tmp_path / "fast").write_text("")
    with Feed() as feed, HubProcess(tmp_path, {**feed.config, "crowd.enabled": True}) as hub:
        hub.wait_ready()
        feed.wait()
        sender = Sender(feed)
        sender.send(2000)
        expected = "[2000, 1999, 0, "

        def done() -> bool:
            return sum(line.startswith(expected) for line in hub.out[-200:]) >= 20

        wait_until(done, timeout=40)
        assert hub.stop() == 0
    assert next(itertools.islice(hub.err, 1), None) is None
