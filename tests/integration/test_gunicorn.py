# SPDX-License-Identifier: LGPL-2.1-or-later
"""An application under a pre-forking gunicorn: every request's message arrives, also through a reload."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Bus, Process, free_address, wait_until
from tests.integration.faults.ground import Witness

WORKERS = 8
CLIENTS = 4


class Visitors:
    """Threads that send requests, each with a number of its own.

    Attributes:
        answered: The number of each request that was answered well, and the process that did.
        failed: What went wrong.
    """

    def __init__(self, port: int) -> None:
        self.answered: dict[int, int] = {}
        self.failed: list[str] = []
        self._port = port
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("GET", f"/{number}")
                response = connection.getresponse()
                body = response.read()
                if response.status == 200:
                    self.answered[number] = int(body)
                else:
                    self.failed.append(f"{number}: {response.status} {body[:200]!r}")
            except OSError as error:
                self.failed.append(f"{number}: {error!r}")
            finally:
                connection.close()

    def pids(self, since: int = 0) -> set[int]:
        """Give the processes that have answered since there were so many answers."""
        return set(list(self.answered.values())[since:])

    def leave(self) -> None:
        """End the threads, each with its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def gunicorn(settings: dict[str, Any], worker_class: str, env: dict[str, str]) -> Iterator[tuple[Process, int]]:
    """Run the application; gives the master's process and the port."""
    command = [
        "gunicorn", "--preload", "--workers", str(WORKERS), "--worker-class", worker_class, "--threads", "3",
        "--bind", "127.0.0.1:0", "--chdir", str(Path(__file__).parent), "gunicorn_app:application",
    ]  # fmt: skip
    if worker_class == "sync":
        del command[command.index("--threads") :][:2]
    with Process(command, env={**env, "APP_SETTINGS": json.dumps(settings)}) as master:
        listening = master.wait_for("Listening at", stream="err")
        found = re.search(r"http://127\.0\.0\.1:(\d+)", listening)
        assert found is not None, listening
        wait_until(lambda: booted(master) == WORKERS, what="all workers booted")
        yield master, int(found[1])


def booted(master: Process) -> int:
    """Count the workers that have been started so far."""
    return sum("Booting worker" in line for line in master.err)


def gone(pids: set[int]) -> bool:
    """Say whether none of these processes exists any more."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def visit_through_a_reload(master: Process, port: int) -> Visitors:
    """Send hundreds of requests, with a reload in the middle."""
    visitors = Visitors(port)
    try:
        wait_until(lambda: len(visitors.answered) > 300 or visitors.failed, what="requests answered")
        old = children(master)
        assert len(old) == WORKERS
        master.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: (gone(old) and booted(master) >= 2 * WORKERS) or visitors.failed, what="workers replaced")
        so_far = len(visitors.answered)
        wait_until(lambda: len(visitors.answered) > so_far + 300 or visitors.failed, what="requests answered")
        assert visitors.failed or not visitors.pids(so_far + CLIENTS) & old
    finally:
        visitors.leave()
    return visitors


def children(master: Process) -> set[int]:
    """Give the processes that a process has started."""
    path = Path(f"/proc/{master.popen.pid}/task/{master.popen.pid}/children")
    return {int(pid) for pid in path.read_text(encoding="ascii").split()}


def check(witness: Witness, visitors: Visitors, master: Process) -> None:
    """Compare what was asked for with what has arrived."""
    assert visitors.failed == []
    witness.wait_for(len(visitors.answered), "request")
    assert master.stop() == 0
    bodies = witness.bodies("request")
    # Exactly once each.
    assert sorted(body["msg"]["n"] for body in bodies) == sorted(visitors.answered)
    everything = [*bodies, *witness.bodies("start")]
    assert len({body["msg_id"] for body in everything}) == len(everything)
    assert len(visitors.pids()) > WORKERS
    assert os.getpid() not in visitors.pids()
    assert [line for line in master.err if "Traceback" in line or "Error" in line] == []


@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_workers_publish_through_a_relay(worker_class: str) -> None:
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        bus.start_relay()
        witness.greet(bus)
        with gunicorn({"active": True}, worker_class, bus.environ) as (master, port):
            check(witness, visit_through_a_reload(master, port), master)
        assert bus.stop_relay() == 0


def test_workers_bind_addresses_of_their_own() -> None:
    # For the master, its workers, and as many more while these are being replaced.
    addresses = [*{free_address() for _ in range(3 * WORKERS)}]
    settings = {"name": "app.here", "endpoints": {"app.here": addresses}, "post_init_sleep": 20}
    with Bus() as bus, Witness(*addresses) as witness, gunicorn(settings, "sync", bus.environ) as (master, port):
        check(witness, visit_through_a_reload(master, port), master)
