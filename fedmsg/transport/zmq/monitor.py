# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the events of a ZeroMQ socket: connections that are made, lost, or ended for good.

::

    monitor = Monitor(context, socket, HANDSHAKE_SUCCEEDED | DISCONNECTED)   # before bind or connect
    selector.register(monitor, selectors.EVENT_READ)      # it has a fileno()
    for event in monitor.read():                          # what there is, without waiting
        if event.kind == HANDSHAKE_SUCCEEDED: ...         # event.value, event.address
    monitor.wait(0.5)                                     # whether there is something to read
    monitor.close()                                       # in the thread of the socket

A monitor is read by one thread, which need not be that of the socket. It must be read as long as
others connect: unread events stay in memory. `STOPPED` always comes last, after the socket was
closed and has sent what it held.
"""

from __future__ import annotations

import itertools
import struct
from typing import NamedTuple

import zmq

from fedmsg._util.service import Closeable

__all__ = [
    "ACCEPTED",
    "CONNECTED",
    "DISCONNECTED",
    "HANDSHAKE_FAILED",
    "HANDSHAKE_SUCCEEDED",
    "STOPPED",
    "Event",
    "Monitor",
]

# Plain numbers: pyzmq looks an enum member up again for each call.
#: A bound socket has a new connection; `Event.value` is its descriptor.
ACCEPTED = int(zmq.EVENT_ACCEPTED)
#: A connection to a bound socket stands; `Event.value` is its descriptor.
CONNECTED = int(zmq.EVENT_CONNECTED)
#: A connection has ended; `Event.value` is the descriptor that it had.
DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
#: Both sides have agreed: messages can flow.
HANDSHAKE_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
#: The other side is no ZeroMQ socket of a fitting kind, or a key is unknown; `Event.kind` is one of these bits.
HANDSHAKE_FAILED = (
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    | int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    | int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
)
#: The socket is closed; no event follows.
STOPPED = int(zmq.EVENT_MONITOR_STOPPED)

#: How many events `Monitor.read` returns at once, so that a flood of connections does not hold up its thread.
READ_LIMIT = 100

_EVENT = struct.Struct("=HI")
_NOBLOCK = int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)
_EVENTS = int(zmq.EVENTS)
_RCVMORE = int(zmq.RCVMORE)

_numbers = itertools.count()


class Event(NamedTuple):
    """What happened to a socket.

    Attributes:
        kind: One of the constants of this module; test with ``&`` where a constant has several bits.
        value: A descriptor or an error number, depending on the kind.
        address: The endpoint, as ZeroMQ writes it.
    """

    kind: int
    value: int
    address: str


class Monitor(Closeable):
    """The events of one socket.

    Args:
        socket: The socket, before it is bound or connected.
        events: The events that are wanted, combined with ``|``; `STOPPED` is added.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], events: int) -> None:
        self._closed = True  # until there is something to close
        self._socket = socket
        self.stopped = False
        address = f"inproc://fedmsg-monitor-{next(_numbers)}"
        socket.monitor(address, events | STOPPED)
        self._reader = context.socket(zmq.PAIR)
        self._closed = False
        self._reader.setsockopt(zmq.LINGER, 0)
        # ZeroMQ's I/O thread waits where the queue of a monitor is full, so it must not be bounded.
        self._reader.setsockopt(zmq.RCVHWM, 0)
        self._reader.connect(address)
        self._descriptor = int(self._reader.FD)
        # Its descriptor reports only what comes after the last look.
        self._reader.get(_EVENTS)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable with new events.

        It reports each change once: `read` until it returns nothing before waiting again.
        """
        return self._descriptor

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is an event to read; whether there is."""
        return bool(self._reader.poll(None if timeout is None else int(timeout * 1000)))

    def read(self, limit: int = READ_LIMIT) -> list[Event]:
        """Return the events that have come, without waiting; none after `close`.

        An exception of a signal handler in the middle loses one event at most.
        """
        found: list[Event] = []
        if self._closed:
            return found
        reader = self._reader
        # Asking first costs a tenth of the exception that an empty socket raises.
        while len(found) < limit and int(reader.get(_EVENTS)) & _POLLIN:
            first = reader.recv(_NOBLOCK)
            if not reader.get(_RCVMORE):
                continue  # the second frame of an event whose reading was interrupted
            kind, value = _EVENT.unpack(first)
            found.append(Event(kind, value, reader.recv(_NOBLOCK).decode(errors="replace")))
            self.stopped = self.stopped or kind == STOPPED
        return found

    def _close(self) -> None:
        # Without a reader, ZeroMQ's I/O thread would wait for one at the next event.
        if not self._socket.closed and not self.stopped:
            self._socket.disable_monitor()
        self._reader.close(0)
