# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection of a client to a stream port: its socket, and whether the other side is alive."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from typing import Any

import zmq

from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.stream import protocol
from fedmsg.transport.zmq import curve, monitor, sockets
from fedmsg.transport.zmq.monitor import Monitor

__all__ = ["Ended", "Session", "curve_name"]

_NOBLOCK = int(zmq.NOBLOCK)
_FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_RETRIED = int(zmq.EVENT_CONNECT_RETRIED)
_EVENTS = monitor.HANDSHAKE_SUCCEEDED | monitor.DISCONNECTED | _FAILED | _RETRIED
# Seconds until the relay has to have answered to HELLO.
_WELCOME_TIMEOUT = 4.0
# Seconds to wait for a connection, where there is another address and where there is none.
_CONNECT_TIMEOUT_SHORT = 1.0
_CONNECT_TIMEOUT = 10.0


class Ended(Exception):
    """The connection has ended, or there was none."""


def curve_name(config: Mapping[str, Any]) -> str:
    """Return under which name ``curve_servers`` has the key of the stream port."""
    return "relay_stream" if (config.get("curve_servers") or {}).get("relay_stream") else "relay_outbound"


class Session(Closeable):
    """A connection to one address; for the thread that opens it.

    Args:
        context: The ZeroMQ context.
        config: The configuration, for the options of the socket and for CURVE.
        address: The address.
        client: The random id of the client.
        is_one_of_several: Whether an attempt that fails is the last.
        waker: Ends a wait.

    Attributes:
        is_welcome: Whether the relay has answered; set by the owner.
        pings: How many signs of life were sent that the relay answers.

    Raises:
        ConfigError: The address can't be connected to.
        RefusedAtStart: A key for CURVE can't be read.
    """

    def __init__(
        self,
        context: sockets.Context,
        config: Mapping[str, Any],
        address: str,
        *,
        client: str,
        is_one_of_several: bool,
        waker: Any,
    ) -> None:
        self._closed = True  # until there is something to close
        self.address = address
        self.is_welcome = False
        self.pings = 0
        self._client = client
        self._max_message_size: int = settings.get(config, "max_message_size")
        self._is_one_attempt = is_one_of_several
        self._is_connected = self._has_heard = self._has_sent = False
        self._heard = self._pinged = time.monotonic()
        self._deadline = self._heard + (_CONNECT_TIMEOUT_SHORT if is_one_of_several else _CONNECT_TIMEOUT)
        self._socket = sockets.stream_client(context, config)
        self._monitor = Monitor(context, self._socket, _EVENTS)
        self._closed = False
        try:
            curve.as_client(self._socket, config, curve_name(config))
            sockets.connect(self._socket, address, "relay_stream")
        except BaseException:
            self.close()
            raise
        self._poll = select.poll()
        for descriptor in (int(self._socket.FD), self._monitor.fileno(), waker.fileno()):
            self._poll.register(descriptor, select.POLLIN)

    def send(self, kind: bytes, *fields: Any) -> None:
        """Send a message.

        Raises:
            Ended: There is no connection, or the relay does not read.
        """
        try:
            self._socket.send_multipart(protocol.encode(kind, *fields), zmq.NOBLOCK)
        except zmq.Again:
            raise Ended(f"the connection to {self.address} has ended") from None
        self._has_sent = True

    def ping(self) -> None:
        """Send what the relay answers when it has read all that was sent before.

        Raises:
            Ended: There is no connection, or the relay does not read.
        """
        self.send(protocol.PING)
        self.pings += 1

    def receive(self) -> list[bytes] | None:
        """Return the frames of one message; None when there is none.

        Raises:
            Ended: The connection has ended in the middle of it.
        """
        receive = self._socket.recv
        # A Frame knows whether another one follows; asking the socket takes longer than receiving.
        try:
            frame = receive(_NOBLOCK, copy=False)
        except zmq.Again:
            return None
        self._has_heard = True
        frames = [frame.bytes]
        while frame.more:
            try:
                frame = receive(_NOBLOCK, copy=False)
            except zmq.Again:
                # With a connection that ends, what was received by it goes, too.
                raise Ended(f"the connection to {self.address} has ended") from None
            if len(frames) <= protocol.FRAMES_MAX:
                frames.append(frame.bytes)
        return frames

    def look(self) -> None:
        """Look at the connection, and send a sign of life when it is due.

        Raises:
            Ended: It has ended, or the other side is silent.
        """
        now = time.monotonic()
        if self._has_heard:
            self._has_heard = False
            self._heard = now
        for event in self._monitor.read():
            self._note(event.kind, now)
        if not self.is_welcome:
            if now > self._deadline:
                raise Ended(f"the relay at {self.address} does not answer")
        elif now - self._heard > protocol.SILENCE_MAX:
            raise Ended(f"the relay at {self.address} is silent")
        elif now - self._pinged >= protocol.HEARTBEAT:
            self._pinged = now
            self.ping()

    def _note(self, event: int, now: float) -> None:
        if event == monitor.HANDSHAKE_SUCCEEDED:
            self._is_connected = True
            self._heard = self._pinged = now
            self._deadline = now + _WELCOME_TIMEOUT
            self.send(
                protocol.HELLO, {"client": self._client, "many": True, "max_message_size": self._max_message_size}
            )
        elif event == _FAILED:
            raise Ended(f"what is at {self.address} is no relay")
        elif self._is_connected and event == monitor.DISCONNECTED:
            raise Ended(f"the connection to {self.address} has ended")
        elif event == _RETRIED and self._is_one_attempt:
            raise Ended(f"there is no relay at {self.address}")

    def wait(self, timeout: float) -> None:
        """Wait until something comes, the waker is woken, or a sign of life is due; it may return earlier."""
        if self._has_sent:
            # Sending may have taken in what the descriptor would have reported.
            self._has_sent = False
            return
        self._poll.poll(1000 * min(timeout, protocol.HEARTBEAT / 2) + 1)

    def _close(self) -> None:
        self._monitor.close()
        # Long enough for a last ACK, where there is a connection.
        self._socket.close(1000 if self._is_connected else 0)
