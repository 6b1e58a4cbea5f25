# SPDX-License-Identifier: LGPL-2.1-or-later
"""The relays and the gateway as consumers, on a hub that only takes notes: what plugins' own tests touch."""

from __future__ import annotations

import copy
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg import crypto
from fedmsg.consumers.gateway import GatewayConsumer
from fedmsg.consumers.relay import RelayConsumer, SigningRelayConsumer
from fedmsg.exceptions import AddressInUse, MissingKey
from fedmsg.hub import ZMQMessage
from fedmsg.hub.consumer import runner_of
from fedmsg.testing import free_port, wait_until
from tests.certificates import Bench

MESSAGE = {"topic": "a.b", "body": {"topic": "a.b", "msg": {"x": 1}, "i": 1, "timestamp": 1, "msg_id": "2024-1"}}
NO_CERTIFICATE = (
    "The signing relay requires that the certificate name is in the "
    '"certnames" dictionary using the "signing_relay" key'
)


class Hub:
    """Keeps what is sent through it."""

    def __init__(self, **config: Any) -> None:
        self.config = {"fedmsg.consumers.relay.enabled": True, "fedmsg.consumers.gateway.enabled": True, **config}
        self.sent: list[dict[str, Any]] = []
        self.subscribed: list[str] = []

    def subscribe(self, topic: str, _callback: Any) -> None:
        self.subscribed.append(topic)

    def send_message(self, **arguments: Any) -> None:
        self.sent.append(arguments)


@pytest.mark.parametrize("kind", [RelayConsumer, SigningRelayConsumer, GatewayConsumer])
def test_they_are_off_unless_enabled(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        consumer = kind(Hub(**{kind.config_key: False}))
    assert not consumer._initialized
    assert f"* disabled by config - {kind.__module__}:{kind.__name__}" in caplog.messages


def test_a_relay_sends_the_body_on() -> None:
    hub = Hub()
    consumer = RelayConsumer(hub)
    message = copy.deepcopy(MESSAGE)
    consumer.consume(message)
    assert hub.sent == [{"topic": "a.b", "message": MESSAGE["body"]}]
    assert message == MESSAGE
    assert hub.subscribed == ["*"]


def test_a_signing_relay_sends_a_signed_copy(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    hub = Hub(**{**bench.config, "certname": None, "certnames": {"signing_relay": "shell.test"}})
    consumer = SigningRelayConsumer(hub)
    assert hub.config["certname"] == "shell.test"
    runner_of(consumer).prepare()
    message = copy.deepcopy(MESSAGE)
    consumer.consume(message)
    assert message == MESSAGE
    (sent,) = hub.sent
    assert sent["topic"] == "a.b"
    assert crypto.strip_credentials(sent["message"]) == {**MESSAGE["body"], "crypto": "x509"}  # type: ignore[dict-item]
    assert crypto.validate(sent["message"], **bench.config)


@pytest.mark.parametrize("certnames", [None, {}, {"other": "x"}])
def test_a_signing_relay_without_a_certificate_says_so(certnames: Any, caplog: pytest.LogCaptureFixture) -> None:
    consumer = SigningRelayConsumer(Hub(certnames=certnames))
    assert [(record.name, record.message) for record in caplog.records if record.levelno == logging.ERROR] == [
        ("fedmsg.consumers.relay", NO_CERTIFICATE)
    ]
    assert consumer._initialized
    with pytest.raises(MissingKey, match="signing_relay"):
        runner_of(consumer).prepare()


def test_a_signing_relay_with_gnupg_needs_no_certificate(caplog: pytest.LogCaptureFixture) -> None:
    runner_of(SigningRelayConsumer(Hub(crypto_backend="gpg"))).prepare()
    assert caplog.messages == []


def test_a_gateway_repeats_on_its_port() -> None:
    port = free_port()
    consumer = GatewayConsumer(Hub(**{"fedmsg.consumers.gateway.port": port}))
    assert consumer.port == port
    message = ZMQMessage("a.b", '{"é": "\\u00e9"}')
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.subscribe(b"")
        subscriber.connect(f"tcp://127.0.0.1:{port}")
        wait_until(lambda: subscriber.poll(0), meanwhile=lambda: consumer.consume(message))
        assert subscriber.recv_multipart() == [b"a.b", '{"é": "\\u00e9"}'.encode()]
        subscriber.setsockopt(zmq.LINGER, 0)
    consumer.stop()
    consumer.destroy()
    consumer.consume(message)
    # The port is free again.
    GatewayConsumer(Hub(**{"fedmsg.consumers.gateway.port": port})).destroy()


def test_a_gateway_without_its_port_does_not_come_to_be() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        hub = Hub(**{"fedmsg.consumers.gateway.port": holder.getsockname()[1]})
        with pytest.raises(AddressInUse):
            GatewayConsumer(hub)
    # And the hub does not go on collecting messages for it.
    assert hub.subscribed == []
