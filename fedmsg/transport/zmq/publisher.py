# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an application publishes through: bound for all to subscribe, or connected to a relay.

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

from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, FedmsgError, NotListening
from fedmsg.transport.zmq import addresses, contexts, curve, sockets, watcher
from fedmsg.transport.zmq.news import News
from fedmsg.transport.zmq.outlet import Outlet
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["BoundPublisher", "ConnectedPublisher", "Hindrance", "Publisher", "close", "open_bound", "open_connected"]

log = logging.getLogger("fedmsg.transport")

_Waiter = TypeVar("_Waiter")

# libzmq itself looks for news once a millisecond when it sends; asking more often only costs time.
_LOOK_EVERY = 0.001
# How long a wait sleeps between looks: news that a send of another thread has already picked
# up from the socket's mailbox does not wake the watcher again.
_RECHECK = 0.05

# The settings that make two connections to the same relay different ones. A bound address there is only
# once: who binds it first decides.
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
# How many subscribers each address had when this process last gave it up: so many will be back.
_subscribers: dict[str, int] = {}


class Hindrance(enum.Enum):
    """Why a message can't be sent at this moment."""

    BROKEN = "the outlet has to be replaced first"
    INSIDE = "the thread that wants to send it is sending already, further up its stack"


_BROKEN, _INSIDE = Hindrance.BROKEN, Hindrance.INSIDE


class Publisher:
    """What bound and connected publishers have in common.

    Args:
        config: The configuration.
        names: The addresses it is for, for messages to people.

    Attributes:
        users: How many opened it and have not closed it yet.
        deferred: What `attempt` was asked to send by who was called in the middle of another one.
    """

    def __init__(self, config: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self.users = 0
        self.names = names
        self.news = News()
        self._lock = self.news.lock
        self.outlets: list[Outlet] = []
        self._config = dict(config)
        self._generation = contexts.generation
        self._context = contexts.acquire(settings.get(config, "io_threads"))
        self._linger: int = settings.get(config, "zmq_linger")
        self._next_look = 0.0
        self._lost = 0
        # Whether the thread that holds the lock is sending or looking, further up its stack, and what it was
        # asked to send meanwhile. A lock can't tell: it lets its own thread in again.
        self._inside = False
        self.deferred: deque[tuple[bytes, bytes]] = deque()

    @property
    def socket(self) -> Socket | None:
        """The socket that is published on; None once closed."""
        return self.outlets[0].socket if self.outlets else None

    @property
    def lost(self) -> int:
        """About how many messages went down with a connection so far."""
        return self._lost + sum(outlet.lost for outlet in self.outlets)

    def send(self, topic: bytes, body: bytes) -> None:
        """Send one message, waiting until somebody listens where that is promised.

        Called by a signal handler, or by a finaliser, of a thread that is sending at this
        moment, it leaves the message to what was interrupted.

        Raises:
            NotListening: No relay listened within ``timeout``.
            AddressInUse: The socket had to be opened anew, and somebody else has taken its address.
        """
        if self._send_one(topic, body) and self.deferred:
            self.send_deferred()

    def wait(self, topic: bytes) -> None:
        """Wait until a message could be sent, and send none: for whoever has to do something in between.

        Raises:
            NotListening: No relay listened within ``timeout``.
            AddressInUse: The socket had to be opened anew, and somebody else has taken its address.
        """
        self._send_one(topic, None)

    def _send_one(self, topic: bytes, body: bytes | None) -> bool:
        """Send one message, or none; False when that was left to the caller further up the stack."""
        start = time.monotonic()
        while (hindrance := self.attempt(topic, body, start, self.news.expect)) is not None:
            if hindrance is _INSIDE:
                return False
            # Nobody waits with the lock held, lest a signal handler raises where it is given back.
            if isinstance(hindrance, Hindrance):
                self._mend_elsewhere()
            else:
                self.news.wait(*hindrance)
        return True

    def attempt(
        self, topic: bytes, body: bytes | None, start: float, expect: Callable[[], _Waiter]
    ) -> tuple[_Waiter, float] | Hindrance | None:
        """Send a message, or say what is in its way; it never blocks.

        Args:
            topic: The frame of the topic.
            body: The frame of the envelope; None only asks whether it could be sent.
            start: Since when the message waits (`time.monotonic`).
            expect: Begins to wait for news, called with the lock held.

        Returns:
            None when nothing is in its way, a hindrance, or what ``expect`` has given and for how many
            seconds it may be waited for before the next attempt.

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
                outlet = self._ready(topic)
                if outlet is None:
                    patience = self._patience(start, now)
                    return expect(), min(patience, _RECHECK)
                if outlet.broken:
                    return _BROKEN
                if body is not None:
                    outlet.send(topic, body, now)
                return None
            finally:
                self._inside = False

    def send_deferred(self) -> None:
        """Send what was left to the caller further up the stack."""
        while self.deferred and self._send_one(*self.deferred.popleft()):
            pass

    def _visit(self, outlet: Outlet) -> bool:
        """Take a look at an outlet, in the thread of the watcher; answers whether there is more to see."""
        with self._lock:
            self._inside = True
            try:
                if outlet.broken:
                    self.mend()
                more = not outlet.closed and outlet.look(time.monotonic())
            finally:
                self._inside = False
        self._send_deferred_or_tell()
        return more

    def _send_deferred_or_tell(self) -> None:
        """Send what was left over, where nobody is called to account for it."""
        try:
            self.send_deferred()
        except FedmsgError as error:
            log.error("a message of a signal handler or finaliser was not sent: %s", error)

    def _ready(self, topic: bytes) -> Outlet | None:
        """Give the outlet to send on, or a broken one; None as long as nobody listens."""
        raise NotImplementedError

    def _patience(self, start: float, now: float) -> float:
        """How many seconds a message may still wait that has waited since ``start``."""
        raise NotImplementedError

    def _renew(self, outlet: Outlet) -> None:
        """Close a broken outlet and put a new one in its place."""
        raise NotImplementedError

    def mend(self) -> Exception | None:
        """Replace the broken outlets, within ``zmq_linger``; gives the reason where that can't be done."""
        with self._lock:
            try:
                for outlet in [outlet for outlet in self.outlets if outlet.broken]:
                    self._renew(outlet)
            except FedmsgError as error:
                return error
            finally:
                self.news.tell()
        return None

    def _mend_elsewhere(self) -> None:
        """Replace the broken outlets in a thread, where no signal handler can interrupt it.

        They run in the main thread only.
        """
        outcome: list[Exception | None] = []

        def mend() -> None:
            outcome.append(self.mend())
            with self._lock:
                self.news.tell()

        with self._lock:
            waiter = self.news.expect()
        # Not by threading.Thread, whose start is Python code that a handler can interrupt halfway.
        _thread.start_new_thread(mend, ())
        self.news.wait(waiter, self._linger / 1000 + 1)
        if outcome and outcome[0] is not None:
            raise outcome[0]

    def _add(self, address: str, attach: Callable[[Socket], object], *, bound: bool) -> None:
        """Open one more outlet; ``attach`` binds or connects its socket."""
        socket = sockets.publisher(self._context, self._config, bound=bound)
        window = float(settings.get(self._config, "timeout"))
        # Its monitor comes before the connection, which may stand the moment after it is asked for.
        outlet = Outlet(self._context, socket, address, manual=not bound, window=window, news=self.news)
        try:
            attach(socket)
        except BaseException:
            outlet.close(0)
            outlet.close_monitor()
            raise
        self.outlets.append(outlet)
        watcher.watch(outlet.descriptors(), functools.partial(self._visit, outlet))

    def _look(self, now: float) -> None:
        self._next_look = now + _LOOK_EVERY
        for outlet in self.outlets:
            outlet.look(now)

    def _drop(self, outlet: Outlet, linger: int) -> None:
        """Close one outlet and wait, at most for its linger time, until it has sent what it held."""
        descriptors = outlet.descriptors()
        watcher.forget(descriptors)
        outlet.close(linger)
        start = time.monotonic()
        # A little more than the linger time: its end is reported by a thread of ZeroMQ's.
        while not outlet.flushed and time.monotonic() - start < linger / 1000 + 0.5:
            outlet.look(time.monotonic())
            if not outlet.flushed:
                outlet.wait_for_news(_RECHECK)
        now = time.monotonic()
        outlet.settle(now, in_time=outlet.flushed and (not linger or now - start < linger / 1000))
        outlet.close_monitor()
        self._lost += outlet.lost
        outlet.lost = 0

    def shut(self) -> None:
        """Close every socket; bounded by ``zmq_linger``."""
        if self._generation != contexts.generation:
            return
        self._send_deferred_or_tell()
        with self._lock:
            # Who publishes from here on, as a signal handler may, is told that it is closed.
            outlets, self.outlets, self._inside = self.outlets, [], False
            for outlet in outlets:
                self._drop(outlet, self._linger)
        contexts.release(self._generation)


class BoundPublisher(Publisher):
    """Binds one address for any number of subscribers.

    Its first message waits, at most ``post_init_sleep``, for a first subscriber: once per
    process and address. Where the process had bound the address before, it waits for as
    many as there were, since all of them are about to connect again.
    """

    def __init__(self, config: Mapping[str, Any], address: str) -> None:
        super().__init__(config, (address,))
        self._post_init_sleep = float(settings.get(config, "post_init_sleep"))
        self._expected = _subscribers.get(address, 1)
        self._wait_until = 0.0
        try:
            self._bind()
        except BaseException:
            contexts.release(self._generation)
            raise

    def _bind(self) -> None:
        address = self.names[0]
        self._add(address, lambda socket: sockets.bind(socket, addresses.bindable(address), "endpoints"), bound=True)

    def _ready(self, topic: bytes) -> Outlet | None:  # noqa: ARG002 - it serves every topic
        if not self.outlets:
            raise NotListening(f"the publisher at {self.names[0]} is closed, the message was not sent")
        outlet = self.outlets[0]
        if self._expected and not outlet.broken:
            if outlet.subscribed < self._expected:
                return None
            self._expected, self._wait_until = 0, 0.0
        return outlet

    def _patience(self, start: float, now: float) -> float:
        # The time runs from the first message on. Other threads wait with it, and so does the
        # next message where this one is interrupted.
        self._wait_until = self._wait_until or start + self._post_init_sleep
        left = self._wait_until - now
        if left <= 0:
            self._expected, self._wait_until = 0, 0.0
        return max(0.0, left)

    def shut(self) -> None:
        """Close the socket; bounded by ``zmq_linger``."""
        # Who has not waited yet knows nothing of the subscribers.
        for outlet in [] if self._expected else self.outlets:
            _subscribers[outlet.address] = min(outlet.connections, outlet.subscribed)
        super().shut()

    def _renew(self, outlet: Outlet) -> None:
        if not outlet.closed:
            self._expected = max(self._expected, min(outlet.connections, outlet.subscribed))
            self._wait_until = 0.0
            self._drop(outlet, self._linger)
        self._bind()
        self.outlets.remove(outlet)


class ConnectedPublisher(Publisher):
    """Connects to a relay, or to several of which the first that answers is used."""

    def __init__(self, config: Mapping[str, Any], key: str, relays: tuple[str, ...]) -> None:
        super().__init__(config, relays)
        self._key = key
        self._timeout = float(settings.get(config, "timeout"))
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
        for outlet in self.outlets:
            if outlet.subscriptions:
                return outlet.socket
        return super().socket

    def _ready(self, topic: bytes) -> Outlet | None:
        for outlet in self.outlets:
            if outlet.everything or outlet.broken or outlet.covers(topic):
                self._given_up = False
                return outlet
        return None

    def _patience(self, start: float, now: float) -> float:
        left = start + (0.0 if self._given_up else self._timeout) - now
        if left > 0:
            return left
        waited = "" if self._given_up else f" within {self._timeout:g} s"
        # A web application must not hang again in each request while its relay is down.
        self._given_up = True
        raise NotListening(
            f"nothing listens at {', '.join(self.names)}{waited}, the message was not sent: "
            f"start fedmsg-relay there, or correct {self._key!r} in the configuration"
        )

    def _renew(self, outlet: Outlet) -> None:
        place = self.outlets.index(outlet)
        if not outlet.closed:
            self._drop(outlet, self._linger)
        self._connect(outlet.address)
        # The first of the list is the preferred one.
        self.outlets[place] = self.outlets.pop()


def open_bound(config: Mapping[str, Any], name: str, candidates: list[str]) -> BoundPublisher:
    """Bind the first free address of a list, or share the one that this process has bound.

    Args:
        config: The configuration.
        name: Whose addresses they are, for the error.
        candidates: The addresses.

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

    Args:
        config: The configuration.
        key: The key under which the addresses are configured, for errors.
        relays: The addresses, the preferred one first.

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
    """Give up one use of a publisher; the last one closes it, within ``zmq_linger``."""
    with _lock:
        publisher.users -= 1
        if publisher.users:
            return
        for identity in [key for key, value in _open.items() if value is publisher]:
            del _open[identity]
        # Under the lock: whoever opens the same address next must find it free.
        publisher.shut()


def _in_child() -> None:
    global _lock
    _inherited.append(dict(_open))
    _open.clear()
    _subscribers.clear()
    _lock = threading.RLock()


contexts.after_fork(_in_child)
