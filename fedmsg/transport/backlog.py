# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which subscribers of a bound socket have not taken what was sent to them.

ZeroMQ does not tell how much it holds for whom. It does tell, through a socket monitor,
the descriptor of each connection, and the kernel knows how much of a descriptor's data
has not been acknowledged: a subscriber whose number does not go to zero is stuck.
"""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
import threading

import zmq

from fedmsg.transport.options import Context, Socket

__all__ = ["Subscribers"]

_WATCHED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED


class Subscribers:
    """Keeps the descriptors of those who are connected to a socket, in a thread of its own.

    The news must be read as it comes: unread, it would pile up for as long as strangers
    come and go.

    Args:
        context: The context of the socket.
        socket: The bound socket, before it is bound.
    """

    def __init__(self, context: Context, socket: Socket) -> None:
        name = f"inproc://fedmsg-subscribers-{id(self):x}"
        socket.monitor(name, _WATCHED)
        self._connected: set[int] = set()
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
                self._connected.add(descriptor)
            elif event == zmq.EVENT_DISCONNECTED:
                self._connected.discard(descriptor)
            else:
                return

    def behind(self) -> int:
        """How many of those connected have not acknowledged all that the kernel holds for them."""
        count = 0
        for descriptor in list(self._connected):
            try:
                unsent = struct.unpack("=i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
            except OSError:
                continue
            count += unsent > 0
        return count

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
