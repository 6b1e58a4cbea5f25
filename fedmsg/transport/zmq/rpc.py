# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests and replies over ZeroMQ: a server with bounded replies, and a client that reconnects.

A request is one frame. A reply has one or more frames. To its clients the server is a REP socket;
inside it is a ROUTER, because a REP that owes a reply to a client which has gone, or which does not
read, keeps all others waiting. A client is a DEALER: it puts an id and an empty frame before its
request, and the server repeats both before the reply.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from fedmsg._util.ratelimit import RateLimitedLog, RejectionLog
from fedmsg._util.service import Closeable, Waker
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError, TransportError
from fedmsg.transport.zmq import addresses, contexts, curve, sockets
from fedmsg.transport.zmq.connections import Connections
from fedmsg.transport.zmq.resolver import resolve

__all__ = ["Client", "Request", "Server"]

log = logging.getLogger("fedmsg.transport")

# The frames before a request are the identity of the client, perhaps an id, and an empty one.
_HEAD_FRAMES_MAX = 16
# The replies that clients have not read yet may have so many times the size of one in total.
_PENDING_REPLIES_MAX = 8
# Time before a client connects again, and before it repeats a request to a busy server: it doubles each time.
_RETRY_DELAY_MIN = 0.1
_RETRY_DELAY_MAX = 1.0
# Seconds between two looks while the connection is to be made anew.
_RECHECK = 0.1

_ids = itertools.count(1)
# Two processes may share a connection to the server; an id of one must mean nothing to the other.
_own = os.urandom(4)

#: Returns the frames of a reply; its arguments are the request, and how many bytes the reply may have.
Handler = Callable[[bytes, int], list[bytes]]


class Server(Closeable):
    """Replies to requests, for the thread that calls `serve`.

    Args:
        context: The ZeroMQ context; with CURVE one of its own, because each has a single guard.
        config: The configuration, for the options of the socket and for CURVE: where
            ``curve_subscribers`` is set, only clients whose keys are in that folder can connect.
        key: Where the address is configured, for errors.
        handle: Makes the reply to a request; it must not raise.
        reject: Makes the only frame of a reply that is an error.
        reply_max_bytes: The largest reply.

    Attributes:
        address: The address that was bound.
        counts: ``malformed`` requests that got no reply, ``dropped`` replies whose client had gone
            or did not read, ``busy`` requests that were rejected because too many replies were pending.
        last_turn: When it last looked for a request, by the monotonic clock.

    Raises:
        AddressInUse: The address is taken.
        ConfigError: It is no address, or can't be bound.
        RefusedAtStart: The keys for CURVE can't be read.
    """

    def __init__(
        self,
        context: sockets.Context,
        config: Mapping[str, Any],
        address: str,
        *,
        key: str,
        handle: Handler,
        reject: Callable[[str], bytes],
        reply_max_bytes: int,
    ) -> None:
        self._closed = True  # until there is something to close
        self._handle = handle
        self._reject = reject
        self._max_bytes = reply_max_bytes
        self._pending: list[tuple[zmq.MessageTracker, int]] = []
        self._events = RateLimitedLog(log)
        self.counts: Counter[str] = self._events.counts
        self.last_turn = time.monotonic()
        self.stopping = False
        self._generation = contexts.generation
        guarded = curve.guard_settings({**config, "curve_publishers": None})
        self._guard = curve.Guard(guarded) if guarded is not None else None
        self.socket = sockets.answerer(context, config)
        try:
            if self._guard is not None:
                self._guard.open(context, self.socket, self.socket)
            self.address = sockets.bind(self.socket, addresses.bindable(address), key)
        except BaseException:
            self._close_sockets(0)
            raise
        self._waker = Waker()
        self._poll = select.poll()
        self._poll.register(int(self.socket.FD), select.POLLIN)
        self._poll.register(self._waker, select.POLLIN)
        self._closed = False

    # ---------------------------------------------------------------- requests

    def serve(self, timeout: float) -> bool:
        """Wait for one request and reply to it; return whether there was one."""
        deadline = time.monotonic() + timeout
        while not self.stopping:
            head, request = self._receive()
            if request is not None:
                self._reply(head, request)
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # The descriptor reports news once; the socket was read until it was empty.
            self._poll.poll(int(left * 1000) + 1)
        return False

    def stop(self) -> None:
        """Make `serve` return soon; any thread and any signal handler may call it."""
        self.stopping = True
        self._waker.wake()

    def _receive(self) -> tuple[list[bytes], bytes | None]:
        """Read one request with the frames before it; the request is None when there is none."""
        while not self.stopping:
            self.last_turn = time.monotonic()
            try:
                frames = self._read_frames()
            except zmq.Again:
                break
            with contextlib.suppress(ValueError):
                end = frames.index(b"", 1) + 1
                if len(frames) == end + 1:
                    return frames[:end], frames[end]
                if end < len(frames) < _HEAD_FRAMES_MAX:
                    self._report("malformed", "a request has several frames")
                    self._send(frames[:end], lambda: [self._reject("A question has one frame")])
                    continue
            # A REQ socket sends nothing like this, and so would not understand a reply.
            self._report("malformed", "received something that is not a request")
        return [], None

    def _read_frames(self) -> list[bytes]:
        # A Frame knows whether another one follows; asking the socket takes longer than receiving.
        frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        frames = [frame.bytes]
        while frame.more:
            frame = self.socket.recv(copy=False)
            if len(frames) < _HEAD_FRAMES_MAX:
                frames.append(frame.bytes)
        return frames

    # ---------------------------------------------------------------- replies

    def _reply(self, head: list[bytes], request: bytes) -> None:
        def make() -> list[bytes]:
            frames = self._handle(request, self.reply_limit())
            if self._pending and sum(map(len, frames)) > self._room():
                self._report("busy", "too many replies are pending")
                return [self._reject("The server has too many answers under way: ask again")]
            return frames

        self._send(head, make)

    def _send(self, head: list[bytes], make: Callable[[], list[bytes]]) -> None:
        """Make a reply and send it, unless its client has gone or does not read."""
        if not self._begin(head):
            self._report("dropped", "a reply was dropped: its client has gone or does not read")
            return
        # From here on ZeroMQ waits for the rest of this message, whatever happens.
        try:
            frames = make()
        except BaseException:
            self.socket.send(self._reject("The server is stopping"))
            raise
        size = sum(map(len, frames))
        # ZeroMQ has sent all frames when it reports the last one as sent.
        last = zmq.Frame(frames[-1], track=True, copy_threshold=0)
        self.socket.send_multipart([*frames[:-1], last], copy=False)
        if last.tracker is not None and not last.tracker.done:
            self._pending.append((last.tracker, size))

    def _begin(self, head: list[bytes]) -> bool:
        """Send the first frames of a reply, which shows whether its client can take it."""
        for _ in range(2):
            try:
                self.socket.send(head[0], zmq.SNDMORE | zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno == zmq.EHOSTUNREACH:
                    return False
                if error.errno != zmq.EAGAIN:
                    raise
                # ZeroMQ may not have noticed yet that there is room again; this makes it look.
                self.socket.getsockopt(zmq.EVENTS)
            else:
                for frame in head[1:]:
                    self.socket.send(frame, zmq.SNDMORE)
                return True
        return False

    def _room(self) -> int:
        """Return how many bytes of replies may be added to those that are pending."""
        self._pending = [entry for entry in self._pending if not entry[0].done]
        return _PENDING_REPLIES_MAX * self._max_bytes - sum(size for _, size in self._pending)

    def reply_limit(self) -> int:
        """Return how many bytes the next reply may have.

        The limit falls as the room for unread replies fills up: clients that do not read can take most of it but
        never all of it, and a client that requests less still gets a reply.
        """
        return min(self._max_bytes, max(0, self._room()) // 4)

    def _report(self, kind: str, message: str) -> None:
        self._events.report(kind, f"{self.address}: {message}", self.address)

    def _close(self) -> None:
        self.stopping = True
        # What a fork has left belongs to the parent.
        if self._generation == contexts.generation:
            self._close_sockets(None)
            self._waker.close()

    def _close_sockets(self, linger: int | None) -> None:
        self.socket.close(linger)
        if self._guard is not None:
            self._guard.close()

    def check(self) -> None:
        """Check that clients can connect.

        Raises:
            FedmsgError: The guard has ended, and so no client can.
        """
        if self._guard is not None and not self._guard.alive:
            raise FedmsgError(f"stopped, because the CURVE guard has ended: {self._guard.failure!r}")


class Request:
    """One request as frames for a DEALER socket, which may be sent again, on a new connection too."""

    def __init__(self, body: bytes) -> None:
        self._id = _own + next(_ids).to_bytes(8, "big")
        self.frames = [self._id, b"", body]

    def reply(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """Return the frames of the reply; None when this is the late reply to another request."""
        if len(frames) < 3 or frames[0] != self._id or frames[1]:
            return None
        return list(frames[2:])


class Client(Closeable):
    """Sends requests to one server, for the thread that opens it.

    A connection that ends is made anew, and the request is sent again.

    Args:
        config: The configuration, for the options of the socket and for CURVE.
        key: Where the address is configured, for errors.
        curve_name: The name of the server in ``curve_servers``.
        context: The ZeroMQ context to use; that of the process when not given.

    Raises:
        ConfigError: The address can't be connected to.
        RefusedAtStart: The keys for CURVE can't be read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        address: str,
        key: str,
        curve_name: str,
        context: sockets.Context | None = None,
    ) -> None:
        self._closed = True  # until there is something to close
        addresses.check(address, key)
        self.address = address
        self._owns_context = context is None
        self._generation = contexts.generation
        self._context = context if context is not None else contexts.acquire(settings.get(config, "io_threads"))
        self._socket = sockets.asker(self._context, config)
        self._connections = Connections(self._context, self._socket, config, RejectionLog(log), key=key)
        self._closed = False
        try:
            self._connections.add(curve_name, resolve(address))
        except BaseException:
            self.close()
            raise

    def request(
        self, body: bytes, timeout: float, is_busy: Callable[[list[bytes]], bool] = lambda _: False
    ) -> list[bytes]:
        """Send a request and return the frames of its reply.

        A reply that ``is_busy`` has it sent again; when time is up and the server was busy to the end, it is returned.

        Raises:
            TransportError: There is no reply in time.
        """
        request = Request(body)
        deadline, delay = time.monotonic() + timeout, _RETRY_DELAY_MIN
        send_at: float | None = 0.0
        busy = None
        while (now := time.monotonic()) < deadline:
            self._connections.reopen(now)
            is_due = send_at is not None and now >= send_at
            if is_due and self._send(request):
                send_at, is_due = None, False
            has_ended = self._wait((deadline if send_at is None or is_due else min(deadline, send_at)) - now, is_due)
            reply = self._receive(request)
            if reply is not None:
                if not is_busy(reply):
                    return reply
                busy = reply
            if send_at is None and (reply is not None or has_ended):
                send_at = time.monotonic() + delay
                delay = min(2 * delay, _RETRY_DELAY_MAX)
        if busy is not None:
            return busy
        # It may have gone without a word: the next request has a connection of its own.
        self._connections.renew()
        raise TransportError(f"{self.address} did not answer within {timeout:g} s")

    def _wait(self, timeout: float, unsent: bool) -> bool:
        """Wait for a reply, or for an event of the connection; return whether the connection has ended.

        An ``unsent`` request can end the wait too, when it can be sent.
        """
        if self._connections.unsettled:
            timeout = min(timeout, _RECHECK)
        # Without a connection there is always room, and the monitor reports when there is one.
        wanted = zmq.POLLIN | zmq.POLLOUT if unsent and self._connections.connected else zmq.POLLIN
        descriptor = self._connections.monitor.fileno()
        zmq.zmq_poll([(self._socket, wanted), (descriptor, zmq.POLLIN)], int(max(0.0, timeout) * 1000) + 1)
        return self._connections.observe()

    def _receive(self, request: Request) -> list[bytes] | None:
        """Return the reply to a request if it has come; drop late replies to others."""
        while self._socket.poll(0):
            reply = request.reply(self._socket.recv_multipart())
            if reply is not None:
                return reply
        return None

    def _send(self, request: Request) -> bool:
        """Send a request; False as long as no connection stands."""
        # What is sent before that would be lost if what ends the attempt is not ZeroMQ.
        if not self._connections.connected:
            return False
        try:
            self._socket.send_multipart(request.frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _close(self) -> None:
        if self._generation != contexts.generation:
            return
        self._connections.close()
        self._socket.close(0)
        if self._owns_context:
            contexts.release(self._generation)
