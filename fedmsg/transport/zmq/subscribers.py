# SPDX-License-Identifier: LGPL-2.1-or-later
"""The subscribers of a bound socket: how many there are, and which have not taken what was sent to them.

ZeroMQ does not tell how much it holds for whom. It does tell, through a socket monitor,
the descriptor of each connection, and the kernel knows how much of a descriptor's data
has not been acknowledged: a subscriber whose number does not go to zero is stuck.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket as plain
import struct
import termios
import threading
import time
from typing import NamedTuple

import zmq

from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Stuck", "Subscribers"]

_WATCHED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED

# In the kernel's struct tcp_info: the bytes that the other side has acknowledged, and has sent.
_ACKED_AND_RECEIVED, _OFFSET = "=QQ", 120
# The longest handshake of a subscriber, in bytes. Who has said more has subscribed to something.
_HANDSHAKE = {int(zmq.NULL): 92, int(zmq.CURVE): 552}
# After so many seconds who can't be asked that (ipc://) counts as one that has subscribed.
_GRACE = 0.1


class Stuck(NamedTuple):
    """A connection whose send queue does not move.

    Attributes:
        address: Who is at the other end, as ``host:port``.
        unsent: How many bytes the kernel holds for it.
        seconds: For how long it has taken none of them.
    """

    address: str
    unsent: int
    seconds: float


class _Connection:
    """One subscriber, as the kernel sees it."""

    def __init__(self, descriptor: int, now: float) -> None:
        self.since = self.moved = now
        self.unsent = 0
        self._acked = -1
        self._subscribed = False
        self._descriptor = descriptor
        try:
            with self._socket() as connection:
                self.address = _shown(connection)
        except OSError:
            self.address = "a connection that has ended"

    def _socket(self) -> plain.socket:
        return plain.socket(fileno=os.dup(self._descriptor))

    def _asked(self, request: int) -> int:
        number: int = struct.unpack("=i", fcntl.ioctl(self._descriptor, request, bytes(4)))[0]
        return number

    def waiting(self) -> int:
        """How many bytes it has not acknowledged; 0 when the connection is gone."""
        try:
            return self._asked(termios.TIOCOUTQ)
        except OSError:
            return 0

    def look(self, now: float) -> None:
        """Find out whether it has taken anything since the last look."""
        unsent = self.waiting()
        # As a rule nothing waits, and nothing more has to be asked.
        acked = self._tcp()[0] if unsent else self._acked
        # Without TCP there is only the amount to tell by.
        if not unsent or acked != self._acked or (acked < 0 and unsent != self.unsent):
            self.moved = now
        self.unsent, self._acked = unsent, acked

    def has_subscribed(self, mechanism: int, now: float) -> bool:
        """Whether it has said more than a handshake takes, and ZeroMQ has read that."""
        # Asked again and again for many; what is so once stays so.
        if not self._subscribed:
            received = self._tcp()[1]
            if received < 0 or mechanism not in _HANDSHAKE:
                self._subscribed = now - self.since > _GRACE
            else:
                with contextlib.suppress(OSError):
                    self._subscribed = received - self._asked(termios.FIONREAD) > _HANDSHAKE[mechanism]
        return self._subscribed

    def _tcp(self) -> tuple[int, int]:
        """What the other side has acknowledged and sent, in bytes; -1 where that can't be known."""
        try:
            with self._socket() as connection:
                info = connection.getsockopt(plain.IPPROTO_TCP, plain.TCP_INFO, _OFFSET + 16)
            acked, received = struct.unpack_from(_ACKED_AND_RECEIVED, info, _OFFSET)
        except (OSError, struct.error):
            return -1, -1
        return int(acked), int(received)


def _shown(connection: plain.socket) -> str:
    name = connection.getpeername()
    if not isinstance(name, tuple):
        return "a local program"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Subscribers:
    """Keeps the descriptors of those who are connected to a socket, in a thread of its own.

    The news must be read as it comes: unread, it would pile up for as long as strangers
    come and go.

    Args:
        context: The context of the socket.
        socket: The bound socket, before it is bound.

    Attributes:
        mechanism: The socket's ``ZMQ_MECHANISM``, once it is set.
    """

    def __init__(self, context: Context, socket: Socket) -> None:
        self.mechanism = int(zmq.NULL)
        name = f"inproc://fedmsg-subscribers-{id(self):x}"
        socket.monitor(name, _WATCHED)
        self._connected: dict[int, _Connection] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(context, name), name="fedmsg-subscribers", daemon=True)
        self._thread.start()

    def _run(self, context: Context, name: str) -> None:
        with context.socket(zmq.PAIR) as monitor:
            # libzmq's own thread waits where a monitor's queue is full, so it must not be bounded.
            monitor.setsockopt(zmq.RCVHWM, 0)
            monitor.setsockopt(zmq.LINGER, 0)
            monitor.connect(name)
            # A socket that could not be bound goes with its context, at once.
            with contextlib.suppress(zmq.ContextTerminated):
                self._listen(monitor)
        self._ended.set()

    def _listen(self, monitor: Socket) -> None:
        while True:
            event, descriptor = struct.unpack("=Hi", monitor.recv())
            monitor.recv()
            if event == zmq.EVENT_ACCEPTED:
                self._connected[descriptor] = _Connection(descriptor, time.monotonic())
            elif event == zmq.EVENT_DISCONNECTED:
                self._connected.pop(descriptor, None)
            else:
                return

    def subscribed(self) -> int:
        """How many have subscribed to something."""
        now = time.monotonic()
        return sum(one.has_subscribed(self.mechanism, now) for one in list(self._connected.values()))

    def look(self) -> None:
        """See who has moved since the last look."""
        now = time.monotonic()
        for one in list(self._connected.values()):
            one.look(now)

    def stuck(self, least: float) -> list[Stuck]:
        """Give those who have taken nothing, the longest first.

        Args:
            least: For how many seconds at least.
        """
        now = time.monotonic()
        found = [Stuck(one.address, one.unsent, now - one.moved) for one in list(self._connected.values())]
        return sorted((one for one in found if one.seconds >= least), key=lambda one: -one.seconds)

    def behind(self) -> int:
        """How many of those connected have not acknowledged all that the kernel holds for them."""
        return sum(one.waiting() > 0 for one in list(self._connected.values()))

    def flush(self, socket: Socket, timeout: float) -> int:
        """Close the socket and wait until it has sent everything.

        Args:
            socket: The socket whose subscribers these are.
            timeout: Seconds to wait at most.

        Returns:
            How many subscribers had not taken everything when time was up.
        """
        socket.close(int(timeout * 1000))
        behind = 0
        if not self._ended.wait(max(0.0, timeout - 0.1)):
            behind = self.behind()
            self._ended.wait(0.6)
        return behind
