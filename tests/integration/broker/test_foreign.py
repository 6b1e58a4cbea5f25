# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signatures end to end, and messages of programs of others, which have none."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pika
import pytest

from fedmsg.testing import wait_until
from tests.certificates import Bench
from tests.hubs import taker
from tests.integration.broker.buses import PREFIX, BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")

SENT_AT = "2026-05-01T12:00:00+00:00"
SECONDS = 1777636800


def signing(tmp_path: Path) -> dict[str, Any]:
    """Return the settings of programs that sign and check."""
    made = Bench(tmp_path)
    names = {"test": made.config.pop("certname")}
    return {**made.config, "certnames": names, "sign_messages": True, "validate_signatures": True}


def send_foreign(bus: BrokerBus, body: bytes = b'{"n":7}', **properties: Any) -> None:
    """Publish as fedora-messaging does."""
    given: dict[str, Any] = {
        "message_id": "0c1f5a8e-0000-4000-8000-000000000000",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "priority": 3,
        "headers": {"fedora_messaging_schema": "base.message", "fedora_messaging_severity": 20, "sent-at": SENT_AT},
    }
    with bus.raw() as channel:
        channel.basic_publish("amq.topic", f"{PREFIX}.m.t", body, pika.BasicProperties(**{**given, **properties}))


def test_foreign_message_becomes_an_envelope(bus: BrokerBus) -> None:
    with bus.listening() as listener:
        send_foreign(bus)
        _, _, topic, envelope = listener.wait(1)[0]
    assert topic == f"{PREFIX}.m.t"
    assert envelope == {
        "topic": topic,
        "msg": {"n": 7},
        "msg_id": "2026-0c1f5a8e-0000-4000-8000-000000000000",
        "timestamp": SECONDS,
        "username": "amqp-bridge",
        "i": 0,
        "headers": {
            "fedora_messaging_schema": "base.message",
            "fedora_messaging_severity": 20,
            "sent-at": SENT_AT,
            "priority": 3,
        },
    }


@pytest.mark.parametrize(
    ("sent_at", "seconds"),
    [("2026-05-01T14:00:00+02:00", SECONDS), ("2026-05-01T12:00:00.75Z", SECONDS), ("2026-05-01T12:00:00", SECONDS)],
    ids=["zone", "fraction", "none"],
)
def test_time_of_a_foreign_message_is_that_of_its_header(bus: BrokerBus, sent_at: str, seconds: int) -> None:
    with bus.listening() as listener:
        send_foreign(bus, message_id="2025-x", headers={"sent-at": sent_at})
        envelope = listener.wait(1)[0][3]
    assert envelope["timestamp"] == seconds
    assert envelope["msg_id"] == "2025-x"


def test_signature_is_valid_at_the_other_end(bus: BrokerBus, tmp_path: Path) -> None:
    settings = signing(tmp_path)
    listening, running = bus.listening(**settings), bus.hub(taker(), **settings)
    with listening as listener, running as hub, bus.context(**settings) as context:
        context.publish("t", {"n": 1, "é": [1.5, None]}, modname="m")
        envelope = listener.wait(1)[0][3]
        assert envelope["signature"]
        assert envelope["certificate"]
        wait_until(lambda: len(hub.consumers[0].said) == 1)
        # Signed by the same certificate, and then changed by somebody.
        changed: list[Any] = []
        context.republish({**envelope, "msg": {"n": 2}})
        context.publish("t", {"n": 3}, modname="m", pre_fire_hook=changed.append)
        wait_until(lambda: len(hub.consumers[0].said) == 2)
        assert [message[3]["msg"]["n"] for message in listener.wait(2)] == [1, 3]
        assert hub.consumers[0].totals()["rejected"] == 1
        # What ends the listener has to be valid, too.
        bus.config.update(settings)


@pytest.mark.parametrize(("trusted", "count"), [(False, 0), (True, 1)], ids=["refused", "trusted"])
def test_foreign_message_is_refused_where_signatures_are_checked_unless_the_broker_is_trusted(
    bus: BrokerBus, tmp_path: Path, trusted: bool, count: int
) -> None:
    settings = {**signing(tmp_path), "broker_trusted": trusted}
    with bus.hub(taker(), **settings) as hub, bus.listening(**settings) as listener:
        send_foreign(bus)
        # One of ours without a signature is refused in either case.
        with bus.context() as unsigned:
            unsigned.publish("t", {"n": 8}, modname="m")
        with bus.context(**settings) as context:
            context.publish("t", {"n": 9}, modname="m")
        wanted = [7, 9][1 - count :]
        assert [message[3]["msg"]["n"] for message in listener.wait(len(wanted))] == wanted
        wait_until(lambda: len(hub.consumers[0].said) == len(wanted))
        assert [msg["n"] for msg in hub.consumers[0].said] == wanted
        bus.config.update(settings)


class Deep(pika.BasicProperties):  # type: ignore[misc]
    """Properties whose headers are nested deeper than any library can decode."""

    def encode(self) -> list[bytes]:
        table = b""
        for _ in range(5000):
            table = b"\x01aF" + struct.pack(">I", len(table)) + table
        return [struct.pack(">H", self.FLAG_HEADERS), struct.pack(">I", len(table)) + table]


def test_properties_that_can_not_be_decoded_end_nothing(bus: BrokerBus) -> None:
    with bus.hub(taker()) as hub, bus.listening() as listener:
        with bus.raw() as channel:
            channel.basic_publish("amq.topic", f"{PREFIX}.m.t", b'{"n":1}', Deep())
        bus.publish([8])
        assert [message[3]["msg"]["n"] for message in listener.wait(1)] == [8]
        wait_until(lambda: len(hub.consumers[0].said) == 1)
        totals = hub.consumers[0].totals()
        assert (totals["rejected"], totals["connections"]) == (1, 1)
