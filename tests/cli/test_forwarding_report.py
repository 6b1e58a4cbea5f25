# SPDX-License-Identifier: LGPL-2.1-or-later
"""What relays and gateways tell of themselves: to fedmsg-check and to Prometheus."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedmsg.config
from fedmsg.commands._forwarding import ForwardingCommand
from fedmsg.commands._forwarding_report import Report
from fedmsg.commands.gateway import GatewayCommand
from fedmsg.commands.relay import RelayCommand, SigningRelayCommand
from fedmsg.testing import Bus, Process, free_address, free_port, wait_until
from tests.certificates import Bench
from tests.gateways import GatewayBus
from tests.integration.faults.ground import Witness, stuck_subscriber

# The keys that readers of 1.x know.
KEYS = {
    "name", "module", "topic", "initialized", "exceptions", "jsonify", "backlog", "headcount_in", "headcount_out",
    "times",
}  # fmt: skip

Make = Callable[..., ForwardingCommand]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Give what makes a command of a bus in this process."""

    def made(kind: type[ForwardingCommand], bus: Bus, *arguments: str) -> ForwardingCommand:
        monkeypatch.setattr("sys.argv", [kind.name, *arguments])
        monkeypatch.setenv("FEDMSG_CONFIG", bus.environ["FEDMSG_CONFIG"])
        # The logging of this process is that of the tests, and stays so.
        monkeypatch.setattr("fedmsg.commands.dictConfig", lambda config: None)
        # Nothing has been loaded yet.
        monkeypatch.setattr(fedmsg.config, "__cache", {})
        return kind()

    return made


@pytest.mark.parametrize("kind", [RelayCommand, SigningRelayCommand, GatewayCommand])
def test_a_row_has_what_readers_know(kind: type[ForwardingCommand], make: Make, tmp_path: Path) -> None:
    certnames = {"signing_relay": "shell.test"}
    with GatewayBus(**{**Bench(tmp_path).config, "certname": None, "certnames": certnames}) as bus:
        command = make(kind, bus)
        with command.forwarder() as forwarder:
            row = Report(command, forwarder).row()
    assert row.keys() >= KEYS
    assert json.loads(json.dumps(row)) == row
    module, name = kind.consumer.split(":")
    assert (row["module"], row["name"], row["initialized"]) == (module, name, True)


def test_counters_begin_again_and_who_is_stuck_is_shown(make: Make) -> None:
    # Without heartbeats, which would end such a connection after a while.
    with Bus({"zmq_heartbeat_ivl": 0, "stop_timeout": 1}) as bus:
        outbound = bus.config["endpoints"]["relay_outbound"][0]
        command = make(RelayCommand, bus)
        with (
            command.forwarder() as forwarder,
            Witness(outbound) as witness,
            stuck_subscriber(outbound) as stuck,
            bus.context() as context,
        ):
            witness.greet(bus)
            report = Report(command, forwarder)
            report.row()
            for number in range(1000):
                context.publish("flood", {"n": number, "filler": "x" * 4000}, modname="test")
            witness.wait_for(1000, "flood")
            row = report.row()
            assert (row["headcount_in"], row["headcount_out"], row["subscribers"], row["stuck"]) == (1000, 1000, 2, [])
            wait_until(forwarder.stuck, meanwhile=forwarder.look)
            row = report.row()
            (shown,) = row["stuck"]
            assert shown["address"] == "{}:{}".format(*stuck.getsockname())
            assert shown["unsent"] > 0
            assert shown["seconds"] >= 5
            assert (row["stuck_count"], row["headcount_in"], row["headcount_out"]) == (1, 0, 0)
            assert row["totals"]["received"] == row["totals"]["passed_on"] >= 1000


def test_what_is_rejected_counts_as_exceptions(make: Make, tmp_path: Path) -> None:
    with Bus(Bench(tmp_path).config) as bus:
        command = make(RelayCommand, bus, "--validate")
        with command.forwarder() as forwarder, bus.context(sign_messages=False) as context:
            report = Report(command, forwarder)
            for _ in range(3):
                context.publish("t", modname="m")
            wait_until(lambda: forwarder.statistics().rejected == 3)
            row = report.row()
            assert (row["exceptions"], row["rejected"]) == (3, {"invalid": 3})
            assert row["totals"] == {"received": 3, "passed_on": 0, "rejected": 3}
            assert (report.row()["exceptions"], report.row()["rejected"]) == (0, {"invalid": 3})
            figures = {figure.name: figure.value for figure in report.metrics()}
            assert (figures["rejected"], figures["forwarded_in"], figures["forwarded_out"]) == (3, 3, 0)


def test_a_gateway_tells_fedmsg_check_and_prometheus() -> None:
    port = free_port()
    with (
        GatewayBus(**{"moksha.monitoring.socket": free_address(), "metrics_port": port}) as bus,
        Witness(bus.address) as witness,
        bus.start_gateway() as gateway,
        bus.publisher("first") as first,
    ):
        wait_until(lambda: witness.frames, meanwhile=lambda: first.publish("t", modname="m"))
        figures = read(port)
        assert float(figures["fedmsg_forwarded_in_total"]) >= 1
        assert figures["fedmsg_forwarded_in_total"] == figures["fedmsg_forwarded_out_total"]
        assert (figures["fedmsg_endpoints"], figures["fedmsg_endpoints_connected"]) == ("3.0", "1.0")
        assert (figures["fedmsg_subscribers"], figures["fedmsg_subscribers_stuck"]) == ("1.0", "0.0")

        asked = bus.run("fedmsg-check", "-c", "GatewayConsumer", "-p", "MonitoringProducer")
        assert asked.returncode == 0, asked.stderr
        said, _, report = asked.stdout.partition("\n")
        assert said == "All consumers and producers are active!"
        (row,) = json.loads(report)["consumers"]
        assert row["not_connected"] == sorted([bus.relayed, bus.second])
        assert gateway.stop() == 0
        assert gateway.err == []


def read(port: int) -> dict[str, Any]:
    """Read the figures that are served at a port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_a_port_for_prometheus_that_is_taken_is_status_6() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with Bus({"metrics_port": holder.getsockname()[1]}) as bus:
            ended = bus.run("fedmsg-relay")
    assert ended.returncode == 6
    assert len(ended.stderr.splitlines()) == 1
    assert "metrics_port" in ended.stderr


def test_daemons_that_share_a_monitoring_socket_all_run() -> None:
    """At 1.x they do; one of them reports, and the next when that one has ended."""
    shared = {"moksha.monitoring.socket": free_address(), "fedmsg.consumers.dummy.enabled": True}
    with GatewayBus(**shared) as bus, bus.start_gateway() as gateway, Process(["fedmsg-hub"], env=bus.environ) as hub:
        hub.wait_for(f"{shared['moksha.monitoring.socket']} can't be bound: Address already in use")
        asked = bus.run("fedmsg-check", "-c", "GatewayConsumer")
        assert asked.returncode == 0, asked.stderr
        assert gateway.stop() == 0
        hub.wait_for("reporting at")
        asked = bus.run("fedmsg-check", "-c", "DummyConsumer")
        assert asked.returncode == 0, asked.stderr
        assert hub.stop() == 0
