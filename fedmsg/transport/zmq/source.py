# SPDX-License-Identifier: LGPL-2.1-or-later
"""The receiving side of ZeroMQ: what tail, asyncio, the hub and the commands receive through.

A source belongs to the thread that opens it. Up to `OWN_SOCKETS` endpoints have a socket each; all
others share one, where the descriptor of its connection shows which endpoint a message came from.
The sockets' descriptors wait together in one selector: the cost of waiting does not grow with them.

Relays with a store that hand on to each other pass on the same message, each of them. A source drops what it has
seen where the configuration names more than one such relay; on other buses a message may be sent again on purpose.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Container, Generator, Iterable, Mapping
from typing import Any

import zmq

from fedmsg import _wire
from fedmsg._util.bounded import SEEN_MESSAGES, SeenIds
from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import Closeable, Waker
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, MessageError, ValidationError
from fedmsg.transport.base import Delivery
from fedmsg.transport.zmq import addresses, contexts, curve, sockets
from fedmsg.transport.zmq.connections import Connections
from fedmsg.transport.zmq.resolver import Resolved, Resolver
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["OWN_SOCKETS", "Received", "Source", "accepted", "tail"]

log = logging.getLogger("fedmsg.transport")

#: The name and address that a message came by, its topic, and the envelope.
Received = tuple[str, str, str, dict[str, Any]]
#: Answers whether an envelope may be passed on.
Check = Callable[[dict[str, Any]], bool]

#: Endpoints that have a socket of their own. It costs four descriptors, a shared one costs each endpoint one.
OWN_SOCKETS = 64
# Seconds between two looks while names are to be found, or connections to be made anew.
_RECHECK = 0.1
# How long an opening source waits for the first name. The usual names take a millisecond; a name server
# that does not answer must not delay the other endpoints.
_FIRST_NAME_TIMEOUT = 0.05
# Seconds between two looks at the other endpoints while messages wait at some.
_LOOK_INTERVAL = 0.005
# So many messages are read at once by `tail`.
_BATCH = 200

# Where the address behind a host name has changed since it was resolved.
_UNKNOWN = ("", "an endpoint")
_MAX_TOPIC = _wire.MAX_TOPIC_BYTES
_NOBLOCK = int(zmq.NOBLOCK)
_SOURCE_DESCRIPTOR = int(zmq.SRCFD)


class _Channel:
    """A socket with its endpoints."""

    __slots__ = ("connections", "endpoint", "socket")

    def __init__(self, socket: Socket, connections: Connections | None, endpoint: tuple[str, str] | None) -> None:
        self.socket = socket
        self.connections = connections
        self.endpoint = endpoint

    def find(self, descriptor: int) -> tuple[str, str]:
        """Return name and address of the endpoint of a connection that is not known yet."""
        assert self.connections is not None
        self.connections.observe()
        found = self.connections.by_descriptor.get(descriptor)
        return found.label if found is not None else _UNKNOWN

    def close(self) -> None:
        if self.connections is not None:
            self.connections.close()
        self.socket.close(0)


class Source(Closeable):
    """Subscribes to endpoints and returns what they send as deliveries, not decoded.

    Only the number of frames and their size are checked.

    Args:
        endpoints: Pairs of name and address; an address is connected once.
        whole: Names whose endpoints are subscribed to for all topics, not only for ``topics``.
        passive: Bind the addresses instead of connecting to them.
        rejections: Where rejected messages are counted and logged; one of its own when not given.

    Attributes:
        duplicates: How many messages were dropped because they had come before, by another relay.

    Raises:
        ConfigError: Something in the list is no address, none can be connected to, a topic can't be sent,
            or the hard limit of open files is too low.
        AddressInUse: One can't be bound.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        endpoints: Iterable[tuple[str, str]],
        topics: Iterable[str] = ("",),
        *,
        whole: Container[str] = (),
        passive: bool = False,
        rejections: RejectionLog | None = None,
    ) -> None:
        self._closed = True  # until there is something to close
        self.rejections = rejections or RejectionLog(log)
        self._config = config
        self._topics = [*map(_encoded, topics)]
        self._whole = whole
        self._max_size: int = settings.get(config, "max_message_size")
        self._names = addresses.by_address(endpoints)
        self.duplicates = 0
        self._seen = SeenIds[int](SEEN_MESSAGES) if len(self._names) > 1 and _has_several_relays(config) else None
        own = [name in whole for name in self._names.values()]
        self._shared = 0 if passive else max(0, len(own) - sum(own) - OWN_SOCKETS)
        contexts.allow_open_files(4 * (len(own) - self._shared) + self._shared, f"{len(own)} endpoints")
        self._generation = contexts.generation
        self._context = contexts.acquire(settings.get(config, "io_threads"))
        self._closed = False
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._register(self._waker.fileno(), self._waker.clear)
        self._channels: list[_Channel] = []
        self._shared_channel: _Channel | None = None
        # A socket's descriptor reports a change once; until a read has found the socket empty it stays here.
        self._hot: dict[_Channel, None] = {}
        self._next_look = 0.0
        self._unsettled: dict[_Channel, None] = {}
        self._resolver = Resolver([] if passive else [*self._names])
        try:
            self._open(passive=passive)
        except BaseException:
            self.close()
            raise

    # ---------------------------------------------------------------- opening

    def _open(self, *, passive: bool) -> None:
        if passive:
            for address, name in self._names.items():
                channel = self._add_channel(name, None, (name, address))
                sockets.bind(channel.socket, address, "endpoints")
            return
        curve.prepare(self._config, set(self._names.values()))
        error = self._connect_resolved(_FIRST_NAME_TIMEOUT)
        if error is not None and not self._channels and not self._resolver.pending:
            raise error

    def _connect_resolved(self, timeout: float = 0.0) -> ConfigError | None:
        """Connect to what was resolved since; an endpoint that can't be connected to does not affect the others."""
        failed = None
        for resolved in self._resolver.ready(timeout):
            try:
                self._connect(self._names[resolved.address], resolved)
            except ConfigError as error:
                log.error("%s; this address is ignored", error)
                failed = error
        return failed

    def _connect(self, name: str, resolved: Resolved) -> None:
        shares = name not in self._whole and len(self._channels) >= OWN_SOCKETS and self._shared > 0
        channel = self._shared_channel if shares else None
        if channel is None:
            channel = self._add_channel(name, resolved, None if shares else (name, resolved.address))
            if shares:
                self._shared_channel = channel
        assert channel.connections is not None
        try:
            channel.connections.add(name, resolved)
        except BaseException:
            if not shares:
                self._remove_channel(channel)
            raise
        # Connecting may have taken in what the descriptor would have reported.
        self._hot[channel] = None

    def _add_channel(self, name: str, resolved: Resolved | None, endpoint: tuple[str, str] | None) -> _Channel:
        bound = resolved is None
        socket = sockets.subscriber(
            self._context, self._config, bound=bound, endpoints=1 if endpoint else len(self._names)
        )
        try:
            for topic in [b""] if name in self._whole else self._topics:
                socket.subscribe(topic)
            connections = None if bound else Connections(self._context, socket, self._config, self.rejections)
        except BaseException:
            socket.close(0)
            raise
        channel = _Channel(socket, connections, endpoint)
        self._channels.append(channel)
        self._hot[channel] = None
        self._register(int(socket.FD), lambda: self._hot.setdefault(channel))
        if connections is not None:
            self._register(connections.monitor.fileno(), lambda: self._observe(channel))
        return channel

    def _register(self, descriptor: int, call: Callable[[], object]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, call)

    def _remove_channel(self, channel: _Channel) -> None:
        self._channels.remove(channel)
        self._hot.pop(channel, None)
        self._selector.unregister(int(channel.socket.FD))
        if channel.connections is not None:
            self._selector.unregister(channel.connections.monitor.fileno())
        channel.close()

    # ---------------------------------------------------------------- receiving

    def poll(self, limit: int) -> list[Delivery]:
        """Return what has arrived, without waiting."""
        now = time.monotonic()
        if now >= self._next_look or not self._hot:
            self._next_look = now + _LOOK_INTERVAL
            self._look(0.0)
        batch: list[Delivery] = []
        # Each channel in its turn, so that a busy one does not delay the others.
        for channel in list(self._hot):
            del self._hot[channel]
            if self._read(channel, batch, limit):
                self._hot[channel] = None
            if len(batch) >= limit:
                break
        return batch

    def _read(self, channel: _Channel, batch: list[Delivery], limit: int) -> bool:
        """Read a channel until it or the batch is exhausted; whether there may be more in it."""
        receive, max_size, add, seen = channel.socket.recv, self._max_size, batch.append, self._seen
        name, address = channel.endpoint or _UNKNOWN
        by_descriptor = None if channel.endpoint or channel.connections is None else channel.connections.by_descriptor
        for _ in range(limit - len(batch)):
            # Received as a Frame, a frame shows whether another one follows. Asking the socket for that
            # takes four times as long as receiving does.
            try:
                first = receive(_NOBLOCK, copy=False)
            except zmq.Again:
                return False
            if by_descriptor is not None:
                endpoint = by_descriptor.get(first.get(_SOURCE_DESCRIPTOR))
                name, address = endpoint.label if endpoint else channel.find(first.get(_SOURCE_DESCRIPTOR))
            try:
                second = receive(_NOBLOCK, copy=False) if first.more else None
                if second is None or second.more:
                    raise _miscounted(channel.socket, second)
                topic, body = first.bytes, second.bytes
                if (size := len(topic)) > _MAX_TOPIC or size + len(body) > max_size:
                    _wire.check_size(size + len(body), max_size)
                    _wire.check_topic(topic)
            except MessageError as error:
                self.rejections.add(address, error)
            else:
                # The hash of Python is a keyed one, so that no sender can make two messages have the same.
                if seen is None or seen.add(hash((topic, body))):
                    add(Delivery(address, topic, body, 1, name))
                else:
                    self.duplicates += 1
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is something to `poll`, or `wake` is called; it may return earlier."""
        if not self._hot:
            recheck = self.recheck
            self._look(timeout if recheck is None else recheck if timeout is None else min(timeout, recheck))

    def wait_for_wake(self, timeout: float) -> None:
        """Wait until `wake` is called, and leave messages where they are."""
        self._waker.wait(timeout)

    def wake(self) -> None:
        """End a wait of the owner; any thread may call this."""
        self._waker.wake()

    def _look(self, timeout: float | None) -> None:
        """Wait for descriptors, and do what they ask for."""
        for key, _ in self._selector.select(timeout):
            key.data()
        if self._resolver.pending:
            self._connect_resolved()
        if self._unsettled:
            self._reopen()

    def _observe(self, channel: _Channel) -> None:
        assert channel.connections is not None
        channel.connections.observe()
        if channel.connections.unsettled:
            self._unsettled[channel] = None

    def _reopen(self) -> None:
        now = time.monotonic()
        for channel in list(self._unsettled):
            connections = channel.connections
            assert connections is not None
            if connections.reopen(now):
                self._hot[channel] = None
            if not connections.unsettled:
                del self._unsettled[channel]

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to `poll`."""
        return self._selector.fileno()

    @property
    def idle(self) -> bool:
        """Whether everything that has arrived is read, so that `fileno` may be waited for."""
        return not self._hot

    @property
    def recheck(self) -> float | None:
        """How many seconds a caller may wait for `fileno` before it calls `poll` again; None: without a limit."""
        return _RECHECK if self._resolver.pending or self._unsettled else None

    # ---------------------------------------------------------------- subscriptions and state

    def subscribe(self, prefixes: Iterable[str | bytes]) -> None:
        """Receive topics that begin with these, from now on; not what is subscribed to as a whole."""
        for prefix in map(_encoded, prefixes):
            self._topics.append(prefix)
            for channel in self._channels:
                channel.socket.setsockopt(zmq.SUBSCRIBE, prefix)

    def unsubscribe(self, prefixes: Iterable[str | bytes]) -> None:
        """Receive topics that begin with these no more."""
        for prefix in map(_encoded, prefixes):
            self._topics.remove(prefix)
            for channel in self._channels:
                channel.socket.setsockopt(zmq.UNSUBSCRIBE, prefix)

    @property
    def connected(self) -> list[str]:
        """The addresses to which a connection stands."""
        found = []
        for channel in self._channels:
            if channel.connections is not None:
                channel.connections.observe()
                found += channel.connections.connected
        return found

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        return {
            "endpoints": len(self._names),
            "connected": len(self.connected),
            "rejected": self.rejections.counts.total(),
            "duplicates": self.duplicates,
        }

    def _close(self) -> None:
        self._waker.close()
        self._selector.close()
        self._resolver.stop()
        # In a forked child the sockets are those of the parent.
        if self._generation == contexts.generation:
            for channel in self._channels:
                channel.close()
            self._channels.clear()
            contexts.release(self._generation)


def _has_several_relays(config: Mapping[str, Any]) -> bool:
    """Return whether more than one relay with a store is configured."""
    return any(len(addresses.as_list(settings.get(config, key))) > 1 for key in ("relay_stream", "relay_confirmed"))


def _encoded(topic: str | bytes) -> bytes:
    try:
        return topic if isinstance(topic, bytes) else topic.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"the topic {error.object!r} can't be written in UTF-8") from error


def _miscounted(socket: Socket, second: zmq.Frame | None) -> MessageError:
    """Read the frames that are too many, if any, and return an error that counts them."""
    frames = 1 if second is None else 2
    while second is not None and second.more:
        second = socket.recv(_NOBLOCK, copy=False)
        frames += 1
    return MessageError(f"it has {frames} frame{'s' if frames > 1 else ''} instead of 2", "frames")


def accepted(delivery: Delivery, validate: Check | None, rejections: RejectionLog) -> Received | None:
    """Return what was received, decoded and checked; None where it is rejected."""
    try:
        envelope = delivery.envelope()
        if validate is not None and not delivery.is_trusted and not validate(envelope):
            raise ValidationError(envelope)
    except MessageError as error:
        rejections.add(delivery.address, error)
        return None
    return delivery.name, delivery.address, envelope["topic"], envelope


def tail(open_source: Callable[[], Source], validate: Check | None = None) -> Generator[Received, None, None]:
    """Yield what arrives and is valid, for ever."""
    with open_source() as source:
        while True:
            for delivery in source.poll(_BATCH):
                received = accepted(delivery, validate, source.rejections)
                if received is not None:
                    yield received
            source.wait()
