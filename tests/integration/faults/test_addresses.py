# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses that are taken, unknown, or of a rarer kind."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import AddressInUse
from fedmsg.testing import Bus, Process, envelopes, free_address, wait_until
from tests.integration.faults.ground import PREFIX, Witness, publishing

NOWHERE = "tcp://no-such-host.invalid:9940"

KINDS = pytest.mark.parametrize("kind", ["ipc", "ipv6", "ipv4"])


@pytest.fixture
def addresses(kind: str, tmp_path: Path) -> Iterator[str]:
    """Give new addresses of a kind."""

    def make(number: int) -> str:
        if kind == "ipc":
            return f"ipc://{tmp_path}/{number}"
        return free_address().replace("127.0.0.1", "[::1]" if kind == "ipv6" else "127.0.0.1")

    return map(make, itertools.count())


@pytest.fixture
def holder() -> Iterator[str]:
    """Give an address that somebody else has bound."""
    context = zmq.Context()
    with context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        yield socket.getsockopt_string(zmq.LAST_ENDPOINT)
    context.term()


@pytest.mark.parametrize("setting", ["relay_inbound", "endpoints"])
def test_a_relay_whose_address_is_taken(setting: str, holder: str) -> None:
    taken = {"relay_inbound": [holder]} if setting == "relay_inbound" else {"endpoints": {"relay_outbound": [holder]}}
    with Bus(taken) as bus:
        ended = bus.run("fedmsg-relay")
    assert ended.returncode == 6
    assert ended.stderr.count("\n") == 1
    assert holder in ended.stderr
    assert "Address already in use" in ended.stderr


def test_a_relay_takes_the_next_free_outbound_address(holder: str) -> None:
    free = free_address()
    with Bus({"endpoints": {"relay_outbound": [holder, free]}}) as bus, Witness(free) as witness:
        bus.start_relay()
        witness.greet(bus)
        assert bus.stop_relay() == 0


def test_a_publisher_whose_addresses_are_taken(holder: str) -> None:
    # A publisher binds every interface, and the holder has one of them: the port counts as taken.
    with pytest.raises(AddressInUse, match=r"^Couldn't find an available endpoint for name 'me\.here': .*active=True"):
        FedMsgContext(name="me.here", endpoints={"me.here": [holder]})


def test_a_host_that_does_not_resolve_among_others() -> None:
    first, last = free_address(), free_address()
    endpoints = {"a": [first], "nowhere": [NOWHERE], "z": [last]}
    settings = {"endpoints": endpoints, "post_init_sleep": 20}
    with Bus(settings) as bus, Process(["fedmsg-tail", "--json"], env=bus.environ) as tail:
        for name in ("a", "z"):
            with FedMsgContext(name=name, **settings) as context:
                context.publish("update", {"from": name}, modname="test")
                tail.wait_for(f'"from":"{name}"')
        tail.wait_for("no-such-host.invalid", stream="err")
        assert tail.stop() == 0
    warnings = [line for line in tail.err if "no-such-host" in line]
    assert len(warnings) == 1
    assert "trying again" in warnings[0]


def test_a_relay_whose_host_does_not_resolve_beside_one_that_works() -> None:
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        bus.start_relay()
        witness.greet(bus)
        with bus.context(relay_inbound=[NOWHERE, *bus.config["relay_inbound"]], timeout=20) as context:
            context.publish("update", {"n": 1}, modname="test")
            witness.wait_for(1, "update")
            assert context.lost == 0
        assert context.lost == 0


@KINDS
def test_publishers_and_tails_at_every_kind_of_address(addresses: Iterator[str]) -> None:
    settings = {"endpoints": {"me.here": [next(addresses)]}, "post_init_sleep": 20}
    with Bus(settings) as bus, Process(["fedmsg-tail", "--json"], env=bus.environ) as tail:
        with FedMsgContext(name="me.here", **settings) as context:
            context.publish("update", {"n": 1}, modname="test")
            tail.wait_for('"n":1')
        assert tail.stop() == 0
    assert envelopes(tail.out)[0]["topic"] == f"{PREFIX}.test.update"
    assert tail.err == []


@KINDS
def test_a_relay_at_every_kind_of_address(addresses: Iterator[str]) -> None:
    inbound, outbound = next(addresses), next(addresses)
    with Bus({"relay_inbound": [inbound], "endpoints": {"relay_outbound": [outbound]}}) as bus:
        bus.start_relay()
        with bus.tail("--json") as tail:
            assert bus.run("fedmsg-logger", "--message", "by another way").returncode == 0
            tail.wait_for("by another way")
            assert tail.stop() == 0
        assert bus.stop_relay() == 0


@KINDS
def test_a_passive_tail_is_connected_to(addresses: Iterator[str], caplog: pytest.LogCaptureFixture) -> None:
    address = next(addresses)
    received: list[tuple[str, str, str, dict[str, Any]]] = []
    done_sending = threading.Event()
    with FedMsgContext(mute=True, endpoints={"publishers": [address]}) as listening:

        def listen() -> None:
            for message in listening.tail_messages(passive=True):
                received.append(message)
                if message[3]["msg"] == {"n": "last"}:
                    done_sending.wait()
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        # To a publisher that connects, a passive tail is what a relay is.
        with FedMsgContext(active=True, relay_inbound=address, timeout=20) as context:
            with publishing(context, "update") as done:
                wait_until(lambda: len(received) > 100)
            context.publish("update", {"n": "last"}, modname="test")
            wait_until(lambda: received[-1][3]["msg"] == {"n": "last"})
        done_sending.set()
        thread.join()
    assert [message[3]["msg"]["n"] for message in received] == [*done, "last"]
    assert {message[:3] for message in received} == {("publishers", address, f"{PREFIX}.test.update")}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
