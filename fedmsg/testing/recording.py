# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records what a hub under test does: what it publishes, and which methods of its consumers and producers fail."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from fedmsg._util.service import SafeCondition, ServiceThread
from fedmsg.hub import Consumer, PollingProducer

__all__ = ["Catcher", "Failure", "Failures"]

# How soon it connects when the address is bound.
_RECONNECT_MS = 5


class Catcher(ServiceThread):
    """Listens at an address that publishers bind and one that they connect to; keeps what arrives, not decoded."""

    def __init__(self, publisher_address: str, relay_address: str, changed: SafeCondition) -> None:
        super().__init__("fedmsg-testing-catcher")
        self.caught: list[tuple[bytes, bytes]] = []
        self._addresses = publisher_address, relay_address
        self._changed = changed

    def run(self) -> None:
        """Listen until the end."""
        publisher_address, relay_address = self._addresses
        with zmq.Context() as context, context.socket(zmq.SUB) as first, context.socket(zmq.SUB) as second:
            poller = zmq.Poller()
            poller.register(self.waker, zmq.POLLIN)
            for socket in (first, second):
                socket.setsockopt(zmq.RCVHWM, 0)
                socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
                socket.setsockopt(zmq.LINGER, 0)
                socket.subscribe(b"")
                poller.register(socket, zmq.POLLIN)
            first.connect(publisher_address)
            second.bind(relay_address)
            self.ready()
            while not self.stopping:
                for socket, _ in poller.poll():
                    if isinstance(socket, zmq.Socket):
                        frames = socket.recv_multipart()
                        with self._changed.lock:
                            self.caught.append((frames[0], frames[-1]))
                            self._changed.notify_all()

    def take(self, frames: list[tuple[bytes, bytes]]) -> None:
        """Take some messages out of what was caught."""
        with self._changed.lock:
            self.caught = [caught for caught in self.caught if caught not in frames]


@dataclass(frozen=True)
class Failure:
    """An exception that got out of a method.

    Attributes:
        who: The consumer or producer; the class, where it was its constructor.
        message: What the method was given, if anything.
    """

    who: Any
    where: str
    error: BaseException
    message: Any = None


class Failures:
    """Watches methods, by taking their place on an instance.

    Attributes:
        found: The failures so far.
        polls: How often each producer has polled, by its id.
    """

    def __init__(self, changed: SafeCondition) -> None:
        self.found: list[Failure] = []
        self.polls: Counter[int] = Counter()
        self._returned = 0
        self._changed = changed
        # Of the message that a thread handles: a try that failed may be followed by one that does not.
        self._hand = threading.local()

    def guarded(self, kind: Any) -> Callable[[Any], Any]:
        """Return what makes an instance of a class, and notes when that fails."""

        @functools.wraps(kind, updated=())
        def make(hub: Any) -> Any:
            try:
                return kind(hub)
            except (Exception, SystemExit) as error:
                self._add(Failure(kind, "__init__", error))
                raise

        return make

    def watch(self, one: Any) -> None:
        """Record the exceptions that get out of the methods of an instance, from now on."""
        self._replace(one, "stop", self._around)
        if isinstance(one, PollingProducer):
            self._replace(one, "poll", self._around)
        elif isinstance(one, Consumer):
            self._replace(one, "consume", self._around_consume)
            self._replace(one, "validate", self._around, (RuntimeWarning,))
            self._replace(one, "pre_consume", self._around)
            self._replace(one, "post_consume", self._around_post_consume)

    def _replace(
        self, one: Any, name: str, around: Callable[..., Any], expected: tuple[type[BaseException], ...] = ()
    ) -> None:
        setattr(one, name, functools.wraps(method := getattr(one, name))(around(one, method, expected)))

    def _around(self, one: Any, method: Callable[..., Any], expected: Any) -> Callable[..., Any]:
        def watched(*args: Any, **kw: Any) -> Any:
            try:
                return method(*args, **kw)
            except (KeyboardInterrupt, *expected):
                raise
            except BaseException as error:
                self._add(Failure(one, method.__name__, error, *args[:1]))
                raise
            finally:
                if method.__name__ == "poll":
                    self._count(one)

        return watched

    def _around_consume(self, one: Any, method: Callable[..., Any], _expected: Any) -> Callable[..., Any]:
        def watched(message: Any) -> Any:
            try:
                done = method(message)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._pending().append(Failure(one, "consume", error, message))
                raise
            self._pending().clear()
            return done

        return watched

    def _around_post_consume(self, one: Any, method: Callable[..., Any], expected: Any) -> Callable[..., Any]:
        around = self._around(one, method, expected)

        def watched(message: Any) -> Any:
            # There will be no other try.
            for failure in self._pending():
                self._add(failure)
            self._pending().clear()
            return around(message)

        return watched

    def _pending(self) -> list[Failure]:
        pending: list[Failure] = self._hand.__dict__.setdefault("failures", [])
        return pending

    def _add(self, failure: Failure) -> None:
        with self._changed.lock:
            self.found.append(failure)
            self._changed.notify_all()

    def _count(self, one: Any) -> None:
        with self._changed.lock:
            self.polls[id(one)] += 1
            self._changed.notify_all()

    @property
    def due(self) -> bool:
        """Whether there is a failure that was not returned yet."""
        return self._returned < len(self.found)

    def next(self) -> Failure | None:
        """Return the first failure that was not returned yet; the others then count as returned."""
        first, self._returned = self._returned, len(self.found)
        return self.found[first] if first < len(self.found) else None
