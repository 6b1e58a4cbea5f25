# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a gateway listens to: one socket, connected to many endpoints.

The thread of that socket is inside ZeroMQ's proxy loop. So a thread of its own reads the events of
the socket and the results of the resolver, and interrupts the loop when there is something to connect.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket as plain
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import zmq

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import start_thread
from fedmsg.exceptions import ConfigError, FedmsgError
from fedmsg.transport.zmq import addresses, curve
from fedmsg.transport.zmq.connections import Connections
from fedmsg.transport.zmq.resolver import Resolved, Resolver
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Upstream"]

log = logging.getLogger("fedmsg.transport")

# Seconds. The usual names take a millisecond; a name server that does not answer must not delay the rest.
_FIRST_NAME_TIMEOUT = 0.05
# Seconds between two looks while names are to be found, or connections to be made anew.
_RECHECK = 0.1


class Upstream:
    """Connects a socket to endpoints, for as long as it lives.

    Args:
        config: The configuration, for CURVE.
        endpoints: Pairs of name and address; an address is connected once.
        own_port: A port of this machine that is not to be listened to, because what is sent
            there comes from here.

    Raises:
        ConfigError: Something is no address, or leads back to the own port.
        RefusedAtStart: A key for CURVE can't be read.
    """

    def __init__(
        self, config: Mapping[str, Any], endpoints: Iterable[tuple[str, str]], own_port: int | None = None
    ) -> None:
        self.rejections = RejectionLog(log)
        self._config = config
        self._names = addresses.by_address(endpoints)
        self._own_port = own_port
        for address in self._names:
            if addresses.host_to_resolve(address) is None and self._leads_back(address):
                raise ConfigError(self._loop(address))
        curve.prepare(config, self._names.values())
        self._resolved: queue.SimpleQueue[Resolved] = queue.SimpleQueue()
        self._connections: Connections | None = None
        self._resolver: Resolver | None = None

    @property
    def addresses(self) -> list[str]:
        """All addresses."""
        return [*self._names]

    @property
    def connected(self) -> list[str]:
        """The addresses to which there is a connection."""
        return [] if self._connections is None else self._connections.connected

    # ---------------------------------------------------------------- in the thread of the socket

    def open(self, context: Context, socket: Socket, interrupt: Callable[[], None]) -> None:
        """Connect to what can be connected to at once, and start the thread that watches the rest.

        Where that has something to do, ``interrupt`` makes the thread of the socket call `attend` soon.

        Raises:
            ConfigError: No address can be connected to, or one leads back to the own port.
        """
        connections = self._connections = Connections(context, socket, self._config, self.rejections)
        resolver = self._resolver = Resolver(self.addresses)
        try:
            self._connect_first(connections, resolver)
        except BaseException:
            connections.close()
            raise
        start_thread(lambda: self._watch(connections, resolver, interrupt), "fedmsg-upstream")

    def _connect_first(self, connections: Connections, resolver: Resolver) -> None:
        failed: list[ConfigError] = []
        for resolved in resolver.ready(_FIRST_NAME_TIMEOUT):
            if self._leads_back(resolved.address):
                raise ConfigError(self._loop(resolved.address))
            try:
                connections.add(self._names[resolved.address], resolved)
            except ConfigError as error:
                log.error("%s; this address is ignored", error)
                failed.append(error)
        if failed and len(failed) == len(self._names):
            raise failed[0]

    def attend(self, socket: Socket) -> None:  # noqa: ARG002 - the one of `open`
        """Connect to what has become due."""
        assert self._connections is not None
        while True:
            try:
                resolved = self._resolved.get_nowait()
            except queue.Empty:
                break
            try:
                self._connections.add(self._names[resolved.address], resolved)
            except FedmsgError as error:
                log.error("%s", error)
        self._connections.reopen(time.monotonic())

    def close(self) -> None:
        """Stop looking for names."""
        if self._resolver is not None:
            self._resolver.stop()

    # ---------------------------------------------------------------- in a thread of its own

    def _watch(self, connections: Connections, resolver: Resolver, interrupt: Callable[[], None]) -> None:
        with contextlib.suppress(zmq.ContextTerminated):
            while not connections.monitor.stopped:
                connections.monitor.wait(_RECHECK if resolver.pending or connections.unsettled else None)
                connections.observe()
                if self._take_resolved(resolver) or connections.has_due(time.monotonic()):
                    # A loop that no longer answers has nothing to connect to either.
                    with contextlib.suppress(FedmsgError):
                        interrupt()
        connections.close()

    def _take_resolved(self, resolver: Resolver) -> bool:
        """Put what was resolved since into the queue; whether there was something."""
        found = False
        for resolved in resolver.ready():
            if self._leads_back(resolved.address):
                log.error("%s; this address is ignored", self._loop(resolved.address))
            else:
                self._resolved.put(resolved)
                found = True
        return found

    # ---------------------------------------------------------------- loops

    def _leads_back(self, address: str) -> bool:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not address.startswith("tcp://") or port != str(self._own_port):
            return False
        if host == "*":
            return True
        try:
            found = plain.getaddrinfo(host.strip("[]"), None, type=plain.SOCK_DGRAM)
        except OSError:
            return False
        return any(_is_own(family, target) for family, _, _, _, target in found)

    @staticmethod
    def _loop(address: str) -> str:
        return f"endpoints: {address} is where this gateway sends to: listening there it would repeat itself for ever"


def _is_own(family: int, target: Any) -> bool:
    """Return whether an IP address is one of this machine; nothing is sent to find out."""
    if target[0].startswith("127.") or target[0] in {"::1", "0.0.0.0", "::"}:  # noqa: S104 compared, not bound
        return True
    try:
        with plain.socket(family, plain.SOCK_DGRAM) as probe:
            # The kernel picks the address to send from: for one of our own that address itself.
            probe.connect((target[0], 9, *target[2:]))
            return bool(probe.getsockname()[0] == target[0])
    except OSError:
        return False
