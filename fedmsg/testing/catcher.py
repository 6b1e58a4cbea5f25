# SPDX-License-Identifier: LGPL-2.1-or-later
"""Catches what a program under test publishes: a subscriber with a thread of its own."""

from __future__ import annotations

import os
import threading

import zmq

__all__ = ["Catcher"]

# How soon it is there when the address that it connects to is bound, in milliseconds.
_RECONNECT = 5


class Catcher:
    """Listens at two addresses, and keeps what comes.

    Args:
        outlet: An address that publishers bind.
        inlet: An address to bind for publishers that connect, as a relay does.
        news: Notified whenever something has come.

    Attributes:
        caught: The topics and bodies that came, both unread.
        failure: What has ended it before its time.
    """

    def __init__(self, outlet: str, inlet: str, news: threading.Condition) -> None:
        self.caught: list[tuple[bytes, bytes]] = []
        self.failure: BaseException | None = None
        self._news = news
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(
            target=self._run, args=(outlet, inlet), name="fedmsg-testing-catcher", daemon=True
        )
        self._thread.start()

    def _run(self, outlet: str, inlet: str) -> None:
        try:
            with zmq.Context() as context, context.socket(zmq.SUB) as first, context.socket(zmq.SUB) as second:
                poller = zmq.Poller()
                poller.register(self._bell, zmq.POLLIN)
                for socket in (first, second):
                    socket.setsockopt(zmq.RCVHWM, 0)
                    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
                    socket.setsockopt(zmq.LINGER, 0)
                    socket.subscribe(b"")
                    poller.register(socket, zmq.POLLIN)
                first.connect(outlet)
                second.bind(inlet)
                self._listen(poller)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, who raises it
            with self._news:
                self.failure = error
                self._news.notify_all()

    def _listen(self, poller: zmq.Poller) -> None:
        while True:
            for socket, _ in poller.poll():
                if socket == self._bell:
                    return
                assert isinstance(socket, zmq.Socket)
                frames = socket.recv_multipart()
                with self._news:
                    self.caught.append((frames[0], frames[-1]))
                    self._news.notify_all()

    def take(self, frames: list[tuple[bytes, bytes]]) -> None:
        """Take some messages out of what was caught."""
        with self._news:
            self.caught = [caught for caught in self.caught if caught not in frames]

    def close(self) -> None:
        """Listen no more; a second call does nothing."""
        if self._bell < 0:
            return
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        os.close(self._bell)
        self._bell = -1
