# SPDX-License-Identifier: LGPL-2.1-or-later
"""CURVE: only those whose keys are known publish and subscribe, and only to whom they mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import NotListening, RefusedAtStart
from fedmsg.testing import Bus, Process, free_port
from fedmsg.transport.zmq.forwarder import Forwarder


class Keys:
    """A folder with key pairs, and two with the public keys of those who may connect."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publishers, self.subscribers = folder / "publishers", folder / "subscribers"
        for one in (self.publishers, self.subscribers):
            one.mkdir()
        for name in ("relay", "web", "tail", "stranger"):
            _, secret = zmq.auth.create_certificates(folder, name)
            Path(secret).chmod(0o600)
        self.admit(self.publishers, "web")
        self.admit(self.subscribers, "tail")

    def admit(self, where: Path, name: str) -> None:
        (where / f"{name}.key").write_bytes((self.folder / f"{name}.key").read_bytes())

    def server(self) -> dict[str, Any]:
        return {
            "curve_key": str(self.folder / "relay.key_secret"),
            "curve_publishers": str(self.publishers),
            "curve_subscribers": str(self.subscribers),
        }

    def client(self, name: str, server: str = "relay") -> dict[str, Any]:
        path = str(self.folder / f"{server}.key")
        return {
            "curve_key": str(self.folder / f"{name}.key_secret"),
            "curve_servers": {"relay_inbound": path, "relay_outbound": path},
        }


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def bus(keys: Keys) -> Iterator[Bus]:
    with Bus(keys.server()) as made:
        made.start_relay()
        yield made


def tail(bus: Bus, keys: Keys, name: str) -> tuple[Process, Bus]:
    other = Bus({**bus.config, **keys.client(name)})
    return Process(["fedmsg-tail", "--json"], env=other.environ), other


def test_those_who_are_known(bus: Bus, keys: Keys) -> None:
    listener, other = tail(bus, keys, "tail")
    with other, listener, bus.context(**keys.client("web")) as context:
        listener.wait_for('"n":1', meanwhile=lambda: context.publish(topic="t", modname="m", msg={"n": 1}))
    assert bus.stop_relay() == 0


@pytest.mark.parametrize(("name", "server"), [(None, None), ("stranger", "relay"), ("web", "stranger")])
def test_who_is_not_known_can_not_publish(name: str | None, server: str | None, bus: Bus, keys: Keys) -> None:
    settings = keys.client(name, server) if name and server else {"curve_key": None, "curve_servers": {}}
    with bus.context(**settings, timeout=1) as context, pytest.raises(NotListening):
        context.publish(topic="t", modname="m")


def test_who_is_not_known_hears_nothing(bus: Bus, keys: Keys) -> None:
    known, other = tail(bus, keys, "tail")
    stranger, another = tail(bus, keys, "stranger")
    assert bus.relay is not None
    with other, another, known, stranger, bus.context(**keys.client("web")) as context:
        bus.relay.wait_for("to subscribe: its key is not in")
        for _ in range(3):
            known.wait_for('"n":1', meanwhile=lambda: context.publish(topic="t", modname="m", msg={"n": 1}))
        assert stranger.out == []


def test_somebody_is_admitted_while_the_relay_runs(bus: Bus, keys: Keys) -> None:
    assert bus.relay is not None
    with bus.context(**keys.client("stranger"), timeout=20) as context:
        bus.relay.wait_for("its key is not in")
        keys.admit(keys.publishers, "stranger")
        context.publish(topic="t", modname="m")


def test_a_side_without_a_folder_is_open(keys: Keys) -> None:
    with Bus({**keys.server(), "curve_subscribers": None}) as bus:
        bus.start_relay()
        with bus.context(**keys.client("web")) as context, Process(["fedmsg-tail", "--json"], env=bus.environ) as plain:
            plain.wait_for('"n":1', meanwhile=lambda: context.publish(topic="t", modname="m", msg={"n": 1}))


def test_a_gateway_between_a_guarded_relay_and_its_own_guard(bus: Bus, keys: Keys) -> None:
    zmq.auth.create_certificates(keys.folder, "gateway")
    (keys.folder / "gateway.key_secret").chmod(0o600)
    keys.admit(keys.subscribers, "gateway")
    outside = keys.folder / "outside"
    outside.mkdir()
    keys.admit(outside, "stranger")
    port = free_port()
    settings = {
        **bus.config,
        **keys.client("gateway"),
        # Of no concern to a gateway: nobody publishes through it.
        "curve_publishers": str(keys.folder / "nowhere"),
        "curve_subscribers": str(outside),
        "fedmsg.consumers.gateway.port": port,
    }

    def listener(name: str) -> Bus:
        gateway = {"endpoints": {"gateway": [f"tcp://127.0.0.1:{port}"]}}
        own = keys.client(name)
        return Bus({**gateway, **own, "curve_servers": {"gateway": str(keys.folder / "gateway.key")}})

    with (
        Bus(settings) as inside,
        Process(["fedmsg-gateway"], env=inside.environ) as gateway,
        listener("stranger") as first,
        listener("tail") as second,
        Process(["fedmsg-tail", "--json"], env=first.environ) as known,
        Process(["fedmsg-tail", "--json"], env=second.environ) as unknown,
        bus.context(**keys.client("web")) as context,
    ):
        gateway.wait_ready()
        gateway.wait_for("to subscribe: its key is not in")
        for _ in range(3):
            known.wait_for('"n":1', meanwhile=lambda: context.publish(topic="t", modname="m", msg={"n": 1}))
        assert unknown.out == []
        assert gateway.stop() == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"curve_key": None}, "curve_key is not"),
        ({"curve_key": "/nowhere/x.key_secret"}, "/nowhere/x.key_secret"),
        ({"curve_key": "PUBLIC"}, "no secret key in it"),
        ({"curve_publishers": "/nowhere"}, "curve_publishers: /nowhere is not a folder"),
        ({"curve_subscribers": "/nowhere"}, "curve_subscribers: /nowhere is not a folder"),
    ],
)
def test_a_relay_without_what_it_needs_does_not_start(changes: dict[str, Any], said: str, keys: Keys) -> None:
    if changes.get("curve_key") == "PUBLIC":
        changes = {"curve_key": str(keys.folder / "relay.key")}
    with pytest.raises(RefusedAtStart, match=said):
        Forwarder({**keys.server(), **changes}, [], [], limit=1)


def test_a_client_without_what_it_needs_does_not_start(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "rubbish").write_text("no key")
    relay = {"active": True, "name": "relay_inbound", "relay_inbound": "tcp://127.0.0.1:1"}
    for changes in ({"curve_key": None}, {"curve_servers": {"relay_inbound": str(tmp_path / "rubbish")}}):
        with pytest.raises(RefusedAtStart, match="curve"):
            FedMsgContext(**{**keys.client("web"), **relay, **changes})
    listening = {**keys.client("web"), "curve_key": None, "endpoints": {"relay_outbound": "tcp://127.0.0.1:1"}}
    with FedMsgContext(**listening, mute=True) as context, pytest.raises(RefusedAtStart, match="curve_key"):
        context.tail_messages()


def test_a_key_that_others_can_read_is_told_of(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    (keys.folder / "relay.key_secret").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Forwarder(keys.server(), [], [], limit=1)
    assert "other users can read the key" in caplog.text
