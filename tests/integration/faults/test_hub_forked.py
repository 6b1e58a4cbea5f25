# SPDX-License-Identifier: LGPL-2.1-or-later
"""Consumers that fork: the children are no hubs, and a stop ends all of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedmsg.testing import wait_until
from tests.hubs import Feed, HubProcess, install
from tests.integration.faults.conftest import Figures

PLUGIN = """
import multiprocessing, os, sys, threading, time
from fedmsg.consumers import FedmsgConsumer

context = multiprocessing.get_context("fork")

def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")

def nap():
    note(f"child {os.getpid()}")
    time.sleep(60)

class Forking(FedmsgConsumer):
    topic = "*"
    config_key = "forking.enabled"

    def consume(self, message):
        how = message["body"]["msg"]
        if hasattr(self, f"do_{how}"):
            getattr(self, f"do_{how}")()
        if how not in ("return", "exit", "raise"):
            note(f"handled {how}")

    def wait(self, pid):
        note(f"status {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")

    def do_process(self):
        process = context.Process(target=nap)
        process.start()
        while not os.path.exists("notes"):
            time.sleep(0.01)
        process.terminate()
        process.join()
        note(f"exit code {process.exitcode}")

    def do_pool(self):
        with context.Pool(2) as pool:
            pool.map_async(time.sleep, [60, 60])
        note("pool closed")

    def do_return(self):
        pid = os.fork()
        if pid:
            self.wait(pid)

    def do_exit(self):
        pid = os.fork()
        if pid:
            self.wait(pid)
        else:
            sys.exit(3)

    def do_raise(self):
        pid = os.fork()
        if pid:
            self.wait(pid)
        else:
            raise ValueError("in the child")

    def do_nap(self):
        process = context.Process(target=nap)
        process.start()
        process.join()

    def do_orphan(self):
        if not os.fork():
            nap()
"""

POINTS = {"moksha.consumer": ["forking = forking:Forking"]}


def start(folder: Path, feed: Feed, **settings: Any) -> HubProcess:
    """Start a hub with the consumer."""
    home = install(folder / "home", "forking", {"forking.py": PLUGIN}, POINTS)
    hub = HubProcess(home, {**feed.config, "forking.enabled": True, "stop_timeout": 2, **settings})
    hub.wait_ready()
    feed.wait()
    return hub


def notes(folder: Path) -> list[str]:
    """Return what the consumer and its children have noted."""
    path = folder / "home" / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_hub_child_processes_end_by_sigterm(tmp_path: Path) -> None:
    with Feed() as feed, start(tmp_path, feed) as hub:
        feed.send("shop", "process")
        feed.send("shop", "pool")
        wait_until(lambda: "handled pool" in notes(tmp_path))
        assert notes(tmp_path)[-4:] == ["exit code -15", "handled process", "pool closed", "handled pool"]
        # It waits for messages, and does not spin.
        assert psutil.Process(hub.popen.pid).cpu_percent(interval=1) < 50
        assert hub.stop() == 0


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("exit", 3), ("raise", 1)])
def test_hub_child_ends_when_consume_does(tmp_path: Path, how: str, status: int) -> None:
    with Feed() as feed, start(tmp_path, feed) as hub:
        for what in (how, "one", "two", "three"):
            feed.send("shop", what)
        wait_until(lambda: "handled three" in notes(tmp_path))
        assert psutil.Process(hub.popen.pid).children() == []
        assert hub.stop() == 0
        assert notes(tmp_path) == [f"status {status}", "handled one", "handled two", "handled three"]


@pytest.mark.parametrize("how", ["nap", "orphan"])
def test_hub_and_children_end_by_sigterm_to_the_group(tmp_path: Path, how: str) -> None:
    with Feed() as feed, start(tmp_path, feed) as hub:
        feed.send("shop", how)
        wait_until(lambda: [line for line in notes(tmp_path) if line.startswith("child")])
        (child,) = psutil.Process(hub.popen.pid).children()
        began = time.monotonic()
        for one in (child.pid, hub.popen.pid):
            os.kill(one, signal.SIGTERM)
        # The child of `nap` ends what its consumer waits for.
        assert hub.wait() == 0
        child.wait(5)
        assert time.monotonic() - began < 5


@pytest.mark.soak
def test_hub_survives_consumers_that_fork(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    count = 1000 if full_size else 60
    ways = ["return", "exit", "raise"]
    with Feed() as feed, start(tmp_path, feed) as hub:
        for number in range(count):
            feed.send("shop", ways[number % len(ways)])
            feed.send("shop", number)
        wait_until(lambda: f"handled {count - 1}" in notes(tmp_path), 600)
        assert psutil.Process(hub.popen.pid).children() == []
        handled = [line for line in notes(tmp_path) if line.startswith("handled")]
        assert handled == [f"handled {number}" for number in range(count)]
        assert hub.stop() == 0
    figures("consumers of a hub that fork", sent=2 * count, arrived=2 * count, lost=0, exits=0)
