# SPDX-License-Identifier: LGPL-2.1-or-later
"""The confirmed port of a relay: publishers send messages there, and get an answer when they are on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fedmsg import _wire
from fedmsg._util.ratelimit import RateLimitedLog, RejectionLog
from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.stream import port, protocol
from fedmsg.stream.port import Full, Gone, Port
from fedmsg.stream.protocol import Malformed, Message
from fedmsg.stream.records import Incoming
from fedmsg.transport.zmq import sockets
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["Check", "ConfirmedPort", "Submission"]

log = logging.getLogger("fedmsg.stream")

#: How many clients there may be.
CLIENTS_MAX = 4000
#: How many relays a message may have passed.
VIA_MAX = 100
# Milliseconds for which answers that were sent may still be on their way when the port is closed.
_LINGER_MS = 500
# Seconds between two looks at clients that are silent.
_TICK = 0.5

#: Takes the two frames and returns the body that is stored, or raises MessageError.
Check = Callable[[bytes, bytes], bytes]


class Submission(NamedTuple):
    """A message that a client wants to have confirmed, under its id for it."""

    identity: bytes
    id: bytes
    incoming: Incoming


class _Client:
    __slots__ = ("heard", "many", "peer", "pinged")

    def __init__(self, peer: str, now: float, *, many: bool) -> None:
        self.peer = peer
        # Whether it takes many answers in one.
        self.many = many
        self.heard = self.pinged = now


class ConfirmedPort(Closeable):
    """The port, for the thread that opens it.

    Nothing is queued here: what is not read yet waits in the queues of ZeroMQ, which are bounded for each
    client, and then at the client.

    Args:
        config: The configuration, for the options of the socket and for CURVE (``curve_publishers``).
        addresses: The addresses to bind, all of them.
        stream: The id of the stream.
        span: Returns the oldest and the newest position.
        rejections: Where rejected messages are counted.
        check: Looks at the two frames and returns the body that is stored; raises MessageError for what is to
            be rejected.
        clients_max: How many clients there may be.

    Attributes:
        addresses: What was bound.
        counts: ``malformed`` messages of clients; ``clients`` that were turned away; ``silent`` ones that were
            disconnected; ``dropped`` answers, whose clients had gone or did not read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        addresses: Sequence[str],
        *,
        stream: str,
        span: Callable[[], tuple[int, int]],
        rejections: RejectionLog,
        check: Check | None = None,
        clients_max: int = CLIENTS_MAX,
    ) -> None:
        self._closed = True  # until there is something to close
        self._stream = stream
        self._span = span
        self._check = check
        self._rejections = rejections
        self._clients_max = clients_max
        self._max_size: int = settings.get(config, "max_message_size")
        self._events = RateLimitedLog(log)
        self.counts = self._events.counts
        self._clients: dict[bytes, _Client] = {}
        self._next_tick = 0.0
        self._port = Port(
            config, addresses, key="relay_confirmed", admit="curve_publishers", make=sockets.confirmed_port
        )
        self._closed = False
        self.addresses = self._port.addresses

    @property
    def socket(self) -> Socket:
        """The socket, to be polled."""
        return self._port.socket

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    # ---------------------------------------------------------------- messages

    def receive(self, limit: int, size: int) -> list[Submission]:
        """Return what clients have sent, without waiting, and answer what needs no storing.

        Args:
            limit: How many messages to read at most.
            size: After so many bytes of topics and bodies no more is read.
        """
        found: list[Submission] = []
        now = time.monotonic()
        while limit > 0 and size > 0 and (came := self._port.receive()) is not None:
            limit -= 1
            size -= sum(map(len, came.frames))
            try:
                before = len(found)
                self._handle(came, now, found)
                limit -= max(0, len(found) - before - 1)
            except Malformed as error:
                self._events.report("malformed", f"rejected a message of a client at {came.peer}: {error}")
            if not self._port.has_more:
                break
        return found

    def _handle(self, came: port.Incoming, now: float, found: list[Submission]) -> None:
        message = protocol.decode(came.frames)
        if message is None:
            return
        identity = came.identity
        client = self._clients.get(identity)
        if message.kind == protocol.HELLO:
            many = message.fields[0].get("many") is True
            self._greet(identity, _Client(came.peer, now, many=many))
        elif client is None:
            if message.kind in {protocol.PUB, protocol.PUBS}:
                self._reject(identity, _id_of(message), protocol.CODE_HELLO, "begin with HELLO", retry=True)
        else:
            client.heard = now
            if message.kind == protocol.PUBS:
                for id_, topic, body in protocol.decode_pubs(*message.fields):
                    self._take(identity, client, id_, {}, topic, body, found)
            elif message.kind == protocol.PUB:
                _, options, topic, body = message.fields
                self._take(identity, client, _id_of(message), options, topic, body, found)
            elif message.kind == protocol.PING:
                self._send(identity, protocol.PONG)

    def _greet(self, identity: bytes, client: _Client) -> None:
        if identity not in self._clients and len(self._clients) >= self._clients_max:
            self._events.report(
                "clients", f"turned away a client at {client.peer}: there are {self._clients_max} already"
            )
            self._send(identity, protocol.NO, {"code": protocol.CODE_BUSY, "reason": "there are too many clients"})
            return
        self._clients[identity] = client
        first, newest = self._span()
        welcome = {"stream": self._stream, "first": first, "newest": newest, "heartbeat": protocol.HEARTBEAT}
        self._send(identity, protocol.WELCOME, {**welcome, "max_message_size": self._max_size, "many": True})

    def _take(  # noqa: PLR0917 - for each message
        self,
        identity: bytes,
        client: _Client,
        id_: bytes,
        options: Mapping[str, Any],
        topic: bytes,
        body: bytes,
        found: list[Submission],
    ) -> None:
        """Add what is to be stored; what is not is answered."""
        try:
            via = _via_of(options)
            if self._stream in via:
                self._confirm(identity, id_, 0)
                return
            _wire.check_topic(topic)
            _wire.check_size(len(topic) + len(body), self._max_size)
            if self._check is not None:
                body = self._check(topic, body)
        except MessageError as error:
            self._rejections.add(client.peer or ", ".join(self.addresses), error)
            self._reject(identity, id_, protocol.CODE_REJECTED, str(error), retry=False)
        else:
            found.append(Submission(identity, id_, Incoming(topic, body, via, options.get("again") is True)))

    # ---------------------------------------------------------------- answers

    def confirm(self, answers: Iterable[tuple[Submission, int]]) -> None:
        """Inform clients that their messages are on disk, and at which positions."""
        many: dict[bytes, list[tuple[bytes, int]]] = {}
        for (identity, id_, _), position in answers:
            client = self._clients.get(identity)
            if client is not None and client.many and len(id_) == protocol.NUMBER_BYTES:
                many.setdefault(identity, []).append((id_, position))
            else:
                self._confirm(identity, id_, position)
        for identity, mine in many.items():
            for start in range(0, len(mine), protocol.MANY_MAX):
                self._send_frames(identity, protocol.encode_oks(mine[start : start + protocol.MANY_MAX]))

    def _confirm(self, identity: bytes, id_: bytes, position: int) -> None:
        self._send_frames(identity, [protocol.VERSION, protocol.OK, id_, protocol.number(position)])

    def _reject(self, identity: bytes, id_: bytes, code: str, reason: str, *, retry: bool) -> None:
        self._send(identity, protocol.NO, id_, {"code": code, "reason": reason, "retry": retry})

    def _send(self, identity: bytes, kind: bytes, *fields: Any) -> None:
        self._send_frames(identity, protocol.encode(kind, *fields))

    def _send_frames(self, identity: bytes, frames: list[bytes]) -> None:
        try:
            self._port.send(identity, frames)
        except Gone:
            # Another connection of it will ask again.
            self._clients.pop(identity, None)
            self.counts["dropped"] += 1
        except Full:
            self.counts["dropped"] += 1

    @property
    def is_due(self) -> bool:
        """Whether it is time for a `tick`."""
        return time.monotonic() >= self._next_tick

    def tick(self) -> None:
        """Send signs of life.

        Raises:
            FedmsgError: No client can connect any more.
        """
        now = time.monotonic()
        self._next_tick = now + _TICK
        self._port.check()
        for identity, client in list(self._clients.items()):
            if now - client.pinged >= protocol.HEARTBEAT:
                client.pinged = now
                self._send(identity, protocol.PING)

    def forget_silent(self) -> None:
        """Forget the clients that have sent nothing for too long; not to be called while nothing is read."""
        limit = time.monotonic() - protocol.SILENCE_MAX
        for identity, client in list(self._clients.items()):
            if client.heard < limit:
                self._events.report("silent", f"disconnected a client at {client.peer}: it is silent", client.peer)
                del self._clients[identity]

    def _close(self) -> None:
        # The last answers are on their way.
        self._port.socket.close(_LINGER_MS)
        self._port.close()


def _id_of(message: Message) -> bytes:
    """Return the id of a message; of many, that of the first one."""
    id_: bytes = message.fields[0][: protocol.NUMBER_BYTES] if message.kind == protocol.PUBS else message.fields[0]
    if len(id_) > protocol.ID_BYTES_MAX:
        raise Malformed("the id of a message is too long")
    return id_


def _via_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    via = options.get("via")
    if via is None:
        return ()
    if not isinstance(via, list) or len(via) > VIA_MAX:
        raise Malformed("via is no list of streams, or too long")
    if not all(isinstance(one, str) and protocol.is_stream(one) for one in via):
        raise Malformed("via has what is no id of a stream")
    return tuple(via)
