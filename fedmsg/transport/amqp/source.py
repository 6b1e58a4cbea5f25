# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listening to a broker: a `fedmsg.transport.base.Source` that reads a queue of its own."""

from __future__ import annotations

import logging
import select
from collections.abc import Container, Iterable, Mapping
from functools import partial
from typing import Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import Closeable, Waker
from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.link import Link
from fedmsg.transport.amqp.receiving import BrokerDelivery, Receiving
from fedmsg.transport.amqp.steps import Step, Steps
from fedmsg.transport.zmq import contexts

__all__ = ["BaseSource", "BrokerSource", "open_source"]

log = logging.getLogger("fedmsg.transport")

# A listener acknowledges what it takes, so that this is all that waits in its memory.
_LISTENER_PREFETCH = 1000


class BaseSource(Closeable):
    """What receives from a broker, whatever the queue.

    Args:
        config: The configuration.
        receiving: What is done with the connection.
        rejections: Where rejected messages are counted and logged.
        name: The name that the management of the broker shows.

    Attributes:
        duplicates: How many messages were dropped because they had come before; none here.

    Raises:
        ConfigError: A URL or a file for TLS can't be used.
        MissingExtra: The library is not installed.
    """

    duplicates = 0
    #: Seconds after which `poll` is to be called again: it need not be, the thread looks after everything.
    recheck: float | None = None

    def __init__(self, config: Mapping[str, Any], receiving: Receiving, rejections: RejectionLog, name: str) -> None:
        self._closed = True  # until there is something to close
        self.rejections = rejections
        self._receiving = receiving
        self._generation = contexts.generation
        self._link = receiving.link = Link(config, receiving, name)
        self._waker = Waker()
        self._closed = False
        try:
            self._link.start()
        except BaseException:
            self.close()
            raise

    # ---------------------------------------------------------------- receiving

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to `poll`."""
        return self._receiving.ready.fileno()

    def poll(self, limit: int) -> list[Any]:
        """Return what has arrived, at most so many, without waiting.

        Raises:
            TransportError: The broker refuses for good what is asked of it.
        """
        return self._receiving.take(limit)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is something to `poll`, or `wake` is called; it may return earlier."""
        if self.idle:
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            poll.poll(None if timeout is None else max(0.0, timeout) * 1000)

    def wait_for_wake(self, timeout: float) -> None:
        """Wait until `wake` is called, and leave messages where they are."""
        self._waker.wait(timeout)

    def wake(self) -> None:
        """End a wait of the owner; any thread may call this."""
        self._waker.wake()
        self._receiving.ready.wake()

    @property
    def idle(self) -> bool:
        """Whether everything that has arrived is read, so that `fileno` may be waited for."""
        return not self._receiving.arrived

    # ---------------------------------------------------------------- state

    @property
    def connected(self) -> list[str]:
        """The node that serves at the moment, if one does."""
        return [self._link.address] if self._link.server is not None else []

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        return {
            "endpoints": 1,
            "node": self._link.address,
            "connected": len(self.connected),
            "connections": self._link.connections,
            "unacked": self._receiving.unacked,
            "rejected": self.rejections.counts.total(),
            "duplicates": self.duplicates,
            "received": self._receiving.counts["received"],
        }

    def _close(self) -> None:
        # In a forked child the thread is not there, and the connection is that of the parent.
        if self._generation == contexts.generation:
            self._link.close()
        else:
            self._link._closed = True
        self._receiving.ready.close()
        self._waker.close()


class _Listening(Receiving):
    """Receives by a queue that belongs to the connection, and ends with it."""

    def declare(self, channel: Any, open_channel: Step) -> Steps:
        """Make the queue; the broker names it."""
        del open_channel
        answer = yield partial(calls.declare_own, channel)
        self._queue = answer.method.queue


class BrokerSource(BaseSource):
    """Listens: what is published while it is connected arrives, and nothing else.

    Args:
        config: The configuration.
        topics: The beginnings of topics that are wanted.
        rejections: Where rejected messages are counted and logged; one of its own when not given.
    """

    def __init__(
        self, config: Mapping[str, Any], topics: Iterable[str] = ("",), *, rejections: RejectionLog | None = None
    ) -> None:
        self._closed = True  # until there is something to close
        self._topics = [*topics]
        rejections = rejections or RejectionLog(log)
        super().__init__(config, _Listening(config, self._topics, rejections, _LISTENER_PREFETCH), rejections, "tail")

    def poll(self, limit: int) -> list[BrokerDelivery]:
        """Return what has arrived, at most so many, without waiting; the broker may forget it.

        Raises:
            TransportError: The broker refuses for good what is asked of it.
        """
        taken = self._receiving.take(limit)
        for delivery in taken:
            delivery.ack()
        return taken

    def subscribe(self, prefixes: Iterable[str]) -> None:
        """Receive topics that begin with these, from now on."""
        self._topics += prefixes
        self._receiving.want(self._topics)

    def unsubscribe(self, prefixes: Iterable[str]) -> None:
        """Receive topics that begin with these no more."""
        for prefix in prefixes:
            if prefix in self._topics:
                self._topics.remove(prefix)
        self._receiving.want(self._topics)


def open_source(
    config: Mapping[str, Any],
    endpoints: Iterable[tuple[str, str]],
    topics: Iterable[str] = ("",),
    *,
    whole: Container[str] = (),
    passive: bool = False,
    rejections: RejectionLog | None = None,
) -> BrokerSource:
    """Listen to the broker; what is about endpoints makes no difference.

    Raises:
        ConfigError: A URL or a file for TLS can't be used.
        MissingExtra: The library is not installed.
    """
    del endpoints, whole, passive
    return BrokerSource(config, topics, rejections=rejections)
