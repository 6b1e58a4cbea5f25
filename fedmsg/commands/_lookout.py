# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watches whether a message comes by, for a command that has sent it and wants to be sure."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import zmq

from fedmsg import _wire
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.transport.zmq import contexts, curve, sockets

__all__ = ["Lookout"]


class Lookout:
    """Subscribes to one topic, in the thread that opens it.

    Args:
        config: The configuration.
        name: The name of the addresses in ``endpoints``.
        addresses: Where to listen; it is enough when one of them answers.
        topic: The topic to look for.

    Raises:
        ConfigError: One is no address to connect to.
        RefusedAtStart: A CURVE key can't be read.
    """

    def __init__(self, config: Mapping[str, Any], name: str, addresses: Sequence[str], topic: str) -> None:
        self._closed = True
        self._context = contexts.acquire(settings.get(config, "io_threads"))
        self._generation = contexts.generation
        self._socket = sockets.subscriber(self._context, config)
        self._closed = False
        # Asked for before anything can happen.
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            self._socket.subscribe(topic.encode())
            curve.as_client(self._socket, config, name)
            for address in addresses:
                sockets.connect(self._socket, address, f"endpoints[{name!r}]")
        except BaseException:
            self.close()
            raise

    def wait_connected(self, timeout: float) -> bool:
        """Wait for a connection; whether there is one.

        Args:
            timeout: Seconds to wait at most.
        """
        return bool(self._monitor.poll(int(timeout * 1000)))

    def wait_for(self, fits: Callable[[dict[str, Any]], bool], timeout: float) -> bool:
        """Wait for a message; whether it came.

        Args:
            fits: Says of an envelope whether it is the one.
            timeout: Seconds to wait at most.
        """
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0 and self._socket.poll(max(1, int(left * 1000))):
            frames = self._socket.recv_multipart()
            try:
                if len(frames) == 2 and fits(_wire.parse(*frames)):
                    return True
            except MessageError:
                continue  # somebody else's
        return False

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        if self._closed or self._generation != contexts.generation:
            return
        self._closed = True
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        contexts.release(self._generation)

    def __enter__(self) -> Lookout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()
