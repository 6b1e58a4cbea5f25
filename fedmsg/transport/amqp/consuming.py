# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a consumer of a hub reads by: a durable queue of its own, which outlives the hub and any node."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fedmsg._util.ratelimit import RateLimitedLog, RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import UsageError
from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.cursor import CURSORS
from fedmsg.transport.amqp.receiving import BrokerDelivery, Receiving
from fedmsg.transport.amqp.records import keep_record, read_record
from fedmsg.transport.amqp.source import BaseSource
from fedmsg.transport.amqp.steps import Step, Steps
from fedmsg.transport.amqp.topology import patterns_of

__all__ = ["ConsumerSource", "open_reader", "queue_of", "queues_of"]

log = logging.getLogger("fedmsg.transport")

#: Queues of consumers begin with this, and so do the records of what they are bound to.
_PREFIX = "fedmsg."
_BINDINGS = "fedmsg.bindings."
# Seconds between two looks at how many messages wait at the broker.
_LOOK_S = 5.0
# Seconds within which all that is sent ahead is to be acknowledged; the broker waits for 30 minutes.
_ACK_WITHIN_S = 300.0


def queue_of(name: str) -> str:
    """Return the name of a consumer's queue."""
    return f"{_PREFIX}{name}"


def queues_of(name: str) -> list[str]:
    """Return the names of all queues that a name may have: messages, their bindings, the cursor of a reader."""
    return [queue_of(name), _BINDINGS + name, CURSORS + name]


class _Consuming(Receiving):
    """Receives by a quorum queue with a name.

    Attributes:
        depth: How many messages wait at the broker.
        others: How many consumers the queue has.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        prefixes: list[str],
        rejections: RejectionLog,
        *,
        name: str,
        is_ordered: bool,
    ) -> None:
        most = min(settings.get(config, "broker_prefetch"), settings.get(config, "consumer_queue_limit"))
        super().__init__(config, prefixes, rejections, most)
        self._most = self._wanted = most
        # To consume again would pass the queue on to a hub that waits for it.
        self.is_ordered = is_ordered
        self._name = name
        self._queue = queue_of(name)
        self._arguments: dict[str, Any] = {"x-queue-type": "quorum"}
        if is_ordered:
            self._arguments["x-single-active-consumer"] = True
        self.depth = self.others = 0
        self._looked = 0.0

    def declare(self, channel: Any, open_channel: Step) -> Steps:
        """Make the queue unless it is there, and find out what it is bound to."""
        del open_channel
        answer = yield partial(calls.declare_queue, channel, self._queue, self._arguments)
        self._note(answer)

    def bind(self) -> Steps:
        """Bring the bindings up to date: those of the topics that the consumer had before are removed."""
        before = yield from read_record(self._channel, _BINDINGS + self._name)
        self._bound = set(_patterns(before))
        wanted = patterns_of(self._prefixes)
        new = sorted(wanted - self._bound)
        yield from super().bind()
        # What was bound before is bound again all the same: it may have been removed by hand.
        for pattern in sorted(wanted - set(new)):
            yield partial(calls.bind, self._channel, self._queue, self._exchange, pattern)
        if _patterns(before) != sorted(wanted):
            yield from keep_record(self._channel, _BINDINGS + self._name, json.dumps(sorted(wanted)).encode())

    def look(self) -> None:
        """Ask how many messages wait, every few seconds; called in the thread."""
        if time.monotonic() - self._looked >= _LOOK_S and self._channel is not None:
            self._looked = time.monotonic()
            self.link.perform(self._ask())

    def fit(self, prefetch: int) -> None:
        """Have so many messages sent ahead, unless that is nearly as now; any thread may call this."""
        wanted = max(1, min(prefetch, self._most))
        if wanted < self._prefetch or wanted >= 2 * self._prefetch:
            self._wanted = wanted
            self.link.wake()

    def _consume_again(self) -> Steps:
        """Consume with another limit, which the broker takes at the beginning only; what is in work stays so."""
        self._prefetch = self._wanted
        yield partial(calls.cancel, self._channel, self._consumer_tag)
        yield from self.consume()

    def _ask(self) -> Steps:
        answer = yield partial(calls.find_queue, self._channel, self._queue)
        self._note(answer)

    def _note(self, answer: Any) -> None:
        self.depth, self.others = answer.method.message_count, answer.method.consumer_count
        self._looked = time.monotonic()

    def woken(self) -> None:
        """Acknowledge what is to be, and look at the queue now and then."""
        super().woken()
        self.look()
        if self._wanted != self._prefetch and self._channel is not None:
            self.link.perform(self._consume_again())


def _patterns(record: bytes | None) -> list[str]:
    """Return what a record of bindings has; nothing where it can't be read."""
    try:
        found = json.loads(record or b"[]")
    except ValueError:
        return []
    return sorted(one for one in found if isinstance(one, str)) if isinstance(found, list) else []


class ConsumerSource(BaseSource):
    """Reads for one consumer: a message is the broker's until it is acknowledged.

    Args:
        config: The configuration.
        prefixes: The beginnings of the topics of the consumer.
        name: The name of the consumer, of which that of the queue is made.
        is_ordered: Whether one hub at a time has the messages, in order, and others wait; else they share them.
        rejections: Where rejected messages are counted and logged.
    """

    _receiving: _Consuming

    def __init__(
        self,
        config: Mapping[str, Any],
        prefixes: Sequence[str],
        name: str,
        *,
        is_ordered: bool,
        rejections: RejectionLog,
    ) -> None:
        self._closed = True  # until there is something to close
        receiving = _Consuming(config, [*prefixes], rejections, name=name, is_ordered=is_ordered)
        self._slow = RateLimitedLog(log)
        super().__init__(config, receiving, rejections, name)

    def poll(self, limit: int) -> list[BrokerDelivery]:
        """Return what has arrived, at most so many, without waiting.

        Raises:
            TransportError: The broker refuses for good what is asked of it.
        """
        return self._receiving.take(limit)

    def pace(self, seconds: float) -> None:
        """Lower the prefetch so that what is sent ahead is handled in time; log what takes too long by itself."""
        if seconds > _ACK_WITHIN_S:
            self._slow.report(
                "slow", f"{self._receiving.what()}: its consumer takes {seconds:.0f} s for a message, and RabbitMQ "
                "closes the channel after 30 minutes: pass long work on, or raise consumer_timeout there",
            )  # fmt: skip
        if seconds > 0 and not self._receiving.is_ordered:
            self._receiving.fit(int(_ACK_WITHIN_S / seconds))

    def totals(self) -> dict[str, int]:
        """Return counts for those of the consumer."""
        receiving = self._receiving
        # The next call has what this one asks for.
        self._link.wake()
        return {
            "queued": receiving.depth,
            "unacked": receiving.unacked,
            "sharing": receiving.others,
            "connected": len(self.connected),
            "connections": self._link.connections,
        }


def open_reader(
    config: Mapping[str, Any],
    prefixes: Sequence[str],
    name: str,
    *,
    is_ordered: bool,
    rejections: RejectionLog,
    stored: Callable[[], object],
    begin: Mapping[str, Any],
) -> ConsumerSource:
    """Open what reads for a consumer.

    Raises:
        UsageError: A place to begin is asked for: a queue begins when it is made.
        ConfigError: A URL or a file for TLS can't be used.
        MissingExtra: The library is not installed.
    """
    del stored
    if begin:
        raise UsageError("--since, --after and --first are for the stream of a relay: a queue begins when it is made")
    return ConsumerSource(config, prefixes, name, is_ordered=is_ordered, rejections=rejections)
