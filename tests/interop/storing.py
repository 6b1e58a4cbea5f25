# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus of both sides whose relay is ours and has a store: settings, consumers, and what was stored and heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedmsg.stream.log import Entry
from fedmsg.testing import Process, free_address, wait_until
from tests.hubs import install
from tests.interop.lane import Lane
from tests.interop.sides import canonical, envelopes
from tests.stream_relays import stored_in

# fedmsg 1.1.7 takes no notice of the attribute; our hub has one consumer that reads the stream, and one that does not.
PLUGIN = """
import json, sys, threading
from fedmsg.consumers import FedmsgConsumer

LOCK = threading.Lock()

class Plain(FedmsgConsumer):
    topic = "*"
    config_key = "interop.enabled"
    def consume(self, message):
        line = json.dumps([type(self).__name__, message["topic"], message["body"]])
        with LOCK:
            print(line, flush=True)

class Durable(Plain):
    durable = True
"""
CLASSES = ("Plain", "Durable")


def plugin(folder: Path) -> Path:
    """Install the consumers."""
    points = [f"{name.lower()} = keeping:{name}" for name in CLASSES]
    return install(folder, "keeping", {"keeping.py": PLUGIN}, {"moksha.consumer": points})


def storing(url: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of a relay with a store."""
    places = {"relay_confirmed": [free_address()], "relay_stream": [free_address()]}
    return {"relay_store": url, **places, "interop.enabled": True, **settings}


def stored(lane: Lane, topic: str) -> list[Entry]:
    """Return the messages of a topic in the stream, in its order."""
    entries = stored_in(lane.config["relay_store"])
    assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
    return [entry for entry in entries if entry.topic == topic.encode()]


def texts(lane: Lane, topic: str) -> list[str]:
    """Return the bodies of these."""
    return [entry.body.decode() for entry in stored(lane, topic)]


def wait_stored(lane: Lane, topic: str, text: str) -> None:
    """Wait until the newest message of a topic has a text in it."""
    wait_until(lambda: any(text in body for body in texts(lane, topic)[-1:]))


def tailed(process: Process, topic: str) -> list[str]:
    """Return what a tail has printed."""
    return [canonical(envelope) for envelope in envelopes(process) if envelope["topic"] == topic]


def consumed(process: Process, name: str, topic: str) -> list[str]:
    """Return what a consumer of a hub has printed."""
    lines = [json.loads(line) for line in list(process.out) if line.startswith(f'["{name}"')]
    return [canonical(envelope) for _, frame, envelope in lines if frame == envelope["topic"] == topic]
