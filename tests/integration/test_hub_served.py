# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a hub tells of itself, and whom it serves: reports, WebSocket clients, what these say."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from fedmsg.consumers import FedmsgConsumer
from fedmsg.exceptions import ConfigError, RefusedAtStart
from fedmsg.hub import Hub, PollingProducer
from fedmsg.hub.loop import INJECTED
from fedmsg.hub.producer import MonitoringProducer
from fedmsg.testing import Process, command_path, free_address, free_port, run, wait_until
from fedmsg.testing.hub import HubRunner
from fedmsg.websocket.server import for_hub
from tests.integration.browsing import TOPIC, client, envelope

KEY = "moksha.monitoring.socket"
WEBSOCKET = "moksha.livesocket.websocket"


class Shop(FedmsgConsumer):
    """Keeps what it gets, and does not like some of it."""

    topic = TOPIC
    config_key = "shop.enabled"

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.heard: list[Any] = []

    def consume(self, message: Any) -> None:
        """Keep it."""
        self.heard.append(message["body"]["msg"])
        if message["body"]["msg"] == "bad":
            raise ValueError("bad")


class Restless(PollingProducer):
    """Fails each time."""

    frequency = 0.01

    def poll(self) -> None:
        """Fail."""
        raise ValueError("again")


class Unable(FedmsgConsumer):
    """Can't be constructed."""

    config_key = "unable.enabled"

    def __init__(self, hub: Any) -> None:
        raise OSError("no disk")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MonitoringProducer, "frequency", 0.02)


@contextmanager
def reports(address: str) -> Iterator[Iterator[Any]]:
    """Subscribe to the reports at an address."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(address)

        def each() -> Iterator[Any]:
            while socket.poll(20_000):
                yield json.loads(socket.recv())

        yield each()


# ------------------------------------------------------------------ reports


def test_a_hub_reports(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path / 'monitoring'}"
    with HubRunner(Shop, Restless, config={KEY: address}, reraise=False) as runner, reports(address) as heard:
        next(heard)
        for msg in ("good", "good", "bad"):
            runner.publish(TOPIC, msg)
        counted = dict.fromkeys(("headcount_in", "headcount_out", "exceptions", "times"), 0)
        while counted["headcount_out"] < 3:
            report = next(heard)
            (row,) = report["consumers"]
            for key in counted:
                counted[key] += len(row[key]) if key == "times" else row[key]
        assert counted == {"headcount_in": 3, "headcount_out": 3, "exceptions": 1, "times": 3}
        # The next report begins again.
        row = next(heard)["consumers"][0]
        assert [row[key] for key in counted] == [0, 0, 0, []]
        assert row["totals"].items() >= {"received": 3, "handled": 2, "failed": 1}.items()
        restless, monitor = report["producers"]
        assert restless["name"] == "Restless"
        assert restless["exceptions"] > 0
        assert (monitor["name"], monitor["module"]) == ("MonitoringProducer", "moksha.hub.monitoring")
        assert isinstance(monitor["last_ran"], float)
        assert [type(producer).__name__ for producer in runner.hub.producers] == ["Restless", "MonitoringProducer"]
    assert not (tmp_path / "monitoring").exists()


def test_a_report_that_fails_is_followed_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    address, left = free_address(), [1, 2, 3]

    class Odd(Shop):
        def __json__(self) -> dict[str, Any]:
            if left:
                raise ZeroDivisionError(left.pop())
            return super().__json__()

    with HubRunner(Odd, config={KEY: address}, reraise=False), reports(address) as heard:
        (row,) = next(heard)["producers"]
        assert row["exceptions"] in {0, 3}
        assert next(heard)["producers"][0]["exceptions"] == 0
    assert left == []


def test_a_taken_address_keeps_no_hub_from_its_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All daemons of a machine may read one configuration."""
    path = tmp_path / "monitoring"
    config = {KEY: f"ipc://{path}"}
    with Hub({"endpoints": {}, **config}, [], []):
        before = psutil.Process().num_fds(), threading.active_count()
        for _ in range(3):
            with HubRunner(Shop, config=config) as runner:
                runner.publish(TOPIC, "good")
                wait_until(lambda: runner.consumer.heard == ["good"])
        # What libzmq closes, it closes in a thread of its own.
        wait_until(lambda: (psutil.Process().num_fds(), threading.active_count()) == before)
        assert path.is_socket()
    assert not path.exists()
    said = f"{KEY}: ipc://{path} can't be bound: Address already in use: nothing is reported until it is free"
    assert sum(said in record.message for record in caplog.records) == 3


def test_who_does_not_start_leaves_no_file(tmp_path: Path) -> None:
    config = {"endpoints": {"a": ["nonsense"]}, KEY: f"ipc://{tmp_path / 'monitoring'}", "shop.enabled": True}
    with pytest.raises(ConfigError, match="nonsense"):
        Hub(config, [Shop], []).start()
    assert not (tmp_path / "monitoring").exists()


def test_telling_how_others_are_is_no_reason_to_run() -> None:
    config = {"endpoints": {}, KEY: free_address(), "unable.enabled": True}
    with pytest.raises(RefusedAtStart, match="no disk"):
        Hub(config, [Unable], []).start()


def test_a_hub_without_address_has_no_monitor() -> None:
    assert Hub({"endpoints": {}}, [], []).producers == []


def test_plugins_of_1_x_may_bring_it_along() -> None:
    Hub({"endpoints": {}}, [], [])
    assert sys.modules["moksha.hub.monitoring"].MonitoringProducer is MonitoringProducer
    hub = Hub({"endpoints": {}, KEY: free_address()}, [], [MonitoringProducer])
    assert len(hub.producers) == 1
    hub.stop()


# ------------------------------------------------------------------ WebSocket clients


def test_clients_of_a_hub_hear_what_it_receives() -> None:
    with HubRunner(Shop, config={f"{WEBSOCKET}.port": 0}) as runner, for_hub(runner.hub) as server:
        assert "" not in runner.hub.topics
        with client(server, f"{TOPIC}.order") as listener:
            assert "" in runner.hub.topics
            wait_until(lambda: runner.hub._loop._subscribed == ("",))
            sent = runner.publish(f"{TOPIC}.order", {"id": 1})
            runner.publish(f"{TOPIC}.other", {"id": 2})
            runner.publish(f"{TOPIC}.order", {"id": 3})
            assert listener.hear() == {"topic": f"{TOPIC}.order", "body": sent}
            assert listener.hear()["body"]["msg"] == {"id": 3}
        wait_until(lambda: "" not in runner.hub.topics)


def test_clients_get_only_what_is_validly_signed() -> None:
    with HubRunner(Shop, config={f"{WEBSOCKET}.port": 0}, sign=True) as runner, for_hub(runner.hub) as server:
        with client(server, "") as listener:
            wait_until(lambda: runner.hub._loop._subscribed == ("",))
            runner.publish(TOPIC, {"id": 1}, sign=False)
            runner.publish(TOPIC, {"id": 2}, sign=True)
            assert listener.hear()["body"]["msg"] == {"id": 2}
        assert server.rejections.counts == {"invalid": 1}


def test_where_signatures_can_not_be_checked_nothing_is_served(tmp_path: Path) -> None:
    config = {"endpoints": {}, f"{WEBSOCKET}.port": 0, "validate_signatures": True, "ca_cert_location": str(tmp_path)}
    hub = Hub(config, [], [])
    with pytest.raises(RefusedAtStart, match="ca_cert_location"):
        for_hub(hub)
    hub.stop()


def test_what_clients_say_reaches_the_consumers() -> None:
    config = {f"{WEBSOCKET}.port": 0, f"{WEBSOCKET}.client2server": True}
    with HubRunner(Shop, config=config, reraise=False) as runner, for_hub(runner.hub) as server:
        (shop,) = runner.hub.consumers
        with client(server, f"{TOPIC}.echo") as speaker:
            speaker.say(f"{TOPIC}.order", {"id": 1})
            speaker.say("com.example", {"id": 2})
            speaker.say(TOPIC, envelope(msg="an envelope"))
            speaker.say(TOPIC, {"topic": "another", "msg": 3})
            speaker.say(f"{TOPIC}.\ud800", {"id": 4})
            speaker.say(TOPIC, [[]] * 150)
            speaker.say(TOPIC, json.loads("[" * 250 + "]" * 250))
            speaker.say(f"{TOPIC}.echo", "the last")
            wait_until(lambda: shop.heard[-1:] == ["the last"])
            assert speaker.hear() == {
                "topic": f"{TOPIC}.echo",
                "body": {"topic": f"{TOPIC}.echo", "msg": "the last"},
            }
    assert shop.heard == [{"id": 1}, "an envelope", {"topic": "another", "msg": 3}, [[]] * 150, "the last"]
    assert server.counts == {"depth": 1, "inject": 1}


def test_what_clients_say_is_checked_like_anything_else() -> None:
    config = {f"{WEBSOCKET}.port": 0, f"{WEBSOCKET}.client2server": True}
    with (
        HubRunner(Shop, config=config, sign=True) as runner,
        for_hub(runner.hub) as server,
        client(server, "a") as speaker,
    ):
        speaker.say(TOPIC, {"id": 1})
        wait_until(lambda: runner.hub.rejections.counts["invalid"])
    assert runner.hub.consumers[0].heard == []


def test_what_clients_say_is_bounded() -> None:
    config = {f"{WEBSOCKET}.port": 0, f"{WEBSOCKET}.client2server": True, "consumer_queue_limit": 10}
    go_on = threading.Event()

    class Busy(Shop):
        def consume(self, message: Any) -> None:
            go_on.wait(20)

    with HubRunner(Busy, config=config) as runner, for_hub(runner.hub) as server, client(server, "a") as speaker:
        wait_until(lambda: server.counts.get("full"), meanwhile=lambda: speaker.say(TOPIC, 1))
        assert len(runner.hub._loop.injected) <= INJECTED
        go_on.set()


# ------------------------------------------------------------------ as a process


def hub_process(config: dict[str, Any], folder: Path) -> dict[str, str]:
    path = folder / "hub.py"
    path.write_text(f"config = {{'endpoints': {{}}, **{config!r}}}\n")
    return {"FEDMSG_CONFIG": str(path)}


@pytest.mark.parametrize("key", [f"{WEBSOCKET}.port", "metrics_port"])
def test_a_taken_port_is_one_line(tmp_path: Path, key: str) -> None:
    environ = hub_process({key: free_port()}, tmp_path)
    with Process([command_path("fedmsg-hub")], env=environ) as first:
        first.wait_ready()
        second = run(["fedmsg-hub"], env=environ)
        assert (second.returncode, second.stderr.count("\n")) == (6, 1)
        assert second.stderr.startswith(f"fedmsg-hub: {key}: ")
        assert "can't be bound: Address already in use" in second.stderr
        assert first.stop() == 0, first.report()


def test_a_hub_that_serves_all_of_it_stops_at_once(tmp_path: Path) -> None:
    config = {f"{WEBSOCKET}.port": free_port(), "metrics_port": free_port(), KEY: free_address()}
    with Process([command_path("fedmsg-hub")], env=hub_process(config, tmp_path)) as hub:
        hub.wait_ready()
        assert hub.stop() == 0, hub.report()
        assert [line for line in hub.err if "Error" in line or "Warning" in line] == []
