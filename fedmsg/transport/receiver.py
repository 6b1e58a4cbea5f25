# SPDX-License-Identifier: LGPL-2.1-or-later
"""From sockets to checked envelopes: what `tail_messages` and the hub receive through.

A receiver belongs to the thread that opens it. Each endpoint has a socket of its own,
since ZeroMQ does not tell which of its connections a message came by, and the sockets'
descriptors wait together in one selector: the cost of waiting does not grow with them.
"""

from __future__ import annotations

import logging
import selectors
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import zmq

from fedmsg import _settings, _wire
from fedmsg.exceptions import AddressInUse, MessageError, ValidationError
from fedmsg.transport import addresses, curve, options, process
from fedmsg.transport.options import Socket
from fedmsg.transport.refusals import Refusals
from fedmsg.transport.resolver import Resolver

__all__ = ["Received", "Receiver"]

log = logging.getLogger("fedmsg.transport")

_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)
# So many messages are taken from one endpoint before the others have their turn.
_TURN = 1000
# How often names that could not be found yet are looked at, in seconds.
_RESOLVED_EVERY = 0.2

#: The name and address it came by, its topic, and the envelope.
Received = tuple[str, str, str, dict[str, Any]]


class _Source(NamedTuple):
    name: str
    address: str
    socket: Socket


class Receiver:
    """Subscribes to endpoints and iterates over what they send.

    Args:
        config: The configuration.
        endpoints: Pairs of name and address; an address is connected once.
        topics: Prefixes to subscribe to.
        validate: Answers whether an envelope may be passed on; None lets all pass.
        passive: Bind the addresses instead of connecting to them.
        log: Where refused messages are told of.

    Raises:
        ConfigError: Something in the list is no address.
        AddressInUse: One can't be bound.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        endpoints: Iterable[tuple[str, str]],
        topics: Iterable[str] = ("",),
        *,
        validate: Callable[[dict[str, Any]], bool] | None = None,
        passive: bool = False,
        log: logging.Logger = log,
    ) -> None:
        self.refusals = Refusals(log)
        self._config = config
        self._topics = [topic.encode() for topic in topics]
        self._validate = validate
        self._passive = passive
        self._max_size: int = _settings.get(config, "max_message_size")
        self._names = {
            addresses.check(address, f"endpoints[{name!r}]"): name for name, address in reversed([*endpoints])
        }
        self._selector = selectors.DefaultSelector()
        self._sources: list[_Source] = []
        self._closed = False
        self._generation = process.generation
        self._context = process.acquire(_settings.get(config, "io_threads"))
        self._resolver = Resolver([] if passive else [*self._names])
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self._passive:
            for address in self._names:
                self._add(address, address)
            return
        # The usual names take a millisecond; a dead name server must not keep the rest waiting.
        self._add_resolved(patience=0.05)

    def _add_resolved(self, patience: float = 0.0) -> list[_Source]:
        return [self._add(address, target) for address, target in self._resolver.ready(patience)]

    def _add(self, address: str, target: str) -> _Source:
        socket = options.subscriber(self._context, self._config, bound=self._passive)
        try:
            for topic in self._topics:
                socket.subscribe(topic)
            if self._passive:
                options.bind(socket, target, "endpoints")
            else:
                curve.as_client(socket, self._config, self._names[address])
                options.connect(socket, target, "endpoints")
        except zmq.ZMQError as error:
            socket.close(0)
            raise AddressInUse(
                f"{address} can't be {'bound' if self._passive else 'used'}: {error.strerror}"
            ) from error
        except BaseException:
            socket.close(0)
            raise
        source = _Source(self._names[address], address, socket)
        self._sources.append(source)
        self._selector.register(int(socket.FD), selectors.EVENT_READ, source)
        return source

    def __iter__(self) -> Iterator[Received]:
        """Yield what arrives and is fit to be passed on, for ever."""
        # A socket's descriptor tells of news once; until a read has found the socket empty it stays in `hot`.
        hot = list(self._sources)
        while True:
            still_hot = []
            for source in hot:
                name, address, socket = source
                receive, read = socket.recv, self._read
                for _ in range(_TURN):
                    try:
                        frame = receive(_NOBLOCK)
                    except zmq.Again:
                        break
                    try:
                        envelope = read(socket, frame)
                    except MessageError as error:
                        self.refusals.add(address, error)
                    else:
                        yield name, address, envelope["topic"], envelope
                else:
                    still_hot.append(source)
            hot = self._wait(still_hot)

    def _read(self, socket: Socket, frame: bytes) -> dict[str, Any]:
        """Read the rest of a message of which the first frame is there."""
        if not socket.get(_RCVMORE):
            raise MessageError("it has 1 frame instead of 2", "frames")
        body = socket.recv(_NOBLOCK)
        if socket.get(_RCVMORE):
            raise MessageError(f"it has {2 + _drain(socket)} frames instead of 2", "frames")
        _wire.check_size(len(frame) + len(body), self._max_size)
        envelope = _wire.parse(frame, body)
        if self._validate is not None and not self._validate(envelope):
            raise ValidationError(envelope)
        return envelope

    def _wait(self, hot: list[_Source]) -> list[_Source]:
        timeout = 0.0 if hot else _RESOLVED_EVERY if self._resolver.pending else None
        ready: list[_Source] = [key.data for key, _ in self._selector.select(timeout)]
        if self._resolver.pending:
            ready += self._add_resolved()
        return hot + [source for source in ready if source not in hot] if hot else ready

    def close(self) -> None:
        """Close all sockets; a second call does nothing."""
        if self._closed or self._generation != process.generation:
            return
        self._closed = True
        self._resolver.stop()
        self._selector.close()
        for source in self._sources:
            source.socket.close(0)
        self._sources.clear()
        process.release(self._generation)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()


def _drain(socket: Socket) -> int:
    """Read the frames that are too many off the socket, and count them."""
    frames = 0
    while socket.get(_RCVMORE):
        socket.recv(_NOBLOCK)
        frames += 1
    return frames
