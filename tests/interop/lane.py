# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus for interop tests: a relay of one side, and who listens to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from fedmsg.core import FedMsgContext
from fedmsg.testing import Process, free_address, wait_until
from tests.interop.sides import GREETING, Side, Speaker, write_config


class Sniffer:
    """A plain subscriber of everything: keeps both frames of each message as they came.

    Args:
        address: What it connects to.
    """

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set_hwm(0)
        self._socket.subscribe(b"")
        self._socket.connect(address)
        self.messages: list[tuple[bytes, bytes]] = []

    def wait_for(self, what: Callable[[str], object], *, meanwhile: Callable[[], object] | None = None) -> None:
        """Read until the text of a message, topic and body, fits; as `fedmsg.testing.Process.wait_for` does."""

        def comes() -> bool:
            if self._socket.poll(50):
                frame, body = self._socket.recv_multipart()
                self.messages.append((frame, body))
                return bool(what(f"{frame.decode()} {body.decode()}"))
            if meanwhile is not None:
                meanwhile()
            return False

        wait_until(comes, what=lambda: f"such a message; the last were {self.messages[-3:]}")

    def heard(self, topic: str) -> list[bytes]:
        """Give the bodies of a topic so far."""
        while self._socket.poll(0):
            frame, body = self._socket.recv_multipart()
            self.messages.append((frame, body))
        return [body for frame, body in self.messages if frame == topic.encode()]

    def take(self, topic: str, count: int) -> list[tuple[bytes, bytes]]:
        """Give the messages of a topic, when there are at least so many of them."""
        while len(found := [message for message in self.messages if message[0] == topic.encode()]) < count:
            self.wait_for(lambda text: text.startswith(f"{topic} "))
        return found

    def __enter__(self) -> Sniffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)


class Lane:
    """A relay that runs, and what is needed to talk through it.

    Args:
        folder: The folder with the configuration.
        config: The configuration.
        relay: The relay.
        greeter: A context that publishes through it.
    """

    def __init__(self, folder: Path, config: dict[str, Any], relay: Process, greeter: FedMsgContext) -> None:
        self.folder = folder
        self.config = config
        self.outbound: str = config["endpoints"]["relay_outbound"][0]
        self.relay = relay
        self.greeter = greeter

    def replace_relay(self, side: Side) -> int:
        """Stop the relay in order, and start that of a side at the same addresses; return how the first one ended."""
        status = self.relay.stop()
        self.relay.close()
        self.relay = side.relay(self.folder)
        return status

    def greet(self, *listeners: Process | Sniffer) -> None:
        """Publish until all these listeners have heard something."""
        for listener in listeners:
            listener.wait_for(lambda line: True, meanwhile=lambda: self.greeter.publish("hello", GREETING, "interop"))


@contextmanager
def open_lane(side: Side, folder: Path, **settings: object) -> Iterator[Lane]:
    """Start a relay of one side.

    Args:
        side: The side.
        folder: An empty folder, which gets the configuration.
        settings: More to put into it.
    """
    inbound, outbound = free_address(), free_address()
    config: dict[str, Any] = {
        "environment": "dev",
        "relay_inbound": [inbound],
        "endpoints": {"relay_outbound": [outbound]},
        "sign_messages": False,
        "validate_signatures": False,
        # Commands of fedmsg 1.1.7 that publish and end have no other way to connect before.
        "post_init_sleep": 0.2,
        # Without it the daemons of fedmsg 1.1.7 find no broker to use.
        "zmq_enabled": True,
        **settings,
    }
    write_config(folder, config)
    publishing = {**config, "active": True, "name": "relay_inbound", "timeout": 20}
    with FedMsgContext(**publishing) as greeter:
        lane = Lane(folder, config, side.relay(folder), greeter)
        try:
            yield lane
        finally:
            lane.relay.close()


def greet(speaker: Speaker, *listeners: Process) -> None:
    """Have a publisher greet until all these listeners hear it."""
    for listener in listeners:
        listener.wait_for(speaker.topic, meanwhile=lambda: speaker.say(GREETING))


def connect(side: Side, speaker: Speaker, listener: Process) -> None:
    """Do what has to be done so that whatever a publisher says from now on reaches a listener: for ours, nothing."""
    if not side.waits:
        greet(speaker, listener)


def send(side: Side, command: Callable[[], object], listener: Process, mark: str) -> None:
    """Run a command that publishes and ends: ours once, that of fedmsg 1.1.7 until a listener hears it.

    Args:
        side: The side whose command it is.
        command: Runs it.
        listener: Who should hear it.
        mark: Text that the listener then prints.
    """
    if side.waits:
        command()
    listener.wait_for(mark, meanwhile=None if side.waits else command)
