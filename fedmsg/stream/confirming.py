# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread that sends messages to the confirmed port of a relay, in order, and takes the answers.

It is connected to one relay at a time. When that one ends, is silent, or confirms nothing in its share of the
time, the thread goes on with the next one: first it sends there again, in the order of the calls, what was not
confirmed yet. A relay that has stored such a message already does not store or pass it on again.

Messages come from callers, or from a `Feed`, which begins again with each connection.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import zmq

from fedmsg import encoding
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import Closeable, ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError
from fedmsg.stream import protocol
from fedmsg.stream.protocol import Malformed, Message
from fedmsg.transport.pending import Pending
from fedmsg.transport.zmq import contexts, curve, monitor, sockets
from fedmsg.transport.zmq.sockets import Context

__all__ = ["KEY", "Confirming", "Feed", "curve_name"]

log = logging.getLogger("fedmsg.stream")

#: Where the addresses are configured.
KEY = "relay_confirmed"

# Seconds before the first relay is tried again, after all have been tried; they double each time.
_RETRY_MIN = 0.05
_RETRY_MAX = 0.8
# The share that a relay has of the time of a message is never less than so many seconds.
_SHARE_MIN = 0.1
# Seconds between two looks at a connection that is quiet.
_TICK = 0.5
# Plain numbers: pyzmq looks an enum member up again for each call.
_POLLIN, _POLLOUT, _SNDMORE, _NOBLOCK = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.SNDMORE), int(zmq.NOBLOCK)
# A connection that could not be made, or has ended; the next one is ours to make.
_ENDED = monitor.DISCONNECTED | monitor.HANDSHAKE_FAILED | int(zmq.EVENT_CONNECT_RETRIED) | int(zmq.EVENT_CLOSED)
_EMPTY_OPTIONS = b"{}"


def curve_name(config: Mapping[str, Any]) -> str:
    """Return the name under which ``curve_servers`` has the key of the relay."""
    return KEY if (config.get("curve_servers") or {}).get(KEY) else "relay_inbound"


class Feed(Protocol):
    """Has messages for a relay, without callers that wait for them; called by the thread alone."""

    def opened(self, relay: Mapping[str, Any]) -> float:
        """Begin: a relay has answered with these options. 0, or for how many seconds to leave it."""

    def more(self, room: int) -> list[Pending]:
        """Return what is to be sent next, at most so many, and look at what was settled; called again and again."""

    @property
    def waits(self) -> bool:
        """Whether it has more at once."""

    def closed(self, reason: str) -> None:
        """End: what is not settled yet is forgotten. It is called after a failed attempt to connect, too."""


class _Link(Closeable):
    """One connection to one relay.

    Attributes:
        address: The address.
        is_open: Whether the relay has answered.
        many: How many bytes of topics and bodies it takes in one; 0 where it takes single messages.
        heard: When it was heard last, by the monotonic clock.
        spoke: When something was sent last.
    """

    def __init__(self, context: Context, config: Mapping[str, Any], address: str) -> None:
        self._closed = True  # until there is something to close
        self.address = address
        self.is_open, self.many = False, 0
        self.heard = self.spoke = time.monotonic()
        self.socket = sockets.confirmed_client(context, config)
        self.monitor = monitor.Monitor(context, self.socket, _ENDED)
        self._closed = False
        try:
            curve.as_client(self.socket, config, curve_name(config))
            sockets.connect(self.socket, address, KEY)
            self.send(protocol.encode(protocol.HELLO, {"client": os.urandom(16).hex(), "many": True}))
        except BaseException:
            self.close()
            raise

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message; False when there is no room for it now."""
        try:
            for frame in frames[:-1]:
                self.socket.send(frame, _SNDMORE | _NOBLOCK)
        except zmq.Again:
            return False
        # After the first frame ZeroMQ takes the rest, whatever happens.
        self.socket.send(frames[-1])
        self.spoke = time.monotonic()
        return True

    @property
    def has_more(self) -> bool:
        """Whether there is a message; to find out by reading that there is none costs more."""
        return bool(int(self.socket.getsockopt(zmq.EVENTS)) & _POLLIN)

    def has_ended(self) -> bool:
        """Return whether it can't be used any more."""
        ended = False
        while events := self.monitor.read():
            ended = ended or any(event.kind & _ENDED for event in events)
        return ended

    def _close(self) -> None:
        self.monitor.close()
        self.socket.close(0)


class Confirming(ServiceThread):
    """The thread; callers hand messages over by `put`.

    Args:
        config: The configuration.
        relays: The addresses of relays, in the order in which they are tried.
        feed: Has messages in place of callers.

    Attributes:
        counts: ``confirmed``, ``rejected`` and ``resent`` messages; ``connections``.
        address: The relay in use, or the next one.
    """

    def __init__(self, config: Mapping[str, Any], relays: Sequence[str], feed: Feed | None = None) -> None:
        super().__init__("fedmsg-confirm")
        self._feed = feed
        self._config = config
        self._relays = list(relays)
        self._window: int = settings.get(config, "publish_window")
        self._at = 0
        self._link: _Link | None = None
        self._retry_at = self._next_purge = 0.0
        self._retry_delay = _RETRY_MIN
        # Since when the relay has owed an answer without giving any.
        self._owed_since: float | None = None
        self._queue: deque[Pending] = deque()
        self._sleeping = False
        self._in_flight: dict[int, Pending] = {}
        self._events = RateLimitedLog(log)
        self.counts: Counter[str] = Counter()

    # ---------------------------------------------------------------- for callers

    def put(self, pending: Pending) -> None:
        """Have a message sent; any thread may call it, and a signal handler."""
        self._queue.append(pending)
        self.notify()

    def notify(self) -> None:
        """Have the thread look for messages; any thread may call it."""
        # To wake a thread that is awake would cost more than all the rest of this.
        if self._sleeping:
            self.waker.wake()

    @property
    def address(self) -> str:
        """The relay in use, or the next one."""
        return self._relays[self._at]

    # ---------------------------------------------------------------- the thread

    def run(self) -> None:
        """Send until it is stopped."""
        generation = contexts.generation
        self._context = contexts.acquire(settings.get(self._config, "io_threads"))
        try:
            self.ready()
            while not self.stopping:
                ready = self._wait()
                self._turn(time.monotonic(), ready)
        finally:
            self._disconnect()
            contexts.release(generation)
            if self._feed is not None:
                self._feed.closed("")
            # Who still waits for a confirm gets none.
            for one in [*self._in_flight.values(), *self._queue]:
                if not one.is_settled:
                    one.settle(None)

    def _wait(self) -> Collection[object]:
        """Wait; return on which sockets and descriptors there are news."""
        # Set before the last look at the queue: what comes after that look wakes this thread.
        self._sleeping = True
        ready: Collection[object] = ()
        link, waker = self._link, self.waker
        if link is None:
            delay = max(0.0, self._retry_at - time.monotonic()) if self._wants_link else None
            waker.wait(delay)
        else:
            wants = _POLLIN | (_POLLOUT if self._can_send() else 0)
            timeout = min(_TICK, self._share() / 4) if self._has_limit(link) else _TICK
            if link.is_open and self._feed is not None and self._room > 0 and self._feed.waits:
                timeout = 0.0
            polled: list[Any] = [(link.socket, wants), (link.monitor.fileno(), _POLLIN), (waker.fileno(), _POLLIN)]
            ready = {one for one, _ in zmq.zmq_poll(polled, int(timeout * 1000) + 1)}
            if waker.fileno() in ready:
                waker.clear()
        self._sleeping = False
        return ready

    @property
    def _wants_link(self) -> bool:
        return self._feed is not None or bool(self._queue)

    @property
    def _room(self) -> int:
        return self._window - len(self._in_flight) - len(self._queue)

    def _can_send(self) -> bool:
        link = self._link
        return link is not None and link.is_open and bool(self._queue) and len(self._in_flight) < self._window

    def _turn(self, now: float, ready: Collection[object]) -> None:
        link = self._link
        if link is None:
            self._drop_abandoned()
            if self._wants_link and now >= self._retry_at:
                self._connect()
            return
        if link.socket in ready:
            self._receive(link)
        if self._link is None:
            return
        if link.monitor.fileno() in ready and link.has_ended():
            self._next("it has ended the connection" if link.is_open else "there is no relay")
            return
        self._check(link, now)
        if self._link is not None:
            if link.is_open and self._feed is not None:
                self._queue.extend(self._feed.more(self._room))
            self._send(link)

    def _check(self, link: _Link, now: float) -> None:
        """Leave a relay that does not answer; send a sign of life to one that does."""
        if now - link.heard > protocol.SILENCE_MAX:
            self._next("it is silent")
            return
        if link.is_open and now - link.spoke >= protocol.HEARTBEAT:
            link.send(protocol.encode(protocol.PING))
        if now >= self._next_purge:
            self._next_purge = now + _TICK
            # Their callers wait no longer.
            for number in [number for number, one in self._in_flight.items() if one.is_settled]:
                del self._in_flight[number]
        self._drop_abandoned()
        if not self._in_flight and not self._queue and (link.is_open or self._feed is None):
            self._owed_since = None
        elif self._owed_since is None:
            self._owed_since = now
        elif self._has_limit(link) and now - self._owed_since >= self._share():
            self._next("it does not answer")

    def _drop_abandoned(self) -> None:
        while self._queue and self._queue[0].is_settled:
            self._queue.popleft()

    def _has_limit(self, link: _Link) -> bool:
        """Return whether a relay has to answer in its share of the time: there is another one, or it never did."""
        return self._owed_since is not None and (len(self._relays) > 1 or not link.is_open)

    def _share(self) -> float:
        """Return how many seconds one relay has to answer."""
        oldest = next(iter(self._in_flight.values()), None) or (self._queue[0] if self._queue else None)
        timeout: float = settings.get(self._config, "timeout") if oldest is None else oldest.timeout
        return max(_SHARE_MIN, timeout / len(self._relays))

    # ---------------------------------------------------------------- connections

    def _connect(self) -> None:
        try:
            self._link = _Link(self._context, self._config, self.address)
        except FedmsgError as error:
            self._events.report("connection", str(error), self.address)
            if self._feed is not None:
                self._feed.closed(str(error))
            self._move_on()
        else:
            self._owed_since = time.monotonic()
            self.counts["connections"] += 1

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _next(self, reason: str) -> None:
        """Leave this relay, and go on with the next one; what is not confirmed will be sent again."""
        if self._feed is not None:
            # It comes again from there.
            self._queue.clear()
            self._in_flight.clear()
            self._feed.closed(reason)
        if self._in_flight:
            self._events.report("left", f"{self.address}: {reason}; sending again what it has not confirmed")
        self._disconnect()
        again = [one for one in self._in_flight.values() if not one.is_settled]
        self._in_flight.clear()
        for one in again:
            one.again = True
        self.counts["resent"] += len(again)
        self._queue.extendleft(reversed(again))
        self._owed_since = None
        self._move_on()

    def _move_on(self) -> None:
        self._at = (self._at + 1) % len(self._relays)
        if self._at == 0:
            self._retry_at = time.monotonic() + self._retry_delay
            self._retry_delay = min(2 * self._retry_delay, _RETRY_MAX)

    # ---------------------------------------------------------------- messages

    def _send(self, link: _Link) -> None:
        while self._can_send():
            group = self._group(link)
            if not group:
                continue
            if not link.send(_frames(group, is_many=bool(link.many))):
                self._queue.extendleft(reversed(group))
                return
            if self._owed_since is None:
                self._owed_since = link.spoke
            for one in group:
                self._in_flight[one.number] = one

    def _group(self, link: _Link) -> list[Pending]:
        """Take the next messages that are sent as one; none, where no caller waits for one any more."""
        queue, size = self._queue, 0
        group: list[Pending] = []
        room = min(protocol.fit_into(link.many), self._window - len(self._in_flight))
        while queue and len(group) < room:
            one = queue[0]
            size += len(one.topic) + len(one.body)
            has_options = bool(one.via) or one.again
            if group and (has_options or size > link.many):
                break
            queue.popleft()
            if one.is_settled or not one.claim():
                continue
            group.append(one)
            if has_options:
                break
        return group

    def _receive(self, link: _Link) -> None:
        while self._link is link and link.has_more:
            try:
                message = protocol.decode(link.socket.recv_multipart(_NOBLOCK))
                link.heard = time.monotonic()
                if message is not None:
                    self._handle(link, message)
            except Malformed as error:
                self._events.report("malformed", f"{link.address} has sent what is no answer: {error}")

    def _handle(self, link: _Link, message: Message) -> None:
        kind, fields = message
        if kind == protocol.OKS:
            for number, position in protocol.decode_oks(fields[0]):
                self._settle(number, position)
        elif kind == protocol.OK:
            self._settle(protocol.read_number(fields[0]), fields[1])
        elif kind == protocol.WELCOME:
            if not link.is_open:
                self._opened(link, fields[0])
        elif kind == protocol.PING:
            link.send(protocol.encode(protocol.PONG))
        elif kind == protocol.NO:
            self._rejected(fields)

    def _opened(self, link: _Link, relay: Mapping[str, Any]) -> None:
        self._owed_since = None
        pause = 0.0 if self._feed is None else self._feed.opened(relay)
        if pause:
            self._disconnect()
            self._retry_at = time.monotonic() + pause
        else:
            link.is_open, link.many = True, protocol.many_of(relay)

    def _rejected(self, fields: tuple[Any, ...]) -> None:
        options = fields[-1]
        reason = str(options.get("reason", ""))
        if len(fields) == 1 or options.get("retry") is True:
            self._next(reason)
        else:
            self._settle(protocol.read_number(fields[0]), None, (reason, str(options.get("code", ""))))

    def _settle(self, number: int, position: int | None, rejection: tuple[str, str] | None = None) -> None:
        one = self._in_flight.pop(number, None)
        self._owed_since = None if not self._in_flight else time.monotonic()
        # One that only greets, and ends, is not tried more often for that.
        self._retry_delay = _RETRY_MIN
        if one is not None and not one.is_settled:
            self.counts["confirmed" if rejection is None else "rejected"] += 1
            one.settle(position, rejection)


def _frames(group: Sequence[Pending], *, is_many: bool) -> list[bytes]:
    one = group[0]
    # Also for a single message: it has fewer frames.
    if is_many and not one.via and not one.again:
        return protocol.encode_pubs([(each.number, each.topic, each.body) for each in group])
    options = _options(one.via, one.again) if one.via or one.again else _EMPTY_OPTIONS
    return [protocol.VERSION, protocol.PUB, protocol.number(one.number), options, one.topic, one.body]


@functools.lru_cache(maxsize=128)
def _options(via: tuple[str, ...], again: bool) -> bytes:
    """Return options; there are few of them, in many messages."""
    options = {**({"via": list(via)} if via else {}), **({"again": True} if again else {})}
    return encoding.dumps(options).encode()
