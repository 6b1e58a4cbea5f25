# SPDX-License-Identifier: LGPL-2.1-or-later
"""A publishing socket with its monitor: who subscribes, whether the connection stands.

It is used by any thread that holds its lock. The thread of `watch` looks at it when no other thread
does, so that an idle publisher notices what happens to it too.
"""

from __future__ import annotations

import functools
import logging
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import zmq

from fedmsg._util.service import SafeCondition, start_thread
from fedmsg.transport.zmq import contexts
from fedmsg.transport.zmq.monitor import DISCONNECTED, HANDSHAKE_SUCCEEDED, READ_LIMIT, Monitor
from fedmsg.transport.zmq.sockets import Context, Socket

__all__ = ["PublishingSocket", "SendLog", "forget", "watch"]

log = logging.getLogger("fedmsg.transport")

# As plain numbers: pyzmq looks an enum member up again for each call.
_MORE = int(zmq.SNDMORE)
_NOBLOCK = int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)
_EVENTS = int(zmq.EVENTS)


class SendLog:
    """Counts the messages sent on a socket, and how many of them are recent.

    So many are lost with a connection that breaks: those sent lately.

    Attributes:
        count: How many there were since the start, or since they were last forgotten.
    """

    #: Messages sent within so many seconds of each other share one entry.
    step = 0.05

    def __init__(self, window: float) -> None:
        self.window = window
        self.forget()

    def forget(self) -> None:
        """Start again: what was sent so far is accounted for."""
        self.count = 0
        self._last = [-self.step, 0.0]
        self._entries: deque[list[float]] = deque()

    def add(self, now: float) -> None:
        """Count one message, sent at ``now`` (`time.monotonic`)."""
        self.count += 1
        last = self._last
        if now - last[0] < self.step:
            last[1] += 1
            return
        self._last = [now, 1]
        self._entries.append(self._last)
        while self._entries[0][0] < now - self.window - self.step:
            self._entries.popleft()

    def recent(self, now: float) -> int:
        """Return how many were sent within the window before ``now``, to within a step."""
        return int(sum(count for start, count in self._entries if start > now - self.window - self.step))


class PublishingSocket:
    """A bound or connected XPUB socket and what is known of its other end.

    Every method is called with the lock of ``changed`` held.

    A signal handler may raise anywhere in `send` and `look`: between the two frames of a
    message, or between reading an event and counting it. Then `broken` stays set, and the
    socket has to be replaced before anything else is sent; closing it takes a half message back.

    Args:
        context: The process's context, for the monitor.
        socket: The XPUB; closed with this.
        address: Where it is bound or connected, for log lines.
        manual: Whether it is a connected one with ``ZMQ_XPUB_MANUAL``.
        window: Seconds; what was sent within them counts as lost with a connection.
        changed: The lock, and what is notified of changes.

    Attributes:
        subscriptions: The topics that the relay at the other end of a connected one wants.
        subscribed: How many subscriptions have come in so far.
        lost: About how many messages were lost with a connection so far.
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
        changed: SafeCondition,
    ) -> None:
        self.socket = socket
        self.address = address
        self.changed = changed
        self.subscriptions: set[bytes] = set()
        self.everything = False
        self.subscribed = 0
        self.connections = 0
        self.lost = 0
        self.broken = self._counting = False
        self.sent = SendLog(window)
        self._manual = manual
        self._closing = False
        self._monitor = Monitor(context, socket, HANDSHAKE_SUCCEEDED | DISCONNECTED)

    def descriptors(self) -> list[int]:
        """Return the file descriptors that become readable when there is something to `look` at."""
        return [self._monitor.fileno(), int(self.socket.FD)]

    def send(self, topic: bytes, body: bytes, now: float) -> None:
        """Send the two frames of one message, at ``now`` (`time.monotonic`)."""
        send = self.socket.send
        self.broken = True
        send(topic, _MORE)
        send(body)
        self.sent.add(now)
        self.broken = False

    def covers(self, topic: bytes) -> bool:
        """Return whether the other end wants this topic."""
        return self.everything or any(topic.startswith(prefix) for prefix in self.subscriptions)

    def look(self, now: float) -> bool:
        """Read events and subscriptions, without waiting; return whether there is more to read.

        One look reads a limited number, so that a subscriber that keeps changing its subscriptions does
        not hold up the publishing threads.

        The monitor comes first: the end of one connection must be known before the
        subscriptions of the next are read.
        """
        if self._closing:
            return self._read_events(now) >= READ_LIMIT
        if self.broken:
            return False
        self.broken = self._counting = True
        read = max(self._read_events(now), self._read_subscriptions())
        if read:
            self.changed.notify_all()
        self.broken = self._counting = False
        return read >= READ_LIMIT

    def followers(self, now: float) -> int | None:
        """Return how many subscribers are connected; None where a signal handler has disturbed the counting."""
        if self._counting:
            return None
        # A subscription may have been read whose connection has not been counted yet.
        self._counting = True
        self._read_events(now)
        self._counting = False
        return min(self.connections, self.subscribed)

    @property
    def flushed(self) -> bool:
        """Whether it is closed, and all that it held is sent or dropped."""
        return self._monitor.stopped or self._monitor.closed

    def _read_events(self, now: float) -> int:
        events = self._monitor.read()
        for event in events:
            if event.kind == HANDSHAKE_SUCCEEDED:
                self.connections += 1
            elif event.kind == DISCONNECTED:
                self._on_disconnect(now)
        return len(events)

    def _on_disconnect(self, now: float) -> None:
        self.connections = max(0, self.connections - 1)
        # A bound socket serves others on, and a relay that withdrew had taken everything before it went.
        if self._manual and self.subscriptions:
            recent = self.sent.recent(now)
            if recent:
                log.warning("about %d messages may be lost: the connection to %s broke", recent, self.address)
                self.lost += recent
        if self._manual:
            self.sent.forget()
            self._set_subscriptions(set())

    def _read_subscriptions(self) -> int:
        read = 0
        if int(self.socket.get(_EVENTS)) & _POLLIN:
            # Not asking again before each: that would take longer than reading, and ZeroMQ keeps
            # what a subscriber that never stops changing its subscriptions is ahead of us.
            with suppress(zmq.Again):
                while read < READ_LIMIT:
                    self._on_subscription(self.socket.recv(_NOBLOCK))
                    read += 1
        return read

    def _on_subscription(self, frame: bytes) -> None:
        if frame[:1] not in {b"\x00", b"\x01"}:
            return  # an XSUB may send messages of its own, which have no meaning here
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
        """Stop taking messages; what was sent before goes out in the background."""
        if not self._closing:
            self._closing = True
            self.socket.close(linger)

    def wait(self, timeout: float) -> None:
        """Wait until there is an event of a closed socket to read."""
        self._monitor.wait(timeout)

    @property
    def closed(self) -> bool:
        """Whether nothing is left of it to look at."""
        return self._monitor.closed

    def close_monitor(self) -> None:
        """Close the rest of it: no more events are read."""
        self._monitor.close()

    def settle(self, now: float, *, in_time: bool) -> None:
        """Count what could not be delivered before it was closed."""
        if not self._manual:
            if self.connections and not in_time:
                log.warning("messages may be lost: not all subscribers of %s took them in time", self.address)
            return
        if self.connections and in_time:
            return
        left = self.sent.recent(now) if self.connections else self.sent.count
        self.sent.forget()
        if left:
            log.warning("about %d messages may be lost: %s did not take them in time", left, self.address)
            self.lost += left


# ---------------------------------------------------------------- sockets that no thread uses

# A process has at most one thread that reads the events of publishing sockets while no other thread does.
# Without it a broken connection would be reported at the next publish, and the subscriptions that strangers
# send to an idle publisher would pile up in memory.

# Re-entrant, because a garbage collection under it may close a forgotten publisher.
_lock = threading.RLock()
_selector: selectors.BaseSelector | None = None
_inherited: list[object] = []


def watch(descriptors: list[int], visit: Callable[[], bool]) -> None:
    """Call a function from now on, whenever there is something to read."""
    global _selector
    with _lock:
        if _selector is None:
            selector = selectors.DefaultSelector()
            start_thread(functools.partial(_run, selector), "fedmsg-watcher")
            _selector = selector
        for descriptor in descriptors:
            _selector.register(descriptor, selectors.EVENT_READ, visit)


def forget(descriptors: list[int]) -> None:
    """Stop watching, before these descriptors are closed."""
    with _lock:
        if _selector is not None:
            for descriptor in descriptors:
                # A signal may have interrupted the opening before it got to `watch`.
                if descriptor in _selector.get_map():
                    _selector.unregister(descriptor)


def _run(selector: selectors.BaseSelector) -> None:
    while True:
        for key, _ in selector.select():
            while key.data():
                # Subscribers can keep this up; publishing threads must get the lock in between.
                time.sleep(0.001)


def _forget_parent() -> None:
    global _lock, _selector
    _inherited.append(_selector)
    _lock, _selector = threading.RLock(), None


contexts.after_fork(_forget_parent)
