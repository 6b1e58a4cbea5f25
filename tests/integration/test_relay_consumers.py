# SPDX-License-Identifier: LGPL-2.1-or-later
"""Relay and gateway as consumers on a real hub, and relays that name a consumer of their own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.testing import Bus, Process, free_address, free_port, wait_until
from tests.integration.faults.ground import Witness

# An installed program that builds its relay on ours.
OWN_RELAY = """
import sys
from fedmsg.commands.relay import RelayCommand
from fedmsg.consumers import FedmsgConsumer
from fedmsg.consumers.relay import RelayConsumer

class Shouting(RelayConsumer):
    config_key = "shouting.enabled"

    def consume(self, message):
        if message["body"]["msg"] == "keep it":
            return
        super().consume({**message, "body": {**message["body"], "msg": message["body"]["msg"].upper()}})

class Plain(RelayCommand):
    relay_consumer = RelayConsumer

class ShoutingRelay(RelayCommand):
    name = "shouting-relay"
    relay_consumer = Shouting

kind = {"plain": Plain, "shouting": ShoutingRelay}[sys.argv.pop(1)]
kind().execute()
"""


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus({"timeout": 20}) as made:
        yield made


@pytest.fixture
def own_relay(tmp_path: Path) -> str:
    path = tmp_path / "own_relay.py"
    path.write_text(OWN_RELAY)
    return str(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_relay_with_a_consumer_of_its_own(bus: Bus, own_relay: str, number: signal.Signals) -> None:
    with (
        Process([sys.executable, own_relay, "shouting"], env=bus.environ) as relay,
        Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness,
        bus.context() as context,
    ):
        relay.wait_ready()
        wait_until(lambda: witness.bodies("t"), meanwhile=lambda: context.publish("t", "hello", modname="m"))
        del witness.frames[:]
        for text in ("one", "keep it", "two"):
            context.publish("own", text, modname="m")
        witness.wait_for(2, "own")
        assert [body["msg"] for body in witness.bodies("own")] == ["ONE", "TWO"]
        assert relay.stop(number) == 0
        assert relay.err == []
        inbound, outbound = bus.config["relay_inbound"][0], bus.config["endpoints"]["relay_outbound"][0]
        relay.wait_for(f"relaying from {inbound} to {outbound}, 1 consumers")


def test_a_relay_that_names_the_usual_consumer_forwards_unread(bus: Bus, own_relay: str) -> None:
    with (
        Process([sys.executable, own_relay, "plain"], env=bus.environ) as relay,
        bus.tail("--json") as tail,
        bus.context() as context,
    ):
        relay.wait_ready()
        tail.wait_for('"n":1', meanwhile=lambda: context.publish("t", {"n": 1}, modname="m"))
        assert relay.stop() == 0
        relay.wait_for("stopped after")


def test_its_flags_and_failures_are_those_of_the_relay(bus: Bus, own_relay: str) -> None:
    shown = bus.run(sys.executable, own_relay, "shouting", "--help")
    assert shown.returncode == 0
    assert "--validate" in shown.stdout
    with Bus({"relay_inbound": []}) as broken:
        assert broken.run(sys.executable, own_relay, "shouting").returncode == 5
    bus.start_relay()
    ended = bus.run(sys.executable, own_relay, "shouting")
    assert ended.returncode == 6
    assert len(ended.stderr.splitlines()) == 1


def test_relay_and_gateway_on_a_hub(bus: Bus) -> None:
    """A hub runs them where they are enabled, beside whatever else it runs."""
    port, outbound = free_port(), free_address()
    settings = {
        **bus.config,
        "fedmsg.consumers.relay.enabled": True,
        "fedmsg.consumers.gateway.enabled": True,
        "fedmsg.consumers.gateway.port": port,
        "zmq_publish_endpoints": outbound,
    }
    bus.start_relay()
    with (
        Bus(settings) as hub_bus,
        Process(["fedmsg-hub"], env=hub_bus.environ) as hub,
        Witness(f"tcp://127.0.0.1:{port}") as gateway,
        Witness(outbound) as relayed,
        bus.context() as context,
    ):
        hub.wait_ready()
        hub.wait_for("enabled by config  - fedmsg.consumers.relay:RelayConsumer")
        hub.wait_for("enabled by config  - fedmsg.consumers.gateway:GatewayConsumer")
        wait_until(
            lambda: gateway.bodies("hello") and relayed.bodies("hello"),
            meanwhile=lambda: context.publish("hello", modname="m"),
        )
        context.publish("both", {"n": 1}, modname="m")
        for witness in (gateway, relayed):
            witness.wait_for(1, "both")
        assert gateway.bodies("both") == relayed.bodies("both")
        assert hub.stop() == 0
