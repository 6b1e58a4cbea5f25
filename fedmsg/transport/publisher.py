# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an application publishes through: bound for all to subscribe, or connected to a relay.

Publishers are shared: threads of a process that publish to the same addresses use one
publisher under one lock. `open_bound` and `open_connected` count its users, `close` ends
it with the last of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import zmq

from fedmsg import _settings
from fedmsg.exceptions import AddressInUse, ConfigError, NotListening
from fedmsg.transport import addresses, curve, options, process, watcher
from fedmsg.transport.options import Socket
from fedmsg.transport.outlet import Outlet

__all__ = ["BoundPublisher", "ConnectedPublisher", "Publisher", "close", "open_bound", "open_connected"]

log = logging.getLogger("fedmsg.transport")

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
# How many subscriptions each address had when this process last gave it up: so many will be back.
_subscribers: dict[str, int] = {}


class Publisher:
    """What bound and connected publishers have in common.

    Args:
        config: The configuration.
        names: The addresses it is for, for messages to people.

    Attributes:
        users: How many opened it and have not closed it yet.
    """

    def __init__(self, config: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self.users = 0
        self.names = names
        # Entered as the bare lock: entering a condition is Python code, and a signal handler that
        # raises in there would leave it locked.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.outlets: list[Outlet] = []
        self._config = dict(config)
        self._generation = process.generation
        self._context = process.acquire(_settings.get(config, "io_threads"))
        self._linger: int = _settings.get(config, "zmq_linger")
        self._next_look = 0.0
        self._lost = 0

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

        Raises:
            NotListening: No relay listened within ``timeout``.
            AddressInUse: The socket had to be opened anew, and somebody else has taken its address.
        """
        while True:
            with self.lock:
                now = time.monotonic()
                if now >= self._next_look:
                    self._look(now)
                outlet = self._ready(topic)
                if outlet is None:
                    outlet = self._wait(topic, now)
                    now = time.monotonic()
                if not outlet.broken:
                    outlet.send(topic, body, now)
                    return
            self._mend_elsewhere()

    def _ready(self, topic: bytes) -> Outlet | None:
        """Give the outlet to send on, or a broken one, if there is one at once."""
        raise NotImplementedError

    def _wait(self, topic: bytes, start: float) -> Outlet:
        """The same, after waiting for it as is promised."""
        raise NotImplementedError

    def _renew(self, outlet: Outlet) -> None:
        """Close a broken outlet and put a new one in its place."""
        raise NotImplementedError

    def _mend(self) -> Exception | None:
        """Replace the broken outlets; gives the reason where that can't be done."""
        with self.lock:
            try:
                for outlet in [outlet for outlet in self.outlets if outlet.broken]:
                    self._renew(outlet)
            except zmq.ZMQError as error:
                return AddressInUse(f"{', '.join(self.names)} can't be opened again: {error.strerror}")
            finally:
                self.changed.notify_all()
        return None

    def _mend_elsewhere(self) -> None:
        """Replace the broken outlets in a thread, where no signal handler can interrupt it.

        They run in the main thread only.
        """
        outcome: list[Exception | None] = []
        mender = threading.Thread(target=lambda: outcome.append(self._mend()), name="fedmsg-mender", daemon=True)
        mender.start()
        mender.join()
        if outcome and outcome[0] is not None:
            raise outcome[0]

    def _add(self, socket: Socket, address: str, *, manual: bool) -> Outlet:
        window = float(_settings.get(self._config, "timeout"))
        outlet = Outlet(
            self._context, socket, address, manual=manual, window=window, changed=self.changed, mend=self._mend
        )
        self.outlets.append(outlet)
        return outlet

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
        if self._generation != process.generation:
            return
        with self.lock:
            outlets, self.outlets = self.outlets, []
            for outlet in outlets:
                self._drop(outlet, self._linger)
        process.release(self._generation)


class BoundPublisher(Publisher):
    """Binds one address for any number of subscribers.

    Its first message waits, at most ``post_init_sleep``, for a first subscriber: once per
    process and address. Where the process had bound the address before, it waits for as
    many as there were, since all of them are about to connect again.
    """

    def __init__(self, config: Mapping[str, Any], address: str) -> None:
        super().__init__(config, (address,))
        self._patience = float(_settings.get(config, "post_init_sleep"))
        self._expected = _subscribers.get(address, 1)
        self._wait_until = 0.0
        try:
            self._bind()
        except BaseException:
            process.release(self._generation)
            raise

    def _bind(self) -> None:
        socket = options.publisher(self._context, self._config, bound=True)
        try:
            options.bind(socket, addresses.bindable(self.names[0]), "endpoints")
        except BaseException:
            socket.close(0)
            raise
        watcher.watch(self._add(socket, self.names[0], manual=False))

    def _ready(self, topic: bytes) -> Outlet | None:  # noqa: ARG002 - it serves every topic
        return None if self._expected else self.outlets[0]

    def _wait(self, topic: bytes, start: float) -> Outlet:  # noqa: ARG002 - the same
        # The time runs from the first message on. Other threads wait with it, and so does the
        # next message where this one is interrupted.
        self._wait_until = self._wait_until or start + self._patience
        while self._expected > self.outlets[0].subscribed:
            left = self._wait_until - time.monotonic()
            if left <= 0:
                break
            self.changed.wait(min(left, _RECHECK))
            if self.outlets[0].broken:
                return self.outlets[0]
            self.outlets[0].look(time.monotonic())
        self._expected, self._wait_until = 0, 0.0
        return self.outlets[0]

    def shut(self) -> None:
        """Close the socket; bounded by ``zmq_linger``."""
        for outlet in self.outlets:
            _subscribers[outlet.address] = outlet.connections and outlet.subscribed
        super().shut()

    def _renew(self, outlet: Outlet) -> None:
        if not outlet.closed:
            if outlet.connections:
                self._expected = max(self._expected, outlet.subscribed)
            self._wait_until = 0.0
            self._drop(outlet, self._linger)
        self._bind()
        self.outlets.remove(outlet)


class ConnectedPublisher(Publisher):
    """Connects to a relay, or to several of which the first that answers is used."""

    def __init__(self, config: Mapping[str, Any], key: str, relays: tuple[str, ...]) -> None:
        super().__init__(config, relays)
        self._key = key
        self._timeout = float(_settings.get(config, "timeout"))
        self._given_up = False
        try:
            for address in relays:
                self._connect(address)
        except BaseException:
            self.shut()
            raise

    def _connect(self, address: str) -> None:
        socket = options.publisher(self._context, self._config, bound=False)
        try:
            curve.as_client(socket, self._config, self._key)
            options.connect(socket, address, self._key)
        except BaseException:
            socket.close(0)
            raise
        watcher.watch(self._add(socket, address, manual=True))

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
                return outlet
        return None

    def _wait(self, topic: bytes, start: float) -> Outlet:
        deadline = start + (0.0 if self._given_up else self._timeout)
        while True:
            self._look(time.monotonic())
            outlet = self._ready(topic)
            if outlet is not None:
                self._given_up = False
                return outlet
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self.changed.wait(min(left, _RECHECK))
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
            except zmq.ZMQError as error:
                if error.errno == zmq.EADDRINUSE:
                    continue
                raise ConfigError(f"endpoints[{name!r}]: {address} can't be bound: {error.strerror}") from error
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
    settings = (_settings.get(config, name) for name in _SOCKET_SETTINGS)
    identity = ("connected", *relays, *settings, *curve.identity(config, key))
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


process.after_fork(_in_child)
