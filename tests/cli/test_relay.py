# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-relay as a process: what it says, how it starts, how it ends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from fedmsg.testing import Bus, Process, free_address, run


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus() as made:
        yield made


def test_it_says_where_it_relays(bus: Bus) -> None:
    relay = bus.start_relay()
    inbound, outbound = bus.config["relay_inbound"][0], bus.config["endpoints"]["relay_outbound"][0]
    relay.wait_for(f"relaying from {inbound} to {outbound}")
    assert bus.stop_relay() == 0


def test_a_hang_up_is_answered_and_survived(bus: Bus) -> None:
    relay = bus.start_relay()
    relay.popen.send_signal(signal.SIGHUP)
    relay.wait_for("SIGHUP: a running process reloads nothing")
    with bus.tail("--json") as tail:
        assert bus.run("fedmsg-logger", "--message", "still here").returncode == 0
        tail.wait_for("still here")
    assert bus.stop_relay() == 0


def test_the_watchdog_is_reassured(bus: Bus) -> None:
    bus.environ["WATCHDOG_USEC"] = "100000"
    relay = bus.start_relay()
    said: list[str] = []
    with bus.context() as context:
        context.publish(topic="t", modname="m")
    while said.count("WATCHDOG=1") < 3 or not any(line.endswith(", 1 messages so far") for line in said):
        said.extend(relay.notifications())
        assert relay.popen.poll() is None
    assert bus.stop_relay() == 0


@pytest.mark.parametrize("which", ["relay_inbound", "relay_outbound"])
def test_a_taken_address_is_status_6_and_one_line(which: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        addresses = {"relay_inbound": free_address(), "relay_outbound": free_address(), which: taken}
        settings = {
            "relay_inbound": [addresses["relay_inbound"]],
            "endpoints": {"relay_outbound": [addresses["relay_outbound"]]},
        }
        with Bus(settings) as bus:
            ended = bus.run("fedmsg-relay")
    assert ended.returncode == 6
    assert len(ended.stderr.splitlines()) == 1
    assert taken in ended.stderr
    assert "in use" in ended.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"relay_inbound": []}, "relay_inbound is not set"),
        ({"endpoints": {}}, "endpoints['relay_outbound'] is not set"),
        ({"relay_inbound": "nonsense"}, "'nonsense' is no address"),
    ],
)
def test_an_impossible_configuration_is_status_5_and_one_line(settings: dict[str, object], said: str) -> None:
    with Bus(settings) as bus:
        ended = bus.run("fedmsg-relay")
    assert ended.returncode == 5
    assert len(ended.stderr.splitlines()) == 1
    assert said in ended.stderr


def test_checking_that_can_not_be_done_is_refused() -> None:
    with Bus({"ca_cert_location": "/nowhere/ca.crt"}) as bus:
        ended = bus.run("fedmsg-relay", "--validate")
    assert ended.returncode == 7
    assert len(ended.stderr.splitlines()) == 1
    assert "/nowhere/ca.crt" in ended.stderr


def test_several_inbound_addresses_are_all_bound() -> None:
    inbound = [free_address(), free_address()]
    with Bus({"relay_inbound": inbound}) as bus:
        bus.start_relay()
        with bus.tail("--json") as tail:
            for number, address in enumerate(inbound):
                with bus.context(relay_inbound=address) as context:
                    context.publish(topic="t", modname="m", msg={"through": number})
                tail.wait_for(f'"through":{number}')


@pytest.mark.xdist_group("default-ports")  # one after the other
def test_without_any_configuration_it_listens_where_the_defaults_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    environ = {"FEDMSG_CONFIG": "", "HOME": str(empty), "VIRTUAL_ENV": ""}
    with Process(["fedmsg-relay"], env=environ, cwd=empty) as relay:
        relay.wait_ready()
        relay.wait_for("relaying from tcp://127.0.0.1:2003 to tcp://127.0.0.1:4001")
        with Process(["fedmsg-tail", "--json"], env=environ, cwd=empty) as tail:

            def greet() -> None:
                run(["fedmsg-logger", "--message", "no configuration"], env=environ, cwd=empty)

            tail.wait_for("no configuration", meanwhile=greet)
        assert relay.stop() == 0
