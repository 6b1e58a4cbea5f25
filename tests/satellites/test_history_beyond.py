# SPDX-License-Identifier: LGPL-2.1-or-later
"""History, stream and live messages as one sequence: relay, hub and datagrepper as processes, killed in between."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.stream.log import StreamLog
from fedmsg.stream.messages import MessageStream
from fedmsg.testing import Process, free_address, wait_until
from tests.hubs import HubProcess
from tests.stream_relays import StreamBus, publish, running, sqlite_url
from tests.structure import source

PRINTER = """
import os
from fedmsg.consumers import FedmsgConsumer

class Printer(FedmsgConsumer):
    topic = "org.fedoraproject.dev.m.t"
    config_key = "test.enabled"

    def consume(self, message):
        os.write(1, f"number {message['body']['msg']['n']}\\n".encode())
"""


class History:
    """A hub that stores what passes a relay, and a datagrepper that shows it; both can be killed.

    Args:
        bus: The bus.
    """

    def __init__(self, bus: StreamBus) -> None:
        self._bus = bus
        self.hub = Process(["fedmsg-hub", "--first"], env=bus.environ)
        self.datagrepper = Process(["datagrepper"], env=bus.environ)

    def start(self) -> History:
        """Wait until both are ready."""
        self.hub.wait_ready()
        self.datagrepper.wait_ready()
        return self

    def kill_hub(self) -> None:
        """Kill the hub, and start another one."""
        self.hub.close()
        self.hub = Process(["fedmsg-hub"], env=self._bus.environ).wait_ready()

    def kill_datagrepper(self) -> None:
        """Kill the datagrepper, and start another one."""
        self.datagrepper.close()
        self.datagrepper = Process(["datagrepper"], env=self._bus.environ).wait_ready()

    def wait_for(self, count: int) -> None:
        """Wait until so many messages are stored."""
        url = f"{self._bus.config['datagrepper_url']}/messagecount"
        wait_until(lambda: fetched(url)["messagecount"] >= count, what=lambda: f"{count}; {fetched(url)}")

    def close(self) -> None:
        """End both."""
        self.hub.close()
        self.datagrepper.close()


def fetched(url: str) -> Any:
    """Return what a URL has, of JSON."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    port = int(free_address().rpartition(":")[2])
    settings = {
        "datanommer.enabled": True, "datanommer.durable": True, "state_directory": str(tmp_path),
        "datanommer.sqlalchemy.url": f"sqlite:///{tmp_path}/history.db",
        "datagrepper.port": port, "datagrepper_url": f"http://127.0.0.1:{port}",
    }  # fmt: skip
    with running(StreamBus(sqlite_url(tmp_path), **settings)) as made:
        yield made


@pytest.fixture
def history(bus: StreamBus) -> Iterator[History]:
    made = History(bus)
    try:
        yield made.start()
    finally:
        made.close()


def read(stream: MessageStream, count: int) -> list[int]:
    """Return the numbers of the next messages."""
    found: list[int] = []
    while len(found) < count:
        message = stream.read(30)
        assert message is not None, f"only {len(found)}, {found[-3:]}"
        found.append(message[3]["msg"]["n"])
    return found


def test_history_stream_and_live_are_one_sequence_whatever_is_killed(bus: StreamBus, history: History) -> None:
    publish(bus, range(1000))
    history.kill_hub()
    publish(bus, range(1000, 2000))
    history.wait_for(2000)
    bus.kill_relay()
    with StreamLog(bus.url) as log:
        log.trim(1800)
    bus.start_relay()
    with bus.context(mute=True) as context, context.subscribe(since="1h") as stream:
        found = read(stream, 100)
        # More pages are still to be asked for than there is room for.
        history.kill_datagrepper()
        publish(bus, range(2000, 2100))
        found += read(stream, 1400)
        bus.kill_relay()
        bus.start_relay()
        found += read(stream, 600)
        publish(bus, range(2100, 2110))
        found += read(stream, 10)
        assert stream.read(0.2) is None
        statistics = stream.statistics()
    assert found == [*range(2110)]
    assert statistics["lost"] == 0
    assert statistics["recovered"] >= 1800


def test_a_hub_that_was_away_has_its_consumers_catch_up(bus: StreamBus, history: History, tmp_path: Path) -> None:
    folder = tmp_path / "printing"
    folder.mkdir()
    (folder / "printing.py").write_text(PRINTER)
    settings = {"status_directory": str(folder / "status"), "test.enabled": True, "datanommer.enabled": False}

    def run(published: range, expected: list[int]) -> None:
        with HubProcess(folder, {**bus.config, **settings}, "--with-consumers", "printing:Printer") as hub:
            hub.wait_ready()
            publish(bus, published)
            hub.wait_for(f"number {published[-1]}")
            assert hub.stop() == 0, hub.report()
            assert [line for line in hub.out if line.startswith("number ")] == [f"number {n}" for n in expected]

    run(range(10), [*range(10)])
    # More than a page of the datagrepper, and nobody there.
    publish(bus, range(10, 260))
    history.wait_for(260)
    run(range(260, 270), [*range(10, 270)])


def test_demo_of_the_history_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    argv = [sys.executable, str(source.REPOSITORY / "tests" / "demo_history.py")]
    with Process(argv, env={"TMPDIR": str(tmp_path)}) as demo:
        url = demo.wait_for("The history, with what comes live: ", 60).split()[-1]
        demo.wait_for("end it with Ctrl-C")
        # A week that was made up, and what comes live.
        wait_until(lambda: fetched(f"{url}messagecount")["messagecount"] > 1000)
        (newest,) = fetched(f"{url}raw?rows_per_page=1&meta=packages&meta=usernames")["raw_messages"]
        assert newest["meta"]["usernames"] == [newest["msg"]["user"]]
        assert newest["meta"]["packages"] == [newest["msg"]["package"]]
        assert demo.stop(signal.SIGINT) == 0, demo.report()
    (folder,) = (entry for entry in os.listdir(tmp_path) if entry.startswith("fedmsg-history-"))
    assert demo.out[-1] == f"All has stopped; the history is in {tmp_path / folder}."
    assert demo.err == []
