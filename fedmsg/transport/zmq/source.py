# SPDX-License-Identifier: LGPL-2.1-or-later
"""From sockets to checked envelopes: what `tail_messages` and the hub receive through.

A receiver belongs to the thread that opens it. Each endpoint has a socket of its own,
since ZeroMQ does not tell which of its connections a message came by, and the sockets'
descriptors wait together in one selector: the cost of waiting does not grow with them.
"""

from __future__ import annotations

import logging
import selectors
import time
import warnings
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import zmq

from fedmsg import _wire
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, MessageError, ValidationError
from fedmsg.transport.zmq import addresses, contexts, curve, sockets
from fedmsg.transport.zmq.resolver import Resolver
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["Received", "Receiver"]

log = logging.getLogger("fedmsg.transport")

_NOBLOCK = int(zmq.NOBLOCK)
# So many messages are taken from one endpoint before the others have their turn; fewer where
# an event loop has other things to do.
_TURN = 1000
_SHORT_TURN = 50
# For so many seconds at most it is read without a break then.
_SLICE = 0.005
# How often names that could not be found yet are looked at, in seconds.
_RESOLVED_EVERY = 0.2

#: The name and address it came by, its topic, and the envelope.
Received = tuple[str, str, str, dict[str, Any]]


#: A socket's ``recv``.
Receive = Callable[..., zmq.Frame]


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
        whole: Names whose endpoints are subscribed to as a whole, whatever ``topics`` says.
        validate: Answers whether an envelope may be passed on; None lets all pass.
        passive: Bind the addresses instead of connecting to them.
        rejections: Where refused messages are counted and told of; one of its own when not given.

    Attributes:
        idle: Whether everything that has arrived is read.

    Raises:
        ConfigError: Something in the list is no address, or a topic can't be sent.
        AddressInUse: One can't be bound.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        endpoints: Iterable[tuple[str, str]],
        topics: Iterable[str] = ("",),
        *,
        whole: Container[str] = (),
        validate: Callable[[dict[str, Any]], bool] | None = None,
        passive: bool = False,
        rejections: RejectionLog | None = None,
    ) -> None:
        self.rejections = rejections or RejectionLog(log)
        self._config = config
        try:
            self._topics = [topic.encode() for topic in topics]
        except UnicodeEncodeError as error:
            raise ConfigError(f"the topic {error.object!r} can't be written in UTF-8") from error
        self._whole = whole
        self._validate = validate
        self._passive = passive
        self._max_size: int = settings.get(config, "max_message_size")
        self._names = {
            addresses.check(address, f"endpoints[{name!r}]"): name for name, address in reversed([*endpoints])
        }
        self._selector = selectors.DefaultSelector()
        self._sources: list[_Source] = []
        self._closed = False
        self.idle = False
        self._generation = contexts.generation
        self._context = contexts.acquire(settings.get(config, "io_threads"))
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
        socket = sockets.subscriber(self._context, self._config, bound=self._passive)
        try:
            for topic in [b""] if self._names[address] in self._whole else self._topics:
                socket.subscribe(topic)
            if self._passive:
                sockets.bind(socket, target, "endpoints")
            else:
                curve.as_client(socket, self._config, self._names[address])
                sockets.connect(socket, target, "endpoints")
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
                if (yield from self._read(source, _TURN)):
                    still_hot.append(source)  # noqa: PERF401 - a comprehension can't yield
            hot = self._wait(still_hot, self.recheck)

    def arriving(self) -> Iterator[Received | None]:
        """Yield what has arrived, and None where an event loop should do something else.

        Where `idle` is set with the None, wait until `fileno` is readable, `recheck` seconds
        at most, before going on.
        """
        hot = list(self._sources)
        pause = time.monotonic() + _SLICE
        while True:
            still_hot = []
            for source in hot:
                if (yield from self._read(source, _SHORT_TURN)):
                    still_hot.append(source)
                # What was refused has taken its time too.
                if time.monotonic() > pause:
                    yield None
                    pause = time.monotonic() + _SLICE
            hot = self._wait(still_hot, 0.0)
            if not hot:
                self.idle = True
                yield None
                self.idle = False
                pause = time.monotonic() + _SLICE

    def _read(self, source: _Source, turn: int) -> Generator[Received, None, bool]:
        """Yield what one endpoint has sent; answers whether it may have more after so many."""
        parse, validate, limit = _wire.parse, self._validate, self._max_size
        name, address, socket = source
        receive = socket.recv
        for _ in range(turn):
            # Received as a Frame, a frame brings along whether another one follows. To
            # ask the socket for that takes four times as long as receiving does.
            try:
                first = receive(_NOBLOCK, copy=False)
            except zmq.Again:
                return False
            try:
                second = receive(_NOBLOCK, copy=False) if first.more else None
                if second is None or second.more:
                    raise _miscounted(receive, second)
                topic, body = first.bytes, second.bytes
                if (size := len(topic) + len(body)) > limit:
                    _wire.check_size(size, limit)
                envelope = parse(topic, body)
                if validate is not None and not validate(envelope):
                    raise ValidationError(envelope)
            except MessageError as error:
                self.rejections.add(address, error)
            else:
                yield name, address, envelope["topic"], envelope
        return True

    def _wait(self, hot: list[_Source], timeout: float | None) -> list[_Source]:
        ready: list[_Source] = [key.data for key, _ in self._selector.select(0.0 if hot else timeout)]
        if self._resolver.pending:
            ready += self._add_resolved()
        return hot + [source for source in ready if source not in hot] if hot else ready

    def fileno(self) -> int:
        """A descriptor that is readable when something has arrived."""
        return self._selector.fileno()

    @property
    def recheck(self) -> float | None:
        """For how many seconds it may be waited for that; None is for ever."""
        return _RESOLVED_EVERY if self._resolver.pending else None

    def close(self) -> None:
        """Close all sockets; a second call does nothing."""
        if self._closed or self._generation != contexts.generation:
            return
        self._closed = True
        self._resolver.stop()
        self._selector.close()
        for source in self._sources:
            source.socket.close(0)
        self._sources.clear()
        contexts.release(self._generation)

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


def _miscounted(receive: Receive, second: zmq.Frame | None) -> MessageError:
    """Read the frames that are too many, if any, and say how many there were."""
    frames = 1 if second is None else 2
    while second is not None and second.more:
        second = receive(_NOBLOCK, copy=False)
        frames += 1
    return MessageError(f"it has {frames} frame{'s' if frames > 1 else ''} instead of 2", "frames")
