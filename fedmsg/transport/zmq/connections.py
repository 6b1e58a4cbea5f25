# SPDX-License-Identifier: LGPL-2.1-or-later
"""The connections of one receiving socket to its endpoints.

ZeroMQ makes a lost connection again by itself, with one exception: after a protocol error (data
that is not ZeroMQ, a socket of the wrong type, a message above ``ZMQ_MAXMSGSIZE``) it never comes
back to that endpoint. Here the events of the socket are read, and such an endpoint is connected anew.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import zmq

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError, MessageError
from fedmsg.transport.zmq import curve, monitor, sockets
from fedmsg.transport.zmq.monitor import Event, Monitor
from fedmsg.transport.zmq.resolver import Resolved
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Connections", "Endpoint"]

log = logging.getLogger("fedmsg.transport")

_EVENTS = (
    monitor.CONNECTED | monitor.HANDSHAKE_SUCCEEDED | monitor.DISCONNECTED | int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
)
_FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
# Seconds. After an error in the handshake it is certain that ZeroMQ has given up. After any other end it
# has at least five attempts of its own first.
_REOPEN_AFTER_ERROR = 0.1
_REOPEN_AFTER_END = 1.0
# An endpoint that answers so soon was there all the time: ZeroMQ had given up.
_AT_ONCE = 0.05
_NEVER = float("inf")

_REASON = "it ended the connection with what is no ZeroMQ, or with a message above max_message_size; connecting again"


class Endpoint:
    """One endpoint of a socket.

    Attributes:
        name: Its name in ``endpoints``.
        address: Its address as it is configured.
        label: Both.
    """

    __slots__ = ("_resolved", "address", "connected", "failed", "label", "name", "reopen_at", "reopened")

    def __init__(self, name: str, resolved: Resolved) -> None:
        self._resolved = resolved
        self.name = name
        self.address = resolved.address
        self.label = name, resolved.address
        self.connected = False
        self.failed = False
        self.reopen_at = _NEVER
        self.reopened = -_NEVER

    @property
    def target(self) -> str:
        """What is connected to."""
        return self._resolved.target


class Connections(Closeable):
    """Connects a socket to endpoints, and keeps it connected.

    `observe` belongs to the thread that reads the monitor; the rest to the thread of the socket.

    Args:
        rejections: Where connections are counted that ended because of what came by them.
        key: Where the only address is configured, for errors; by default ``endpoints`` and the name.

    Attributes:
        by_descriptor: The endpoint of each connection, by its descriptor.
    """

    def __init__(
        self,
        context: Context,
        socket: Socket,
        config: Mapping[str, Any],
        rejections: RejectionLog,
        *,
        key: str = "",
    ) -> None:
        self._closed = True  # until there is something to close
        self.by_descriptor: dict[int, Endpoint] = {}
        self._socket = socket
        self._config = config
        self._rejections = rejections
        self._key = key
        self._endpoints: list[Endpoint] = []
        self._by_target: dict[str, Endpoint] = {}
        self._ended: set[Endpoint] = set()
        # An administrator can turn reconnecting off.
        self._reopens = settings.get(config, "zmq_reconnect_ivl") > 0
        self.monitor = Monitor(context, socket, _EVENTS)
        self._closed = False

    def add(self, name: str, resolved: Resolved) -> Endpoint:
        """Connect to one more endpoint.

        Raises:
            ConfigError: It can't be connected to.
            RefusedAtStart: A key for CURVE can't be read.
        """
        endpoint = Endpoint(name, resolved)
        # Known before the first event can come.
        self._endpoints.append(endpoint)
        for alias in (resolved.target, *resolved.aliases):
            self._by_target.setdefault(alias, endpoint)
        ended = self._disconnect_ended()
        try:
            self._connect(endpoint)
        except BaseException:
            self._endpoints.remove(endpoint)
            raise
        finally:
            for one in ended:
                self._reconnect(one, time.monotonic())
        return endpoint

    def _connect(self, endpoint: Endpoint) -> None:
        curve.as_client(self._socket, self._config, endpoint.name)
        sockets.attach(self._socket, endpoint.target, self._key or f"endpoints[{endpoint.name!r}]")

    @property
    def connected(self) -> list[str]:
        """The addresses to which a connection stands."""
        return [endpoint.address for endpoint in list(self._endpoints) if endpoint.connected]

    @property
    def unsettled(self) -> bool:
        """Whether a connection has ended, so that `reopen` is to be called soon."""
        return bool(self._ended)

    def observe(self) -> bool:
        """Read what has happened to the connections; whether one has ended."""
        ended = False
        while events := self.monitor.read():
            for event in events:
                ended = ended or event.kind == monitor.DISCONNECTED
                endpoint = self._by_target.get(event.address)
                if endpoint is None and len(self._endpoints) == 1:
                    # Its name has got another number since.
                    endpoint = self._endpoints[0]
                if endpoint is not None:
                    self._note(event, endpoint)
        return ended

    def _note(self, event: Event, endpoint: Endpoint) -> None:
        if event.kind == monitor.CONNECTED:
            self.by_descriptor[event.value] = endpoint
            self._ended.discard(endpoint)
            if time.monotonic() - endpoint.reopened < _AT_ONCE:
                endpoint.reopened = -_NEVER
                self._rejections.add(endpoint.address, MessageError(_REASON, "connection"))
        elif event.kind == monitor.HANDSHAKE_SUCCEEDED:
            endpoint.connected = True
        elif event.kind == _FAILED:
            endpoint.failed = True
        elif event.kind == monitor.DISCONNECTED:
            endpoint.connected = False
            if self._reopens:
                after = _REOPEN_AFTER_ERROR if endpoint.failed else _REOPEN_AFTER_END
                endpoint.reopen_at = time.monotonic() + after
                self._ended.add(endpoint)

    def has_due(self, now: float) -> bool:
        """Return whether it is time to connect an endpoint again."""
        return any(endpoint.reopen_at <= now for endpoint in list(self._ended))

    def reopen(self, now: float) -> bool:
        """Connect anew where ZeroMQ does not.

        Return whether the socket was used, so that its descriptor may not report what has arrived until now.
        """
        if not self.has_due(now):
            return False
        ended = self._disconnect_ended()
        for endpoint in ended:
            self._reconnect(endpoint, now)
        return True

    def renew(self) -> None:
        """Close the connections there are, and make new ones."""
        now = time.monotonic()
        for endpoint in self._endpoints:
            endpoint.connected, endpoint.reopen_at = False, now
            self._ended.add(endpoint)
        self.reopen(now)

    def _disconnect_ended(self) -> list[Endpoint]:
        """Disconnect what has ended, all of it, before anything is connected; return it.

        ZeroMQ keeps the address of a connection's object after it has given that connection up. A new
        object can get the same address, and would be closed by the disconnect that is meant for the old one.
        """
        # Where ZeroMQ still tries by itself, unread messages would go with the old connection.
        unread = bool(self._ended) and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN
        ended = [endpoint for endpoint in list(self._ended) if endpoint.failed or not unread]
        for endpoint in ended:
            self._ended.discard(endpoint)
            # One that has ended for good may be unknown to ZeroMQ by now.
            with contextlib.suppress(zmq.ZMQError):
                self._socket.disconnect(endpoint.target)
        return ended

    def _reconnect(self, endpoint: Endpoint, now: float) -> None:
        if endpoint.failed:
            self._rejections.add(endpoint.address, MessageError(_REASON, "connection"))
            endpoint.failed = False
        elif endpoint.reopen_at <= now:
            endpoint.reopened = now
        try:
            self._connect(endpoint)
        except FedmsgError as error:
            log.error("%s", error)

    def _close(self) -> None:
        self.monitor.close()
