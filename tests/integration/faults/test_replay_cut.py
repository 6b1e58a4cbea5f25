# SPDX-License-Identifier: LGPL-2.1-or-later
"""A listener that is cut off gets every message, in order and once, by asking for what it missed."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.replay import sqlstore
from fedmsg.testing import Process, free_address
from tests.certificates import Bench
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import until, until_more
from tests.integration.faults.link import Link

PROGRAM = Path(__file__).with_name("storing.py")
NAME = "test.here"


class Scene:
    """A publisher with a store, a replay server, and a listener behind a network of its own.

    Args:
        url: The database.
        folder: For configuration files.
        rate: Messages a second.
        settings: For everybody.
    """

    def __init__(self, url: str, folder: Path, rate: int, settings: dict[str, Any]) -> None:
        self._publishing, self._answering = free_address(), free_address()
        self.config = {
            "name": NAME, "endpoints": {NAME: [self._publishing]}, "replay_endpoints": {NAME: self._answering},
            "persistent_store": url, "post_init_sleep": 30, "zmq_reconnect_ivl": 50, "zmq_reconnect_ivl_max": 50,
            **settings,
        }  # fmt: skip
        path = folder / "replay.py"
        path.write_text(f"config = {self.config!r}\n")
        self._environ = {"FEDMSG_CONFIG": str(path)}
        # It makes the tables before two processes look for them.
        self.store = sqlstore.connect(url)
        self.links = [Link(self._publishing), Link(self._answering)]
        self.server = Process(["fedmsg-replay"], env=self._environ)
        self.publisher = Process([sys.executable, str(PROGRAM), json.dumps(self.config), str(rate)], stdin=True)
        self.got: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._listener = threading.Thread(target=self._listen)

    def start(self) -> None:
        self.server.wait_ready()
        self._listener.start()
        until_more(self.got, 100)

    def _listen(self) -> None:
        publishing, answering = (link.address for link in self.links)
        mine = {**self.config, "endpoints": {NAME: [publishing]}, "replay_endpoints": {NAME: answering}}
        with FedMsgContext(**{**mine, "mute": True, "persistent_store": None}) as context:
            self.counts = context.gaps
            for *_, message in context.tail_messages():
                self.got.append(message)
                if message["topic"].endswith(".last"):
                    return

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def mend(self) -> None:
        for link in self.links:
            link.mend()

    def until_stored(self, more: int) -> None:
        """Wait until so many more have been published."""
        wanted = self.store.last_number() + more
        until(lambda: self.store.last_number() >= wanted, 120, what=f"{wanted} messages stored")

    def restart_server(self) -> None:
        """Start the replay server again that was killed."""
        self.server.close()
        self.server = Process(["fedmsg-replay"], env=self._environ).wait_ready()

    def finish(self) -> int:
        """Stop publishing; give how many messages there were when the listener has the last one."""
        assert self.publisher.popen.stdin is not None
        self.publisher.popen.stdin.close()
        assert self.publisher.wait() == 0, self.publisher.report()
        count = int(self.publisher.out[-1])
        # One more, so that what is missing at the end is missed.
        with FedMsgContext(**self.config) as context:
            context.publish("last", modname="test")
        self._listener.join(60)
        assert not self._listener.is_alive(), f"{len(self.got)} of {count}, {self.counts}"
        return count

    def close(self) -> None:
        for process in (self.publisher, self.server):
            process.close()
        for link in self.links:
            link.close()
        self.store.close()


@contextmanager
def scene(url: str, folder: Path, rate: int = 1000, **settings: Any) -> Iterator[Scene]:
    made = Scene(url, folder, rate, settings)
    try:
        made.start()
        yield made
    finally:
        made.close()


def check_all(got: list[dict[str, Any]], count: int) -> int:
    """See that every message from the first one heard is there, in order and once; give how many."""
    numbers = [message["seq_id"] for message in got]
    assert numbers == list(range(numbers[0], count + 2))
    assert [message["msg"]["n"] for message in got[:-1]] == [number - 1 for number in numbers[:-1]]
    return len(numbers)


@pytest.fixture(params=["unsigned", "signed"])
def signing(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Give the settings for plain messages, and for signed and checked ones."""
    if request.param == "unsigned":
        return {}
    (tmp_path / "pki").mkdir()
    bench = Bench(tmp_path / "pki")
    certnames = {NAME: bench.config["certname"]}
    return {**bench.config, "certnames": certnames, "sign_messages": True, "validate_signatures": True}


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_a_cut_listener(
    signing: dict[str, Any], database_url: str, tmp_path: Path, figures: Figures, full_size: bool
) -> None:
    cut_for = 10_000 if full_size else 2_000
    # What is silent for so long is given up, and what was under way to it with it. Shorter than the cut.
    ivl = 5000 if full_size else 300
    with scene(database_url, tmp_path, zmq_heartbeat_ivl=ivl, **signing) as made:
        made.cut()
        made.until_stored(cut_for)
        made.mend()
        until_more(made.got, cut_for)
        arrived = check_all(made.got, made.finish())
        assert made.counts["replayed"] > 0
        assert made.counts["lost"] == 0
        assert made.server.stop() == 0, made.server.report()
    figures(
        f"cut for {cut_for} messages, {'signed' if signing else 'unsigned'}, {database_url.partition(':')[0]}",
        sent=arrived, arrived=arrived, lost=0, exits=0, remarks=f"{made.counts['replayed']} replayed",
    )  # fmt: skip


@pytest.mark.soak
def test_the_replay_server_is_killed_in_the_middle(sqlite_url: str, tmp_path: Path, figures: Figures) -> None:
    with scene(sqlite_url, tmp_path, zmq_heartbeat_ivl=300, timeout=30) as made:
        for _ in range(3):
            made.links[0].cut()
            made.until_stored(1500)
            made.server.popen.send_signal(signal.SIGKILL)
            made.server.wait()
            # It asks a server that is not there, and again when it is back.
            made.counts["asked"] = 0
            made.links[0].mend()
            until(lambda: made.counts["asked"])
            made.restart_server()
            made.until_stored(100)
        arrived = check_all(made.got, made.finish())
        assert made.counts["lost"] == 0
    figures("replay server killed and started 3 times", sent=arrived, arrived=arrived, lost=0, exits=0)


@pytest.mark.soak
def test_without_a_replay_server_the_stream_goes_on(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scene(sqlite_url, tmp_path, zmq_heartbeat_ivl=300, timeout=1) as made:
        # It takes connections and never says a word.
        made.links[1].cut()
        made.links[0].cut()
        made.until_stored(1500)
        made.links[0].mend()
        until(lambda: made.counts["lost"])
        until_more(made.got, 100)
        made.links[1].mend()
        made.finish()
    numbers = [message["seq_id"] for message in made.got]
    assert sorted(set(numbers)) == numbers
    assert made.counts["lost"] == numbers[-1] - numbers[0] + 1 - len(numbers)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == made.counts["failed"]
    assert "did not answer within" in lines[0]
