# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a gateway listens to: one socket, connected to many endpoints.

libzmq connects again by itself when the other side goes away. Two things it does not do:
it looks names up on the thread that does all input and output, and it never comes back to
an endpoint that has once sent what is no message, or one that is too big. So names are
looked up elsewhere first, and a monitor tells of connections that have ended for good.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket as plain
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import zmq

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.exceptions import ConfigError, FedmsgError, MessageError
from fedmsg.transport.zmq import addresses, curve, sockets
from fedmsg.transport.zmq.resolver import Resolver
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Upstream"]

log = logging.getLogger("fedmsg.transport")

_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
_HANDSHAKE = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_STOPPED = int(zmq.EVENT_MONITOR_STOPPED)
_TRYING = (int(zmq.EVENT_CONNECT_DELAYED), int(zmq.EVENT_CONNECT_RETRIED), int(zmq.EVENT_CONNECTED))
_WATCHED = _DISCONNECTED | _HANDSHAKE | _STOPPED | _TRYING[0] | _TRYING[1] | _TRYING[2]
# The usual names take a millisecond; a dead name server must not keep the rest waiting.
_PATIENCE = 0.05
# How often names and ended connections are looked at while there are any, in seconds.
_LOOK_EVERY = 0.2
# When a connection that has ended for good is opened anew.
_REOPEN_AFTER = 1.0


class Upstream:
    """Connects a socket to endpoints, for as long as it lives.

    Args:
        config: The configuration, for CURVE.
        endpoints: Pairs of name and address; an address is connected once.
        own_port: A port of this machine that is not to be listened to, because what is sent
            there comes from here.

    Attributes:
        rejections: Connections that ended because of what came by them.

    Raises:
        ConfigError: Something is no address, or leads back to the own port.
        RefusedAtStart: A key for CURVE can't be read.
    """

    def __init__(
        self, config: Mapping[str, Any], endpoints: Iterable[tuple[str, str]], own_port: int | None = None
    ) -> None:
        self.rejections = RejectionLog(log)
        self._config = config
        self._names = {
            addresses.check(address, f"endpoints[{name!r}]"): name for name, address in reversed([*endpoints])
        }
        self._own_port = own_port
        for address in self._names:
            if addresses.host_to_resolve(address) is None and self._leads_back(address):
                raise ConfigError(self._loop(address))
        curve.prepare(config, self._names.values())
        # What to connect to, by address; and the address, by what a monitor calls it.
        self._targets: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._due: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._connected: set[str] = set()
        self._ended: dict[str, float] = {}
        self._opened = False

    @property
    def addresses(self) -> list[str]:
        """All addresses."""
        return [*self._names]

    @property
    def connected(self) -> list[str]:
        """Those to which a connection stands."""
        up = self._connected.copy()
        return [address for target, address in list(self._addresses.items()) if target in up]

    # ---------------------------------------------------------------- in the thread of the socket

    def open(self, context: Context, socket: Socket, interrupt: Callable[[], None]) -> None:
        """Connect to what can be connected to at once, and see to the rest.

        Args:
            context: The context of the socket.
            socket: The socket.
            interrupt: Makes the thread of the socket call `attend` soon.

        Raises:
            ConfigError: An address can't be connected to, or leads back to the own port.
        """
        name = f"inproc://fedmsg-upstream-{id(self):x}"
        socket.monitor(name, _WATCHED)
        self._resolver = Resolver(self.addresses)
        # libzmq's own thread would wait for one who reads the monitor.
        threading.Thread(
            target=self._watch, args=(context, name, interrupt), name="fedmsg-upstream", daemon=True
        ).start()
        for address, target in self._resolver.ready(_PATIENCE):
            if self._leads_back(address):
                raise ConfigError(self._loop(address))
            self._connect(socket, address, target)
        self._opened = True

    def attend(self, socket: Socket) -> None:
        """Connect to what has become due."""
        while True:
            try:
                address, target = self._due.get_nowait()
            except queue.Empty:
                return
            if address in self._targets:
                # One that has ended for good is unknown to libzmq by now.
                with contextlib.suppress(zmq.ZMQError):
                    socket.disconnect(self._targets[address])
            try:
                self._connect(socket, address, target)
            except FedmsgError as error:
                log.error("%s", error)

    def _connect(self, socket: Socket, address: str, target: str) -> None:
        self._targets[address] = target
        self._addresses[target] = address
        curve.as_client(socket, self._config, self._names[address])
        sockets.connect(socket, target, f"endpoints[{self._names[address]!r}]")

    def close(self) -> None:
        """Look for nothing more."""
        if hasattr(self, "_resolver"):
            self._resolver.stop()

    # ---------------------------------------------------------------- in a thread of its own

    def _watch(self, context: Context, name: str, interrupt: Callable[[], None]) -> None:
        with context.socket(zmq.PAIR) as monitor:
            # libzmq's own thread waits where a monitor's queue is full, so it must not be bounded.
            monitor.setsockopt(zmq.RCVHWM, 0)
            monitor.setsockopt(zmq.LINGER, 0)
            monitor.connect(name)
            with contextlib.suppress(zmq.ContextTerminated):
                while self._hear(monitor):
                    if self._opened and self._look():
                        # Once it does not answer any more, nothing has to be connected to either.
                        with contextlib.suppress(FedmsgError):
                            interrupt()

    def _hear(self, monitor: Socket) -> bool:
        """Read what there is, waiting for it a while; False at the end of the socket."""
        busy = not self._opened or self._resolver.pending or self._ended
        if not monitor.poll(int(_LOOK_EVERY * 1000) if busy else None):
            return True
        event = struct.unpack("=H", monitor.recv()[:2])[0]
        target = monitor.recv().decode(errors="replace")
        if event == _STOPPED:
            return False
        if event == _DISCONNECTED:
            self._connected.discard(target)
            self._ended[target] = time.monotonic()
        elif event == _HANDSHAKE:
            self._connected.add(target)
        else:
            self._ended.pop(target, None)
        return True

    def _look(self) -> bool:
        """Whether something has become due."""
        due = False
        for address, target in self._resolver.ready():
            if self._leads_back(address):
                log.error("%s; it is left out", self._loop(address))
            else:
                self._due.put((address, target))
                due = True
        now = time.monotonic()
        for target, when in list(self._ended.items()):
            if now - when > _REOPEN_AFTER:
                del self._ended[target]
                if target in self._addresses:
                    address = self._addresses[target]
                    self._due.put((address, target))
                    self.rejections.add(address, MessageError(_WHAT_ENDS_IT, "connection"))
                    due = True
        return due

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
        return any(_is_ours(family, target) for family, _, _, _, target in found)

    @staticmethod
    def _loop(address: str) -> str:
        return f"endpoints: {address} is where this gateway sends to: listening there it would repeat itself for ever"


_WHAT_ENDS_IT = (
    "it ended the connection with what is no ZeroMQ, or with a message above max_message_size; connecting again"
)


def _is_ours(family: int, target: Any) -> bool:
    """Whether an IP address is one of this machine; nothing is sent to find out."""
    if target[0].startswith("127.") or target[0] in {"::1", "0.0.0.0", "::"}:  # noqa: S104 compared, not bound
        return True
    try:
        with plain.socket(family, plain.SOCK_DGRAM) as probe:
            # The kernel picks the address to send from: for one of our own that address itself.
            probe.connect((target[0], 9, *target[2:]))
            return bool(probe.getsockname()[0] == target[0])
    except OSError:
        return False
