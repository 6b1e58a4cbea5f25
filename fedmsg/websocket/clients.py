# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clients of the WebSocket server: who is admitted, what they send and get, and the limits of both."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, NamedTuple

from websockets.asyncio.server import ServerConnection, broadcast

from fedmsg import encoding
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.exceptions import MessageError
from fedmsg.filters import MessageFilter

__all__ = ["Client", "Clients", "Filtered", "Limits", "read", "write"]

# The buffers of all clients are added up again after so many bytes more.
_TOTAL_CHECK_BYTES = 1024 * 1024


class Limits(NamedTuple):
    """What clients may do.

    Attributes:
        clients: How many may be connected.
        handshakes: How many connections may be in the handshake at a time.
        frame: How many bytes one frame of a client may have.
        topics: How many subscriptions a client may have.
        topic: How many characters the topic of a subscription may have.
        rejected: After how many frames that had to be ignored a client is disconnected.
        buffer_bytes: How many bytes wait for one client; a slower one is disconnected.
        buffer_bytes_total: How many bytes wait for all clients; then the slowest is disconnected.
        queue: How many messages of the hub wait for the server; then the oldest are dropped.
        queue_bytes: The same in bytes.
        handshake: After how many seconds the handshake must be done; a client that has not sent
            anything of use for so long makes room for a new one.
        ping: How often a client is pinged, and how long it has for the answer, in seconds.
    """

    clients: int = 1000
    handshakes: int = 50
    frame: int = 8192
    topics: int = 100
    topic: int = 512
    rejected: int = 100
    buffer_bytes: int = 16 * 1024 * 1024
    buffer_bytes_total: int = 128 * 1024 * 1024
    queue: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024
    handshake: float = 10.0
    ping: float = 20.0


class _QuietTransport:
    """A transport that drops what is written after the connection is lost.

    asyncio logs a line for each write then, and a client can make thousands: one for each of its pings.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Write to the connection, unless it is closing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Filtered(NamedTuple):
    """A subscription of a client to the messages that a filter selects."""

    client: Client
    wanted: MessageFilter


class Client(ServerConnection):
    """A connection: first in its handshake, then a client.

    Attributes:
        clients: The clients of the server; set in a subclass for each server.
        address: The address of the other side.
        name: Address and port, for the log.
        rejected: How many of its frames had to be ignored.
        active: Whether it has sent something of use.
        filtered: Its subscriptions that have a filter.
    """

    clients: ClassVar[Clients]
    address = "?"
    name = "?"
    rejected = 0
    active = False

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.filtered: list[Filtered] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        super().connection_made(_QuietTransport(transport))  # type: ignore[arg-type] # has all that is used
        peer = self.transport.get_extra_info("peername")
        if peer:
            self.address, self.name = str(peer[0]), f"{peer[0]}:{peer[1]}"
        self.since = time.monotonic()
        self.clients.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection off."""
        self.clients.lost(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Stop reading while the client does not read: each of its pings would make an answer that waits."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        super().resume_writing()
        self.transport.resume_reading()

    @property
    def buffered(self) -> int:
        """How many bytes wait for the client."""
        return self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """End the connection at once."""
        self.transport.abort()


class Clients:
    """All connections of a server, and the limits of how many there are and what waits for them."""

    def __init__(self, limits: Limits, log: RateLimitedLog) -> None:
        self._limits = limits
        self._log = log
        # Both in the order of their connection.
        self._handshakes: dict[Client, None] = {}
        self._admitted: dict[Client, None] = {}
        self._unchecked_bytes = 0

    def __len__(self) -> int:
        return len(self._admitted)

    def connected(self, client: Client) -> None:
        """Count a new connection; when there are too many handshakes, the oldest of the busiest address is cut."""
        self._handshakes[client] = None
        if len(self._handshakes) > self._limits.handshakes:
            address = _busiest(self._handshakes)
            oldest = next(one for one in self._handshakes if one.address == address)
            self._log.report("crowd", f"a connection of {oldest.name} was cut: there are too many handshakes", address)
            self._end(oldest)

    def admit(self, client: Client) -> bool:
        """Return whether a connection in its handshake may become a client."""
        if len(self._admitted) < self._limits.clients or self._make_room(client.address):
            return True
        self._log.report("crowd", f"a client was rejected: {len(self._admitted)} clients are the limit", client.address)
        return False

    def _make_room(self, address: str) -> bool:
        """Disconnect a client in favour of a new one: an idle one, or one of the busiest address."""
        deadline = time.monotonic() - self._limits.handshake
        idle = next((one for one in self._admitted if not one.active and one.since <= deadline), None)
        if idle is not None:
            self._log.report("idle", f"the client {idle.name} is cut: it is idle, and another needs its place")
            self._end(idle)
            return True
        counts = Counter(one.address for one in self._admitted)
        busiest = _busiest(self._admitted)
        if counts[busiest] <= counts[address] + 1:
            return False
        youngest = next(one for one in reversed(self._admitted) if one.address == busiest)
        self._log.report("share", f"the client {youngest.name} is cut: its address has {counts[busiest]} clients")
        self._end(youngest)
        return True

    def opened(self, client: Client) -> None:
        """Count a connection as a client, after its handshake."""
        self._handshakes.pop(client, None)
        self._admitted[client] = None

    def lost(self, client: Client) -> None:
        """Count off a connection."""
        self._handshakes.pop(client, None)
        self._admitted.pop(client, None)

    def _end(self, client: Client) -> None:
        self.lost(client)
        client.cut()

    def cut_handshakes(self) -> None:
        """End the connections that are in their handshake."""
        for client in list(self._handshakes):
            client.cut()

    def cut_all(self) -> None:
        """End all connections."""
        for client in [*self._handshakes, *self._admitted]:
            client.cut()

    def send(self, recipients: Iterable[Client], text: str) -> None:
        """Send a text to some clients; those for which too much waits already are disconnected."""
        ready = []
        for client in recipients:
            if client.buffered > self._limits.buffer_bytes:
                self._log.report("slow", f"the client {client.name} is cut: it is too slow", client.address)
                self._end(client)
            else:
                ready.append(client)
        broadcast(ready, text)
        self._unchecked_bytes += len(text) * len(ready)
        if self._unchecked_bytes >= _TOTAL_CHECK_BYTES:
            self._unchecked_bytes = 0
            self._check_total()

    def _check_total(self) -> None:
        buffered = {client: client.buffered for client in self._admitted}
        total = sum(buffered.values())
        while total > self._limits.buffer_bytes_total:
            slowest = max(buffered, key=buffered.__getitem__)
            total -= buffered.pop(slowest)
            self._log.report("memory", f"the client {slowest.name} is cut: too much waits for all clients")
            self._end(slowest)


def _busiest(clients: Collection[Client]) -> str:
    """Return the address that most of some clients have."""
    return Counter(client.address for client in clients).most_common(1)[0][0]


def read(frame: str | bytes) -> tuple[str, Any]:
    """Return topic and body of what a client has sent.

    Raises:
        MessageError: It is something else.
    """
    if isinstance(frame, bytes):
        raise MessageError("it is binary", "frame")
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise MessageError("it is not JSON", "frame") from error
    if not isinstance(message, dict) or not isinstance(message.get("topic"), str) or "body" not in message:
        raise MessageError("it has no topic and body", "frame")
    return message["topic"], message["body"]


def write(topic: str, envelope: dict[str, Any]) -> str:
    """Return a message as clients get it; what JSON does not have, such as NaN, becomes null: browsers reject it."""
    text = encoding.dumps({"topic": topic, "body": envelope})
    if "NaN" in text or "Infinity" in text:
        return encoding.dumps({"topic": topic, "body": _finite(envelope)})
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
