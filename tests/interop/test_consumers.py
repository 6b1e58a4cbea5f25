# SPDX-License-Identifier: LGPL-2.1-or-later
"""What else listens on a bus, when its relay and publishers become ours."""

from __future__ import annotations

import json
from pathlib import Path

from fedmsg.testing import free_port
from tests.interop.lane import Sniffer, greet, open_lane
from tests.interop.sides import GREETING, Side, canonical, envelopes, write_config

# An application's consumer, the way it is written for fedmsg 1.x.
CONSUMER = """
import json
from fedmsg.consumers import FedmsgConsumer

class Printer(FedmsgConsumer):
    topic = "org.fedoraproject.dev.interop.hub"
    config_key = "interop.printer.enabled"

    def consume(self, message):
        print(json.dumps(["consumed", message["topic"], message["body"]]), flush=True)
"""

MESSAGES = [{"number": number, "text": "é\ud800", "float": 1e22, "big": 10**30} for number in range(100)]


def test_a_consumer_hears_our_publisher_through_our_relay(sides: dict[str, Side], tmp_path: Path) -> None:
    folder = tmp_path / "bus"
    with (
        open_lane(sides["ours"], folder, **{"interop.printer.enabled": True}) as lane,
        Sniffer(lane.outbound) as sniffer,
    ):
        lane.greet(sniffer)
        (folder / "printing.py").write_text(CONSUMER)
        with (
            sides["peer"].start(folder, "fedmsg-hub", "--with-consumers", "printing:Printer") as hub,
            sides["ours"].library(folder, "hub") as speaker,
        ):
            greet(speaker, hub)
            speaker.say(*MESSAGES)
            speaker.finish()
            hub.wait_for('"number": 99')
            sniffer.wait_for(lambda text: '"number":99' in text)
    consumed = [json.loads(line) for line in hub.out if line.startswith('["consumed"')][-len(MESSAGES) :]
    passed_on = sniffer.messages[-len(MESSAGES) :]
    assert [topic.encode() for _, topic, _ in consumed] == [frame for frame, _ in passed_on]
    assert [canonical(envelope) for _, _, envelope in consumed] == [body.decode() for _, body in passed_on]
    assert canonical([envelope["msg"] for _, _, envelope in consumed]) == canonical(MESSAGES)


def test_our_tail_hears_the_gateway_of_the_peer(sides: dict[str, Side], tmp_path: Path) -> None:
    port = free_port()
    gateway = {"fedmsg.consumers.gateway.port": port, "fedmsg.consumers.gateway.high_water_mark": 0}
    write_config(tmp_path / "far", {"endpoints": {"gateway": f"tcp://127.0.0.1:{port}"}})
    with (
        open_lane(sides["ours"], tmp_path / "bus", **gateway) as lane,
        sides["peer"].start(lane.folder, "fedmsg-gateway"),
        sides["ours"].tail(tmp_path / "far") as tail,
        sides["ours"].library(lane.folder, "gateway") as speaker,
    ):
        lane.greet(tail)
        speaker.say(*MESSAGES)
        speaker.finish()
        tail.wait_for("'number': 99")
    heard = [envelope for envelope in envelopes(tail) if envelope["msg"] != GREETING]
    assert canonical([envelope["msg"] for envelope in heard]) == canonical(MESSAGES)
    assert [envelope["i"] for envelope in heard] == list(range(1, len(MESSAGES) + 1))
