# SPDX-License-Identifier: LGPL-2.1-or-later
"""Catches what a program under test publishes: a subscriber with a thread of its own."""

from __future__ import annotations

import threading

import zmq

from fedmsg._util.service import ServiceThread

__all__ = ["Catcher"]

# How soon it connects when the address is bound.
_RECONNECT_MS = 5


class Catcher(ServiceThread):
    """Listens at two addresses, and keeps what arrives.

    Args:
        publisher_address: An address that publishers bind.
        relay_address: An address to bind for publishers that connect, as a relay does.
        changed: Notified whenever something has arrived.

    Attributes:
        caught: The topics and bodies that arrived, not decoded.
        failure: What has ended it early.
    """

    def __init__(self, publisher_address: str, relay_address: str, changed: threading.Condition) -> None:
        super().__init__("fedmsg-testing-catcher")
        self.caught: list[tuple[bytes, bytes]] = []
        self._addresses = publisher_address, relay_address
        self._changed = changed

    def run(self) -> None:
        """Listen until the end."""
        publisher_address, relay_address = self._addresses
        with zmq.Context() as context, context.socket(zmq.SUB) as first, context.socket(zmq.SUB) as second:
            poller = zmq.Poller()
            poller.register(self.waker, zmq.POLLIN)
            for socket in (first, second):
                socket.setsockopt(zmq.RCVHWM, 0)
                socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
                socket.setsockopt(zmq.LINGER, 0)
                socket.subscribe(b"")
                poller.register(socket, zmq.POLLIN)
            first.connect(publisher_address)
            second.bind(relay_address)
            self.ready()
            while not self.stopping:
                for socket, _ in poller.poll():
                    if isinstance(socket, zmq.Socket):
                        frames = socket.recv_multipart()
                        with self._changed:
                            self.caught.append((frames[0], frames[-1]))
                            self._changed.notify_all()

    def take(self, frames: list[tuple[bytes, bytes]]) -> None:
        """Take some messages out of what was caught."""
        with self._changed:
            self.caught = [caught for caught in self.caught if caught not in frames]
