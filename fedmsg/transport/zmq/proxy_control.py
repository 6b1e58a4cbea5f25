# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control of a forwarding loop while it runs, be it libzmq's or ours.

libzmq's steerable proxy listens to a socket of its own: it answers ``STATISTICS``, stands
still after ``PAUSE`` and returns after ``TERMINATE``. Our own loop does the same, so that its
owner need not know which of them runs.
"""

from __future__ import annotations

import contextlib
import struct
import threading

import zmq

from fedmsg.exceptions import FedmsgError, TransportError
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["MESSAGE_INCREMENT", "Counts", "LoopEnd", "ProxyControl"]

_ADDRESS = "inproc://fedmsg-control"
# A pair of sockets and no REQ with its REP: not every release of libzmq answers what is no question.
_REPLY_TIMEOUT_MS = 1000
_REPLY_FRAMES = 8

#: By how much the count of a loop grows with one message: since 4.3.5 libzmq counts its two frames.
MESSAGE_INCREMENT = 2 if zmq.zmq_version_info() >= (4, 3, 5) else 1

#: Messages in, by ``MESSAGE_INCREMENT`` each; bytes in; messages out; bytes out.
Counts = list[int]


class ProxyControl:
    """The end of the owner of the loop; any thread may use it.

    Attributes:
        stopping: Whether the loop has to end for good.
    """

    def __init__(self, context: Context) -> None:
        self.stopping = False
        self._lock = threading.Lock()
        # What loops before the present one have counted.
        self._carried: Counts = [0, 0, 0, 0]
        self._socket = context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, _REPLY_TIMEOUT_MS)
        self._socket.setsockopt(zmq.SNDTIMEO, _REPLY_TIMEOUT_MS)
        self._socket.bind(_ADDRESS)

    def counts(self) -> Counts:
        """Return what has been passed on since the start.

        Raises:
            TransportError: There is no loop any more.
            FedmsgError: It does not answer.
        """
        with self._lock:
            return self._sum(self._ask())

    def interrupt(self) -> None:
        """Make the loop return, so that its thread can use the sockets; the counts stay right.

        Raises:
            TransportError: There is no loop any more.
            FedmsgError: It does not answer.
        """
        with self._lock:
            if not self.stopping:
                self._carried = self._sum(self._ask(b"PAUSE"))
                self._terminate()

    def stop(self) -> None:
        """Make the loop return for good."""
        with self._lock:
            self.stopping = True
            if not self._socket.closed:
                self._terminate()

    def _terminate(self) -> None:
        # A loop that has ended by itself does not read it.
        with contextlib.suppress(zmq.Again):
            self._socket.send(b"TERMINATE")

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        with self._lock:
            self._socket.close(0)

    def _ask(self, *before: bytes) -> Counts:
        """Return the counts of the present loop."""
        if self._socket.closed:
            raise TransportError("the forwarder is not running")
        try:
            # An answer that came too late is not one to the next question.
            while self._socket.poll(0):
                self._socket.recv_multipart()
            for word in (*before, b"STATISTICS"):
                self._socket.send(word)
            frames: list[bytes] = []
            while len(frames) != _REPLY_FRAMES:
                frames = self._socket.recv_multipart()
        except zmq.ZMQError as error:
            raise FedmsgError(f"the forwarding loop does not answer: {error.strerror}") from error
        numbers = [struct.unpack("=Q", frame)[0] for frame in frames]
        return [*numbers[:2], *numbers[6:]]

    def _sum(self, counts: Counts) -> Counts:
        return [old + new for old, new in zip(self._carried, counts, strict=True)]


class LoopEnd:
    """The loop's end: a socket for libzmq's proxy, and what our own loop does with it.

    Attributes:
        counts: What our own loop has counted; each run begins at zero, as libzmq's does.
    """

    def __init__(self, context: Context) -> None:
        self.counts: Counts = [0, 0, 0, 0]
        self.socket: Socket = context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(_ADDRESS)

    def must_return(self) -> bool:
        """Answer the questions that have come; whether the loop has to return."""
        paused = False
        while paused or self.socket.poll(0):
            word = self.socket.recv()
            if word == b"TERMINATE":
                self.counts = [0, 0, 0, 0]
                return True
            if word == b"STATISTICS":
                inwards, outwards = self.counts[:2], self.counts[2:]
                self.socket.send_multipart([struct.pack("=Q", n) for n in (*inwards, 0, 0, 0, 0, *outwards)])
            paused = paused or word == b"PAUSE"
        return False
