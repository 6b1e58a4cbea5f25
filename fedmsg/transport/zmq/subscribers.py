# SPDX-License-Identifier: LGPL-2.1-or-later
"""The subscribers of a bound socket: how many there are, and which have not taken what was sent to them.

ZeroMQ does not report how much it holds for each subscriber. A socket monitor reports the descriptor of
each connection, and the kernel knows how much of a descriptor's data has not been
acknowledged: a subscriber whose number does not go to zero is stuck.

The number of subscribers is remembered over an orderly restart, in a small file in the folder that
systemd keeps for the service (``$RUNTIME_DIRECTORY``), or in ``state_directory``; without a folder
nothing is remembered.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import socket as plain
import struct
import termios
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import zmq

from fedmsg._util import files
from fedmsg._util.service import ServiceThread
from fedmsg.transport.zmq import monitor
from fedmsg.transport.zmq.monitor import Event, Monitor
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Stuck", "Subscribers", "remember", "remembered"]

log = logging.getLogger("fedmsg.transport")

# In the kernel's struct tcp_info: the bytes that the other side has acknowledged.
_ACKED_FORMAT, _ACKED_OFFSET = "=Q", 120
# A broken file, or one of another program, must not take up memory.
_FILE_MAX_BYTES = 4096


class Stuck(NamedTuple):
    """A connection whose send queue does not move.

    Attributes:
        address: The other end, as ``host:port``.
        unsent: How many bytes the kernel holds for it.
        seconds: For how long it has taken none of them.
    """

    address: str
    unsent: int
    seconds: float


class _Connection:
    """One subscriber, as the kernel sees it."""

    def __init__(self, descriptor: int, now: float) -> None:
        self.moved = now
        self.unsent = 0
        self._acked = -1
        self._descriptor = descriptor
        try:
            with self._socket() as connection:
                self.address = _host_and_port(connection)
        except OSError:
            self.address = "a connection that has ended"

    def _socket(self) -> plain.socket:
        return plain.socket(fileno=os.dup(self._descriptor))

    def waiting(self) -> int:
        """Return how many bytes it has not acknowledged; 0 when the connection is gone."""
        try:
            number: int = struct.unpack("=i", fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)))[0]
        except OSError:
            return 0
        return number

    def look(self, now: float) -> None:
        """Find out whether it has taken anything since the last look."""
        unsent = self.waiting()
        # As a rule nothing waits, and nothing more has to be asked.
        acked = self._acknowledged() if unsent else self._acked
        # Without TCP only the amount shows it.
        if not unsent or acked != self._acked or (acked < 0 and unsent != self.unsent):
            self.moved = now
        self.unsent, self._acked = unsent, acked

    def _acknowledged(self) -> int:
        """Return how many bytes the other side has acknowledged; -1 where that can't be known."""
        try:
            with self._socket() as connection:
                info = connection.getsockopt(plain.IPPROTO_TCP, plain.TCP_INFO, _ACKED_OFFSET + 8)
            return int(struct.unpack_from(_ACKED_FORMAT, info, _ACKED_OFFSET)[0])
        except (OSError, struct.error):
            return -1


def _host_and_port(connection: plain.socket) -> str:
    name = connection.getpeername()
    if not isinstance(name, tuple):
        return "a local program"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Subscribers(ServiceThread):
    """Follows the connections of a bound socket in a thread: their number, their handshakes, their descriptors.

    The events must be read as they come: unread, they would fill the memory while clients connect and
    disconnect.

    Attributes:
        handshakes: How many connections have been made since the start.
        last_handshake: When the last one was made (`time.monotonic`).
    """

    def __init__(self, context: Context) -> None:
        super().__init__("fedmsg-subscribers")
        self.handshakes = 0
        self.last_handshake = time.monotonic()
        self._connected: dict[int, _Connection] = {}
        self._context = context

    def watch(self, socket: Socket) -> None:
        """Start to read the events of a socket."""
        self._monitor = Monitor(
            self._context, socket, monitor.ACCEPTED | monitor.HANDSHAKE_SUCCEEDED | monitor.DISCONNECTED
        )
        try:
            self.start()
        except BaseException:
            self._monitor.close()
            raise

    def run(self) -> None:
        """Read the events until the socket is closed."""
        self.ready()
        # A socket that could not be bound ends with its context, at once.
        with self._monitor, contextlib.suppress(zmq.ContextTerminated):
            while not self._monitor.stopped:
                self._monitor.wait()
                for event in self._monitor.read():
                    self._note(event)

    def _note(self, event: Event) -> None:
        if event.kind == monitor.ACCEPTED:
            self._connected[event.value] = _Connection(event.value, time.monotonic())
        elif event.kind == monitor.HANDSHAKE_SUCCEEDED:
            self.handshakes += 1
            self.last_handshake = time.monotonic()
        elif event.kind == monitor.DISCONNECTED:
            self._connected.pop(event.value, None)

    def count(self) -> int:
        """Return how many there are."""
        return len(self._connected)

    def look(self) -> None:
        """Find out which have taken anything since the last look."""
        now = time.monotonic()
        for one in list(self._connected.values()):
            one.look(now)

    def stuck(self, least: float) -> list[Stuck]:
        """Return those that have taken nothing, the longest first."""
        now = time.monotonic()
        found = [Stuck(one.address, one.unsent, now - one.moved) for one in list(self._connected.values())]
        return sorted((one for one in found if one.seconds >= least), key=lambda one: -one.seconds)

    def behind(self) -> int:
        """Return how many have not acknowledged all that the kernel holds for them."""
        return sum(one.waiting() > 0 for one in list(self._connected.values()))

    def flush(self, socket: Socket, timeout: float) -> int:
        """Close the socket and wait until it has sent everything; return how many subscribers had not taken it."""
        socket.close(int(timeout * 1000))
        behind = 0
        if not self.join(max(0.0, timeout - 0.1)):
            behind = self.behind()
            self.join(0.6)
        return behind


# ---------------------------------------------------------------- over a restart


def _path(config: Mapping[str, Any], address: str) -> str:
    """Return the file for an address; empty where there is no folder."""
    folder = (
        # systemd lists all folders of a unit; the first will do.
        os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        or config.get("state_directory")
        or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    )
    # The address in the file decides; the name only has to differ between the daemons of a folder.
    name = re.sub(r"[^\w.]+", "-", address)[-100:]
    return os.path.join(folder, f"subscribers-{name}.json") if folder else ""


def remembered(config: Mapping[str, Any], address: str) -> int:
    """Return how many subscribers an address had at the last orderly stop; 0 when that is not known."""
    path = _path(config, address)
    if not path:
        return 0
    try:
        known = json.loads(files.read_trusted(path, _FILE_MAX_BYTES))
        count = known["subscribers"] if known["address"] == address else 0
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.warning("%s can't be read, so the start waits for no former subscribers: %s", path, error)
        return 0
    return count if isinstance(count, int) else 0


def remember(config: Mapping[str, Any], address: str, count: int) -> None:
    """Write down how many subscribers an address has."""
    path = _path(config, address)
    if path:
        try:
            files.replace(path, json.dumps({"address": address, "subscribers": count}).encode(), durable=False)
        except OSError as error:
            log.warning("%s can't be written, the next start waits for no subscribers: %s", path, error.strerror)
