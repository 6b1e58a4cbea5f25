# SPDX-License-Identifier: LGPL-2.1-or-later
"""One publishing socket with its monitor: who subscribes, whether the connection stands.

An outlet is used by any thread that holds its lock; `fedmsg.transport.zmq.watcher` looks at
it when nobody else does, so that an idle publisher notices what happens to it too.
"""

from __future__ import annotations

import logging
import struct
import time
from contextlib import suppress

import zmq

from fedmsg.transport.zmq.loss import HandoverLog
from fedmsg.transport.zmq.news import News
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["Outlet"]

log = logging.getLogger("fedmsg.transport")

# As plain numbers: pyzmq looks an enum member up again for each call.
_MORE = int(zmq.SNDMORE)
_NOBLOCK = int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)
_RCVMORE = int(zmq.RCVMORE)
_EVENTS = int(zmq.EVENTS)
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED
_HANDSHAKE = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
_STOPPED = int(zmq.EVENT_MONITOR_STOPPED)
_AT_ONCE = 100


class Outlet:
    """A bound or connected XPUB socket and what is known of its other end.

    Every method is called with the lock of ``news`` held.

    A signal handler may raise anywhere in `send` and `look`: between the two frames of a
    message, or between reading a piece of news and noting it. Then `broken` stays set, and
    the outlet has to be replaced before anything else is sent; closing it takes a half
    message back.

    Args:
        context: The process's context, for the monitor.
        socket: The XPUB; the outlet owns it from here on.
        address: Where it is bound or connected, for messages to people.
        manual: Whether it is a connected one with ``ZMQ_XPUB_MANUAL``.
        window: Seconds; what was handed over within them counts as lost with a connection.
        news: The lock, and where it is told when something changes.

    Attributes:
        flushed: Closed, and all that it held is sent or given up.
        subscriptions: The topics that the relay at the other end of a connected one wants.
        subscribed: How many subscriptions have come in so far.
        connections: How many connections stand.
        lost: About how many messages went down with a connection so far.
        broken: It is in use at this moment, or its last use was interrupted.
    """

    def __init__(
        self,
        context: Context,
        socket: Socket,
        address: str,
        *,
        manual: bool,
        window: float,
        news: News,
    ) -> None:
        self.socket = socket
        self.address = address
        self.news = news
        self.subscriptions: set[bytes] = set()
        self.everything = False
        self.subscribed = 0
        self.connections = 0
        self.lost = 0
        self.broken = False
        self.handed = HandoverLog(window)
        self._manual = manual
        self._closing = False
        self.flushed = False
        name = f"inproc://fedmsg-outlet-{id(self):x}-{time.monotonic_ns():x}"
        socket.monitor(name, _WATCHED)
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        # libzmq's own thread waits where a monitor's queue is full, so it must not be bounded.
        self._monitor.setsockopt(zmq.RCVHWM, 0)
        self._monitor.connect(name)

    def descriptors(self) -> list[int]:
        """The file descriptors that become readable when there is something to `look` at."""
        return [int(self._monitor.FD), int(self.socket.FD)]

    def send(self, topic: bytes, body: bytes, now: float) -> None:
        """Hand the two frames of one message to ZeroMQ, at ``now`` (`time.monotonic`)."""
        send = self.socket.send
        self.broken = True
        send(topic, _MORE)
        send(body)
        self.handed.add(now)
        self.broken = False

    def covers(self, topic: bytes) -> bool:
        """Whether the other end wants this topic."""
        return self.everything or any(topic.startswith(prefix) for prefix in self.subscriptions)

    def look(self, now: float) -> bool:
        """Read what the monitor and the subscribers have to say; never blocks.

        The monitor comes first: the end of one connection must be known before the
        subscriptions of the next are read.

        Returns:
            Whether there is more to read: one look takes so much and no more, lest a
            subscriber that keeps changing its mind holds up those who publish.
        """
        if self._closing:
            return self._read_monitor(now) >= _AT_ONCE
        if self.broken:
            return False
        self.broken = True
        heard = max(self._read_monitor(now), self._read_subscriptions())
        if heard:
            self.news.tell()
        self.broken = False
        return heard >= _AT_ONCE

    def _read_monitor(self, now: float) -> int:
        heard = 0
        while heard < _AT_ONCE and not self.flushed and _readable(self._monitor):
            heard += 1
            news = self._monitor.recv(_NOBLOCK)
            if not self._monitor.get(_RCVMORE):
                continue  # the second frame of what an interrupt has kept us from reading
            self._monitor.recv(_NOBLOCK)
            event = struct.unpack("=H", news[:2])[0]
            if event == _HANDSHAKE:
                self.connections += 1
            elif event == _DISCONNECTED:
                self._on_disconnect(now)
            elif event == _STOPPED:
                self.flushed = True
        return heard

    def _on_disconnect(self, now: float) -> None:
        self.connections = max(0, self.connections - 1)
        # A bound socket serves others on, and a relay that withdrew had taken everything before it went.
        if self._manual and self.subscriptions:
            recent = self.handed.recent(now)
            if recent:
                log.warning("about %d messages may be lost: the connection to %s broke", recent, self.address)
                self.lost += recent
        if self._manual:
            self.handed.forget()
            self._set_subscriptions(set())

    def _read_subscriptions(self) -> int:
        heard = 0
        if _readable(self.socket):
            # Not asking again before each: that would take longer than reading, and ZeroMQ keeps
            # whatever a subscriber who never stops changing its mind is ahead of us.
            with suppress(zmq.Again):
                while heard < _AT_ONCE:
                    self._hear(self.socket.recv(_NOBLOCK))
                    heard += 1
        return heard

    def _hear(self, frame: bytes) -> None:
        if frame[:1] not in {b"\x00", b"\x01"}:
            return  # an XSUB may send messages of its own upstream; nobody asked for them
        topic = frame[1:]
        if frame[0]:
            self.subscribed += 1
        if not self._manual:
            return
        if frame[0]:
            self.socket.setsockopt(zmq.SUBSCRIBE, topic)
            self._set_subscriptions(self.subscriptions | {topic})
        else:
            self.socket.setsockopt(zmq.UNSUBSCRIBE, topic)
            self._set_subscriptions(self.subscriptions - {topic})

    def _set_subscriptions(self, topics: set[bytes]) -> None:
        self.subscriptions = topics
        self.everything = b"" in topics

    def close(self, linger: int) -> None:
        """Stop taking messages; what was handed over goes on being sent in the background.

        Args:
            linger: For how many milliseconds.
        """
        if not self._closing:
            self._closing = True
            self.socket.close(linger)

    def wait_for_news(self, timeout: float) -> None:
        """Wait until the monitor of a closed outlet has something to say.

        Args:
            timeout: Seconds.
        """
        self._monitor.poll(int(timeout * 1000))

    @property
    def closed(self) -> bool:
        """Whether nothing is left of it to look at."""
        return bool(self._monitor.closed)

    def close_monitor(self) -> None:
        """The last step: nothing more will be known of this socket."""
        self.flushed = True
        self._monitor.close()

    def settle(self, now: float, *, in_time: bool) -> None:
        """Count what a closed outlet could not deliver.

        Args:
            now: `time.monotonic`.
            in_time: Whether it was flushed before its linger time was up.
        """
        if not self._manual or (self.connections and in_time):
            return
        left = self.handed.recent(now) if self.connections else self.handed.count
        self.handed.forget()
        if left:
            log.warning("about %d messages may be lost: %s did not take them in time", left, self.address)
            self.lost += left


def _readable(socket: Socket) -> bool:
    events = socket.get(_EVENTS)
    assert isinstance(events, int)
    return bool(events & _POLLIN)
