# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is received from a broker, and acknowledged: deliveries, and the job of the thread that takes them."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from fedmsg import _wire
from fedmsg._util import plugins
from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import Waker
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.format import REST, envelope_of
from fedmsg.transport.amqp.link import Link
from fedmsg.transport.amqp.problems import BrokerRefusal
from fedmsg.transport.amqp.steps import Step, Steps
from fedmsg.transport.amqp.topology import check_exchange, patterns_of
from fedmsg.transport.amqp.urls import Server
from fedmsg.transport.base import Delivery

__all__ = ["ENDPOINT", "BrokerDelivery", "Receiving"]

log = logging.getLogger("fedmsg.transport")

#: The name that deliveries have, as those of an endpoint have its name.
ENDPOINT = "broker"


class BrokerDelivery(Delivery):
    """A message from a queue of a broker, which keeps it until it is acknowledged.

    Args:
        receiving: Where it is acknowledged.
        tag: Its number on the connection that it came by.
        topic: Its routing key.
        body: Its body as it came.
        properties: Its properties.
    """

    __slots__ = ("_body", "_connection", "_properties", "_receiving", "_tag", "position", "stored")

    is_kept = True

    def __init__(self, receiving: Receiving, tag: int, topic: str, body: bytes, properties: Any) -> None:
        # Written out: this is done for each message that is received.
        self.address = receiving.address
        self.frame = topic.encode(errors="surrogateescape")
        self.takers = 1
        self.name = ENDPOINT
        self._decoded = None
        self._receiving, self._tag, self._connection = receiving, tag, receiving.connection
        self._body, self._properties = body, properties
        self.position = None
        self.stored = time.time()

    @property
    def is_trusted(self) -> bool:  # type: ignore[override]
        """Whether it is of a program of others, and those are trusted."""
        return self._receiving.trusts and REST not in (self._properties.headers or ())

    def _parse(self) -> dict[str, Any]:
        if self._receiving.unreadable in (self._properties.headers or ()):
            raise MessageError("its properties can't be decoded", "properties")
        return envelope_of(self.frame.decode(errors="replace"), self._body, self._properties, self.stored)

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The envelope as it goes over ZeroMQ; the body alone, where that is none."""
        try:
            return _wire.encode(self._parse(), self.frame.decode(errors="replace"))
        except MessageError:
            return self._body

    def ack(self) -> None:
        """Acknowledge it: the broker forgets it."""
        self._receiving.acknowledge(self._connection, self._tag)

    def nack(self, error: BaseException | None = None, *, requeue: bool = False) -> None:  # noqa: ARG002 - the signature is that of Delivery
        """Acknowledge it all the same, unless it is to be delivered again: that happens when the connection ends."""
        if not requeue:
            self.ack()


class Receiving:
    """The job of a link that receives; a subclass says from which queue.

    Args:
        config: The configuration.
        prefixes: The beginnings of topics that are wanted.
        rejections: Where rejected messages are counted and logged.
        prefetch: How many messages the broker sends ahead of their acknowledgement.

    Attributes:
        ready: Readable when something has arrived.
        arrived: What has arrived and was not taken yet.
        counts: ``received`` and ``passed_over``.
        connection: The number of the connection, which deliveries belong to.
        unacked: How many messages are not acknowledged.
        ending: The error that has ended it for good.
        trusts: Whether messages of other programs are trusted.
        has_begun: Whether the queue has been set up at least once.
    """

    link: Link
    #: Whether the queue is bound to the topics that are wanted.
    follows_topics = True

    def __init__(self, config: Mapping[str, Any], prefixes: list[str], rejections: RejectionLog, prefetch: int) -> None:
        self._client: Any = plugins.lazy("amqp")
        self.unreadable: str = self._client.UNREADABLE
        self._oversized: str = self._client.OVERSIZED
        self._exchange = str(settings.get(config, "broker_exchange"))
        self.trusts = bool(settings.get(config, "broker_trusted"))
        self._max_size: int = settings.get(config, "max_message_size")
        self._prefixes = tuple(prefixes)
        self._bound: set[str] = set()
        self._rejections = rejections
        self._prefetch = prefetch
        self._queue = self._consumer_tag = ""
        self._channel: Any = None
        self._acks: deque[tuple[int, int]] = deque()
        self._is_woken = False
        # The lowest number that is not acknowledged, and those above it that are.
        self._low = 1
        self._acked: set[int] = set()
        self._refusals = 0
        self.ready = Waker()
        self.arrived: deque[BrokerDelivery] = deque()
        self.counts: Counter[str] = Counter()
        self.connection = self.unacked = 0
        self.address = ""
        self.ending: Exception | None = None
        self.has_begun = False

    # ---------------------------------------------------------------- any thread

    def want(self, prefixes: list[str]) -> None:
        """Receive topics that begin with these, from now on."""
        self._prefixes = tuple(prefixes)
        self.link.wake()

    def acknowledge(self, connection: int, tag: int) -> None:
        """Acknowledge a message; one of a connection that has ended comes again."""
        self._acks.append((connection, tag))
        if not self._is_woken:
            self._is_woken = True
            self.link.wake()

    def take(self, limit: int) -> list[BrokerDelivery]:
        """Return what has arrived, at most so many.

        Raises:
            TransportError: The broker refuses for good what is asked of it.
        """
        self.ready.clear()
        taken: list[BrokerDelivery] = []
        try:
            while len(taken) < limit:
                taken.append(self.arrived.popleft())
        except IndexError:
            pass
        else:
            self.ready.wake()
        if not taken and self.ending is not None:
            # For the next wait, too.
            self.ready.wake()
            raise self.ending
        return taken

    # ---------------------------------------------------------------- the thread

    def what(self) -> str:
        """Return what it works with."""
        return f"the queue {self._queue!r}" if self._queue else "a queue of its own"

    def declare(self, channel: Any, open_channel: Step) -> Steps:
        """Make the queue; ``_queue`` is its name from then on."""
        raise NotImplementedError

    def prepare(self, open_channel: Step) -> Steps:
        """Find out where to begin; most queues know that."""
        del open_channel
        yield from ()

    def steps(self, open_channel: Step, server: Server) -> Steps:
        """Set the queue up, and begin to consume it."""
        yield from check_exchange(open_channel, self._exchange, server)
        channel = yield open_channel
        self._begin(channel, server)
        yield from self.declare(channel, open_channel)
        yield from self.bind()
        yield from self.prepare(open_channel)
        yield from self.consume()
        self.has_begun, self._refusals = True, 0

    def _begin(self, channel: Any, server: Server) -> None:
        self._channel, self.address = channel, server.label
        self.connection += 1
        self._low, self.unacked = 1, 0
        self._acked.clear()
        self._bound = set()
        channel.add_on_cancel_callback(self._cancelled)

    def bind(self) -> Steps:
        """Bring the bindings up to date."""
        wanted = patterns_of(self._prefixes)
        for pattern in sorted(wanted - self._bound):
            yield partial(calls.bind, self._channel, self._queue, self._exchange, pattern)
        for pattern in sorted(self._bound - wanted):
            yield partial(calls.unbind, self._channel, self._queue, self._exchange, pattern)
        self._bound = wanted

    def consume(self) -> Steps:
        """Begin to consume."""
        yield partial(calls.limit, self._channel, self._prefetch)
        answer = yield partial(calls.consume, self._channel, self._queue, self.took, self.arguments())
        self._consumer_tag = answer.method.consumer_tag

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the consumer."""
        return {}

    def took(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Take a message."""
        if channel is not self._channel:
            return
        self.unacked += 1
        topic, tag = method.routing_key, method.delivery_tag
        size = len(topic) + (len(body) or self._dropped(properties))
        if size > self._max_size:
            error = MessageError(f"it has {size} bytes, more than max_message_size allows ({self._max_size})", "size")
            self._rejections.add(self.address, error)
        elif topic.startswith(self._prefixes):
            self.counts["received"] += 1
            self.put(BrokerDelivery(self, tag, topic, body, properties))
            return
        self.counts["passed_over"] += 1
        self.acknowledge(self.connection, tag)

    def _dropped(self, properties: Any) -> int:
        """Return how many bytes of a body that is too large the connection has dropped."""
        size = (properties.headers or {}).get(self._oversized)
        # Others may write such a header too, and anything into it.
        return size if isinstance(size, int) and size > 0 else 0

    def put(self, delivery: BrokerDelivery) -> None:
        """Pass a message on to the owner."""
        is_first = not self.arrived
        self.arrived.append(delivery)
        if is_first:
            self.ready.wake()

    def woken(self) -> None:
        """Acknowledge what is to be, and bring the bindings up to date."""
        self._is_woken = False
        self._send_acks()
        if self.follows_topics and self._channel is not None and self._bound != patterns_of(self._prefixes):
            self.link.perform(self.bind())

    def _send_acks(self) -> None:
        tags = []
        while self._acks:
            connection, tag = self._acks.popleft()
            if connection == self.connection:
                tags.append(tag)
        if not tags or self._channel is None or not self._channel.is_open:
            return
        self.unacked -= len(tags)
        first = self._low
        self._acked.update(tags)
        while self._low in self._acked:
            self._acked.discard(self._low)
            self._low += 1
        last = self._low - 1
        if last > first and last in tags:
            # One answer for all up to here.
            self._channel.basic_ack(last, multiple=True)
            tags = [tag for tag in tags if tag > last]
        for tag in tags:
            self._channel.basic_ack(tag)

    def _cancelled(self, frame: Any) -> None:
        """Connect again when the broker has ended the consumer: its queue was removed, or its node is down."""
        del frame
        problem = BrokerRefusal(f"{self.address} has ended the consumer of {self.what()}: it was removed, or is down")
        self.link.drop(problem)

    def lost(self, problem: BrokerRefusal) -> None:
        """Forget the connection; end for good where all nodes refuse from the beginning."""
        self._channel = None
        self.unacked = 0
        # What was not taken yet comes again.
        self.arrived.clear()
        if problem.is_permanent:
            self._refusals += 1
            if not self.has_begun and self._refusals >= len(self.link.servers):
                self.fail(problem)
        else:
            self._refusals = 0

    def fail(self, error: Exception) -> None:
        """End for good."""
        self.ending = error
        self.link.stop()
        self.ready.wake()

    def finish(self) -> None:
        """Send the last acknowledgements."""
        self._send_acks()
