# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishers: bound for all to subscribe, or connected to a relay.

Publishers are shared: threads of a process that publish to the same addresses use one
publisher under one lock. `open_bound` and `open_connected` count its users, `close` ends
it with the last of them.
"""

from __future__ import annotations

import _thread
import enum
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fedmsg._util.service import SafeCondition
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, FedmsgError, NotListening
from fedmsg.transport.zmq import addresses, contexts, curve, sockets
from fedmsg.transport.zmq.publishing_socket import PublishingSocket, forget, watch
from fedmsg.transport.zmq.resolver import resolve
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["BoundPublisher", "ConnectedPublisher", "Hindrance", "Publisher", "close", "open_bound", "open_connected"]

log = logging.getLogger("fedmsg.transport")

_Waiter = TypeVar("_Waiter")

# ZeroMQ itself looks for events once a millisecond when it sends; asking more often only costs time.
_LOOK_INTERVAL = 0.001
# How long a wait sleeps between looks, in seconds: an event that a send of another thread has already
# taken from the socket's mailbox does not wake the watcher again.
_RECHECK_INTERVAL = 0.05
# By how much, in seconds, ZeroMQ may end the linger time early: its timers are read in whole milliseconds.
_TIMER_GRAIN = 0.002

# What a subscriber takes from its connection to its subscription, in seconds, on a busy machine.
_HANDSHAKE_TIME = 0.2

# The settings that make two connections to the same relay different ones. A bound address there is only
# once: the first to bind it decides.
_SOCKET_SETTINGS = (
    "high_water_mark",
    "zmq_linger",
    "zmq_tcp_keepalive",
    "zmq_tcp_keepalive_cnt",
    "zmq_tcp_keepalive_idle",
    "zmq_tcp_keepalive_intvl",
    "zmq_reconnect_ivl",
    "zmq_reconnect_ivl_max",
    "zmq_heartbeat_ivl",
    "max_message_size",
    "timeout",
)

_open: dict[tuple[object, ...], Publisher] = {}
_lock = threading.RLock()
_inherited: list[object] = []
# How many subscribers each address had when this process last closed it: so many will connect again.
_subscribers: dict[str, int] = {}


class Hindrance(enum.Enum):
    """Why a message can't be sent at this moment."""

    BROKEN = "its socket has to be replaced first"
    INSIDE = "the thread that wants to send it is sending already, further up its stack"


_BROKEN, _INSIDE = Hindrance.BROKEN, Hindrance.INSIDE
# What may be in the way of a message: a wait, and for how many seconds at most; or worse.
_Obstacle = tuple[threading.Lock, float] | Hindrance


class Publisher:
    """What bound and connected publishers have in common.

    Attributes:
        users: How many have opened it and not closed it yet.
        sockets: One per address.
        changed: The lock of it all, and what waits for a subscriber or a new connection.
        deferred: Messages of a signal handler or finalizer that ran in the middle of `attempt`.
    """

    def __init__(self, config: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self.users = 0
        self.names = names
        self.changed = SafeCondition()
        self._lock = self.changed.lock
        self.sockets: list[PublishingSocket] = []
        self._config = dict(config)
        self._generation = contexts.generation
        self._context = contexts.acquire(settings.get(config, "io_threads"))
        # How many seconds a message waits for a subscriber, at most.
        self._wait_limit = 0.0
        self._linger: int = settings.get(config, "zmq_linger")
        self._next_look = 0.0
        self._lost = 0
        # Whether the thread that holds the lock is sending or looking, further up its stack: the lock lets
        # its own thread in again.
        self._inside = False
        self.deferred: deque[tuple[bytes, bytes]] = deque()

    @property
    def socket(self) -> Socket | None:
        """The socket that is published on; None once closed."""
        return self.sockets[0].socket if self.sockets else None

    @property
    def lost(self) -> int:
        """About how many messages were lost with a connection so far."""
        return self._lost + sum(one.lost for one in self.sockets)

    def send(self, topic: bytes, body: bytes, *, timeout: float | None = None) -> None:
        """Send one message, after waiting for a subscriber where that is promised.

        Called by a signal handler or finalizer in the middle of another `send` of its thread, it
        leaves the message to that one.

        Raises:
            NotListening: No relay listened within ``timeout``.
            AddressInUse: The socket had to be opened anew, and another process has taken its address.
        """
        start = time.monotonic()
        if timeout is not None:
            start += timeout - self._wait_limit
        hindrance = self.attempt(topic, body, start, self.changed.expect)
        if hindrance is not None and not self._insist(topic, body, start, hindrance):
            return
        if self.deferred:
            self.send_deferred()

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        return {"lost": self.lost, "connections": sum(one.connections for one in self.sockets)}

    def close(self) -> None:
        """End one use of it; the last one closes it, within ``zmq_linger``."""
        close(self)

    def wait(self, topic: bytes) -> None:
        """Wait until a message could be sent, and send none.

        Raises:
            NotListening: No relay listened within ``timeout``.
            AddressInUse: The socket had to be opened anew, and another process has taken its address.
        """
        start = time.monotonic()
        self._insist(topic, None, start, self.attempt(topic, None, start, self.changed.expect))

    def _insist(self, topic: bytes, body: bytes | None, start: float, hindrance: _Obstacle | None) -> bool:
        """Send a message after all; False when it was left to the caller further up the stack."""
        while hindrance is not None:
            if hindrance is _INSIDE:
                return False
            # Not with the lock held: others have to be able to send.
            if isinstance(hindrance, Hindrance):
                self._replace_in_thread()
            else:
                self.changed.wait(*hindrance)
            hindrance = self.attempt(topic, body, start, self.changed.expect)
        return True

    def attempt(
        self, topic: bytes, body: bytes | None, start: float, expect: Callable[[], _Waiter]
    ) -> tuple[_Waiter, float] | Hindrance | None:
        """Send a message that waits since ``start``, or return what is in its way; it never blocks.

        Without a body it only asks whether it could be sent. Where it has to wait, it returns what ``expect`` has
        returned, called with the lock held, and for how many seconds to wait for that before the next attempt.

        Raises:
            NotListening: It has waited long enough.
        """
        with self._lock:
            if self._inside:
                if body is not None:
                    self.deferred.append((topic, body))
                return _INSIDE
            self._inside = True
            try:
                now = time.monotonic()
                if now >= self._next_look:
                    self._look(now)
                one = self._ready(topic)
                if one is None:
                    left = self._time_left(start, now)
                    return expect(), min(left, _RECHECK_INTERVAL)
                if one.broken:
                    return _BROKEN
                if body is not None:
                    one.send(topic, body, now)
                return None
            finally:
                self._inside = False

    def send_deferred(self) -> None:
        """Send the messages that were left to the caller further up the stack."""
        while self.deferred:
            topic, body = self.deferred.popleft()
            start = time.monotonic()
            if not self._insist(topic, body, start, self.attempt(topic, body, start, self.changed.expect)):
                return

    def _visit(self, one: PublishingSocket) -> bool:
        """Look at a socket, in the thread of the watcher; whether there is more to read."""
        with self._lock:
            self._inside = True
            try:
                if one.broken:
                    self.replace_broken()
                more = not one.closed and one.look(time.monotonic())
            finally:
                self._inside = False
        self._send_deferred_or_log()
        return more

    def _send_deferred_or_log(self) -> None:
        """Send the deferred messages, where no caller can get an error."""
        try:
            self.send_deferred()
        except FedmsgError as error:
            log.error("a message of a signal handler or finalizer was not sent: %s", error)

    def _ready(self, topic: bytes) -> PublishingSocket | None:
        """Return the socket to send on, or a broken one; None as long as there is no subscriber."""
        raise NotImplementedError

    def _time_left(self, start: float, now: float) -> float:
        """Return how many seconds a message may still wait that has waited since ``start``."""
        raise NotImplementedError

    def _renew(self, one: PublishingSocket) -> None:
        """Close a broken socket and put a new one in its place."""
        raise NotImplementedError

    def replace_broken(self) -> Exception | None:
        """Replace the broken sockets, within ``zmq_linger``; returns the error where that can't be done."""
        with self._lock:
            try:
                for one in [one for one in self.sockets if one.broken]:
                    self._renew(one)
            except FedmsgError as error:
                return error
            finally:
                self.changed.notify_all()
        return None

    def _replace_in_thread(self) -> None:
        """Replace the broken sockets in a thread, where no signal handler runs."""
        outcome: list[Exception | None] = []

        def replace() -> None:
            outcome.append(self.replace_broken())
            with self._lock:
                self.changed.notify_all()

        with self._lock:
            waiter = self.changed.expect()
        # Not by threading.Thread, whose start is Python code that a handler can interrupt halfway.
        _thread.start_new_thread(replace, ())
        self.changed.wait(waiter, self._linger / 1000 + 1)
        if outcome and outcome[0] is not None:
            raise outcome[0]

    def _add(self, address: str, attach: Callable[[Socket], object], *, bound: bool) -> None:
        """Open one more socket; ``attach`` binds or connects it."""
        socket = sockets.publisher(self._context, self._config, bound=bound)
        window = float(settings.get(self._config, "timeout"))
        # Its monitor comes before the connection, which may stand the moment after it is asked for.
        one = PublishingSocket(self._context, socket, address, manual=not bound, window=window, changed=self.changed)
        try:
            attach(socket)
        except BaseException:
            one.close(0)
            one.close_monitor()
            raise
        self.sockets.append(one)
        watch(one.descriptors(), functools.partial(self._visit, one))

    def _look(self, now: float) -> None:
        self._next_look = now + _LOOK_INTERVAL
        for one in self.sockets:
            one.look(now)

    def _drop(self, one: PublishingSocket, linger: int) -> None:
        """Close a socket and wait, at most for its linger time, until it has sent what it held."""
        descriptors = one.descriptors()
        forget(descriptors)
        start = time.monotonic()
        one.close(linger)
        # A little more than the linger time: its end is reported by a thread of ZeroMQ's.
        while not one.flushed and time.monotonic() - start < linger / 1000 + 0.5:
            one.look(time.monotonic())
            if not one.flushed:
                one.wait(_RECHECK_INTERVAL)
        now = time.monotonic()
        one.settle(now, in_time=one.flushed and (not linger or now - start < linger / 1000 - _TIMER_GRAIN))
        one.close_monitor()
        self._lost += one.lost
        one.lost = 0

    def shut(self) -> None:
        """Close every socket; bounded by ``zmq_linger``."""
        if self._generation != contexts.generation:
            return
        self._send_deferred_or_log()
        with self._lock:
            # A signal handler that publishes from here on gets an error: it is closed.
            closing, self.sockets, self._inside = self.sockets, [], False
            for one in closing:
                self._drop(one, self._linger)
        contexts.release(self._generation)


class BoundPublisher(Publisher):
    """Binds one address for any number of subscribers.

    Its first message waits, at most ``post_init_sleep``, for a first subscriber, and for so long that
    each subscriber that is up has tried to connect: once per process and address. Where the process
    had bound the address before, it waits for as many as there were, since all of them are about to
    connect again.
    """

    def __init__(self, config: Mapping[str, Any], address: str) -> None:
        super().__init__(config, (address,))
        self._wait_limit = float(settings.get(config, "post_init_sleep"))
        # How many subscribers its first message waits for, and how many that were when it last waited.
        self._expected = self._had = _subscribers.get(address, 1)
        self._wait_until = 0.0
        self._all_tried_at = 0.0
        if address not in _subscribers:
            # ZeroMQ waits between one and two intervals before it tries again.
            retry = 2 * settings.get(config, "zmq_reconnect_ivl") / 1000
            self._all_tried_at = time.monotonic() + retry + _HANDSHAKE_TIME
        try:
            self._bind()
        except BaseException:
            contexts.release(self._generation)
            raise

    def _bind(self) -> None:
        address = self.names[0]
        target = addresses.bindable(resolve(address, log_failure=False).target)
        self._add(address, lambda socket: sockets.bind(socket, target, "endpoints"), bound=True)

    def _ready(self, topic: bytes) -> PublishingSocket | None:  # noqa: ARG002 - it serves every topic
        if not self.sockets:
            raise NotListening(f"the publisher at {self.names[0]} is closed, the message was not sent")
        one = self.sockets[0]
        if self._expected and not one.broken:
            if one.subscribed < self._expected or time.monotonic() < self._all_tried_at:
                return None
            self._expected, self._wait_until = 0, 0.0
        return one

    def _time_left(self, start: float, now: float) -> float:
        # The time runs from the first message on. Other threads wait with it, and so does the
        # next message where this one is interrupted.
        self._wait_until = self._wait_until or start + self._wait_limit
        left = self._wait_until - now
        if left <= 0:
            self._expected, self._wait_until = 0, 0.0
        elif now < self._all_tried_at:
            left = min(left, self._all_tried_at - now)
        return max(0.0, left)

    def shut(self) -> None:
        """Close the socket; bounded by ``zmq_linger``."""
        # Before the first message nothing is known of the subscribers.
        if not self._expected and self._generation == contexts.generation:
            with self._lock:
                self._look(time.monotonic())
                for one in self.sockets:
                    found = one.followers(time.monotonic())
                    _subscribers[one.address] = self._had if found is None else found
        super().shut()

    def _renew(self, one: PublishingSocket) -> None:
        if not one.closed:
            found = one.followers(time.monotonic())
            self._expected = self._had = max(self._expected, self._had if found is None else found)
            self._wait_until = 0.0
            # Slow subscribers have as long to take what it held as a message waits for the first one.
            self._drop(one, max(self._linger, int(self._wait_limit * 1000)))
        self._bind()
        self.sockets.remove(one)


class ConnectedPublisher(Publisher):
    """Connects to a relay, or to several of which the first that answers is used."""

    def __init__(self, config: Mapping[str, Any], key: str, relays: tuple[str, ...]) -> None:
        super().__init__(config, relays)
        self._key = key
        self._wait_limit = float(settings.get(config, "timeout"))
        self._given_up = False
        try:
            for address in relays:
                self._connect(address)
        except BaseException:
            self.shut()
            raise

    def _connect(self, address: str) -> None:
        def attach(socket: Socket) -> None:
            curve.as_client(socket, self._config, self._key)
            sockets.connect(socket, address, self._key)

        self._add(address, attach, bound=False)

    @property
    def socket(self) -> Socket | None:
        """The socket that is published on: that of the first relay that listens."""
        for one in self.sockets:
            if one.subscriptions:
                return one.socket
        return super().socket

    def _ready(self, topic: bytes) -> PublishingSocket | None:
        for one in self.sockets:
            if one.everything or one.broken or one.covers(topic):
                self._given_up = False
                return one
        return None

    def _time_left(self, start: float, now: float) -> float:
        left = start + (0.0 if self._given_up else self._wait_limit) - now
        if left > 0:
            return left
        waited = "" if self._given_up else f" within {self._wait_limit:g} s"
        # A web application must not hang again in each request while its relay is down.
        self._given_up = True
        raise NotListening(
            f"nothing listens at {', '.join(self.names)}{waited}, the message was not sent: "
            f"start fedmsg-relay there, or correct {self._key!r} in the configuration"
        )

    def _renew(self, one: PublishingSocket) -> None:
        place = self.sockets.index(one)
        if not one.closed:
            self._drop(one, self._linger)
        self._connect(one.address)
        # The first of the list is the preferred one.
        self.sockets[place] = self.sockets.pop()


def open_bound(config: Mapping[str, Any], name: str, candidates: list[str]) -> BoundPublisher:
    """Bind the first free address of a list, or share the one that this process has bound.

    Raises:
        AddressInUse: All of them are taken by other processes.
        ConfigError: One of them is no address.
    """
    with _lock:
        for address in candidates:
            publisher = _open.get(("bound", address))
            if isinstance(publisher, BoundPublisher):
                publisher.users += 1
                return publisher
        for address in candidates:
            try:
                publisher = BoundPublisher(config, address)
            except AddressInUse:
                continue
            publisher.users = 1
            _open["bound", address] = publisher
            return publisher
    raise AddressInUse(
        f"Couldn't find an available endpoint for name {name!r}: {', '.join(candidates)} in use by other "
        "processes; add an address for each process to that list, or publish through a relay with active=True"
    )


def open_connected(config: Mapping[str, Any], key: str, relays: list[str]) -> ConnectedPublisher:
    """Connect to a relay, or share the connection that this process has.

    Raises:
        ConfigError: One of them is no address.
    """
    values = (settings.get(config, name) for name in _SOCKET_SETTINGS)
    identity = ("connected", *relays, *values, *curve.identity(config, key))
    with _lock:
        publisher = _open.get(identity)
        if not isinstance(publisher, ConnectedPublisher):
            publisher = _open[identity] = ConnectedPublisher(config, key, tuple(relays))
        publisher.users += 1
        return publisher


def close(publisher: Publisher) -> None:
    """End one use of a publisher; the last one closes it, within ``zmq_linger``."""
    with _lock:
        publisher.users -= 1
        if publisher.users:
            return
        for identity in [key for key, value in _open.items() if value is publisher]:
            del _open[identity]
        # Under the lock: the next one to open the same address must find it free.
        publisher.shut()


def _in_child() -> None:
    global _lock
    _inherited.append(dict(_open))
    _open.clear()
    _subscribers.clear()
    _lock = threading.RLock()


contexts.after_fork(_in_child)
