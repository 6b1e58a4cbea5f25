# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-gateway as a process: what it says, what it repeats, what it refuses, how it ends."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.testing import Bus, Process, envelopes, free_port, wait_until
from tests.gateways import GatewayBus
from tests.integration.faults.ground import Witness


@pytest.fixture
def bus() -> Iterator[GatewayBus]:
    with GatewayBus() as made:
        yield made


def test_it_repeats_all_endpoints(bus: GatewayBus) -> None:
    bus.start_relay()
    with (
        bus.start_gateway() as gateway,
        Process(["fedmsg-tail", "--json"], env=bus.outside.environ) as tail,
        Witness(bus.relayed, bus.first, bus.second) as witness,
        bus.context() as relayed,
        bus.publisher("first") as first,
        bus.publisher("second") as second,
    ):
        gateway.wait_for("repeating 3 endpoints (")
        speakers = {"relayed": relayed, "first": first, "second": second}
        for word, context in speakers.items():
            greet(tail, context, word)
        witness.wait_for(3, "last")
        repeated = [envelope for envelope in envelopes(tail.out) if envelope["topic"].endswith(".last")]
        assert sorted(repeated, key=str) == sorted(witness.bodies("last"), key=str)
        assert {envelope["msg"]["from"] for envelope in repeated} == {*speakers}
        assert gateway.stop() == 0
        assert gateway.err == []
    assert bus.stop_relay() == 0


def greet(tail: Process, context: FedMsgContext, word: str) -> None:
    """Publish until a tail hears it, and then once more."""
    tail.wait_for(word, meanwhile=lambda: context.publish("t", {"from": word}, modname="m"))
    context.publish("last", {"from": word}, modname="m")
    tail.wait_for(lambda line: '.m.last"' in line and word in line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_one_ends_with_0(bus: GatewayBus, number: int) -> None:
    with bus.start_gateway() as gateway:
        assert gateway.stop(number) == 0
        assert "STOPPING=1" in gateway.notifications()
        assert gateway.err == []
        gateway.wait_for("stopped after 0 messages")


def test_a_hang_up_is_answered_and_survived(bus: GatewayBus) -> None:
    with bus.start_gateway() as gateway:
        gateway.popen.send_signal(signal.SIGHUP)
        gateway.wait_for("SIGHUP: a running process reloads nothing")
        assert gateway.stop() == 0


def test_the_watchdog_is_reassured_and_the_status_tells(bus: GatewayBus) -> None:
    bus.environ["WATCHDOG_USEC"] = "100000"
    with bus.start_gateway() as gateway, Witness(bus.address) as witness, bus.publisher("first") as first:
        wait_until(lambda: witness.frames, meanwhile=lambda: first.publish("t", modname="m"))
        said: list[str] = []
        status = f"STATUS=repeating 3 endpoints (1 connected) at tcp://0.0.0.0:{bus.port}, "
        wait_until(
            lambda: said.count("WATCHDOG=1") >= 3 and any(line.startswith(status) for line in said),
            meanwhile=lambda: said.extend(gateway.notifications()),
        )
        assert gateway.stop() == 0


def test_it_repeats_in_the_background() -> None:
    pidfile, log = Path("gateway.pid").absolute(), Path("gateway.log").absolute()
    handler = {"class": "logging.FileHandler", "filename": str(log), "formatter": "bare"}
    logging = {"handlers": {"file": handler}, "loggers": {"fedmsg": {"handlers": ["file"]}}}
    with GatewayBus(daemon=True, pidfile=str(pidfile), logging=logging) as bus:
        started = bus.run("fedmsg-gateway")
        assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
        wait_until(lambda: log.exists() and "repeating 3 endpoints" in log.read_text(encoding="utf-8"))
        pid = int(pidfile.read_text(encoding="ascii"))
        descriptor = os.pidfd_open(pid)
        try:
            with Witness(bus.address) as witness, bus.publisher("first") as first:
                wait_until(lambda: witness.frames, meanwhile=lambda: first.publish("t", modname="m"))
            os.kill(pid, signal.SIGTERM)
            assert select.select([descriptor], [], [], 20)[0], "it goes on"
        except BaseException:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            raise
        finally:
            os.close(descriptor)
    assert "stopped after" in log.read_text(encoding="utf-8")


def test_a_taken_port_is_status_6_and_one_line() -> None:
    with socket.socket() as holder, Bus() as bus:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with Bus({**bus.config, "fedmsg.consumers.gateway.port": port}) as taken:
            ended = taken.run("fedmsg-gateway")
    assert ended.returncode == 6
    assert len(ended.stderr.splitlines()) == 1
    assert f"fedmsg.consumers.gateway.port: tcp://*:{port} can't be bound: Address already in use" in ended.stderr


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ({}, "endpoints is empty: there is nothing to listen to"),
        ({"x": ["nonsense"]}, "endpoints['x']: 'nonsense' is no address"),
        ({"x": ["tcp://*:PORT"]}, "tcp://*:PORT is where this gateway sends to"),
        ({"x": ["tcp://127.0.0.1:PORT"]}, "tcp://127.0.0.1:PORT is where this gateway sends to"),
        ({"x": ["tcp://127.8.0.1:PORT"]}, "tcp://127.8.0.1:PORT is where this gateway sends to"),
        ({"x": ["tcp://localhost:PORT"]}, "tcp://localhost:PORT is where this gateway sends to"),
        ({"x": ["tcp://[::1]:PORT"]}, "tcp://[::1]:PORT is where this gateway sends to"),
    ],
)
def test_an_impossible_configuration_is_status_5_and_one_line(endpoints: dict[str, list[str]], said: str) -> None:
    port = free_port()
    own = {name: [one.replace("PORT", str(port)) for one in several] for name, several in endpoints.items()}
    with Bus({"endpoints": own, "fedmsg.consumers.gateway.port": port}) as bus:
        ended = bus.run("fedmsg-gateway")
    assert ended.returncode == 5
    assert len(ended.stderr.splitlines()) == 1
    assert said.replace("PORT", str(port)) in ended.stderr


def test_the_port_of_a_gateway_on_another_machine_is_no_loop() -> None:
    port = free_port()
    endpoints = {"x": [f"tcp://192.0.2.1:{port}"]}
    with (
        GatewayBus(**{"endpoints": endpoints, "fedmsg.consumers.gateway.port": port}) as bus,
        bus.start_gateway() as gateway,
    ):
        assert gateway.stop() == 0


def test_checking_that_can_not_be_done_is_refused() -> None:
    with GatewayBus(ca_cert_location="/nowhere/ca.crt") as bus:
        ended = bus.run("fedmsg-gateway", "--validate")
    assert ended.returncode == 7
    assert len(ended.stderr.splitlines()) == 1
    assert "/nowhere/ca.crt" in ended.stderr


def test_an_endpoint_that_is_not_found_is_told_of_and_the_others_work() -> None:
    with GatewayBus() as plain:
        endpoints = {**plain.config["endpoints"], "lost": ["tcp://no-such-host.invalid:9940"]}
        with (
            Bus({**plain.config, "endpoints": endpoints}) as bus,
            Process(["fedmsg-gateway"], env=bus.environ) as gateway,
            Witness(plain.address) as witness,
            plain.publisher("first") as first,
        ):
            gateway.wait_ready()
            gateway.wait_for("host 'no-such-host.invalid' can't be found")
            wait_until(lambda: witness.frames, meanwhile=lambda: first.publish("t", modname="m"))
            assert gateway.stop() == 0
            assert gateway.err == []
