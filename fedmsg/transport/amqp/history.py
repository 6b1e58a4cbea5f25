# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream of a broker: what it keeps and then what comes, by one path; positions are its offsets, and 1 more."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import PositionGone
from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.cursor import Cursor
from fedmsg.transport.amqp.format import SENT_AT, seconds_of
from fedmsg.transport.amqp.newest import OFFSET, Newest, newest_of, offset_of
from fedmsg.transport.amqp.problems import BrokerRefusal, Refused
from fedmsg.transport.amqp.receiving import BrokerDelivery, Receiving
from fedmsg.transport.amqp.source import BaseSource
from fedmsg.transport.amqp.steps import Step, Steps

__all__ = ["StreamSource", "open_subscription"]

log = logging.getLogger("fedmsg.transport")

_NOT_FOUND = 404
# The cursor is written so often.
_WRITE_S = 1.0
_WRITE_ACKS = 1000
# Seconds by which the clocks of publishers and of the broker may differ.
_CLOCKS_S = 60.0


class StreamDelivery(BrokerDelivery):
    """A message of the stream, which keeps it whether or not it is acknowledged."""

    __slots__ = ()

    _receiving: _Reading

    def ack(self) -> None:
        """Move the cursor of a durable subscription here: this message and all before it are handled."""
        assert self.position is not None
        self._receiving.handled(self.position - 1)


class _Reading(Receiving):
    """Reads the stream from some offset on.

    Args:
        begin: Where to begin: at most one of ``after``, ``since`` and ``last``.
        durable: The name of a durable subscription; empty for a plain one.

    Attributes:
        newest: The newest position that is known.
        position: The position up to which the stream was received; None before it has begun.
        handled_to: The offset up to which everything is acknowledged.
    """

    follows_topics = False

    def __init__(
        self,
        config: Mapping[str, Any],
        prefixes: list[str],
        rejections: RejectionLog,
        *,
        begin: Mapping[str, Any],
        durable: str,
    ) -> None:
        super().__init__(config, prefixes, rejections, settings.get(config, "stream_credit"))
        self._queue = str(settings.get(config, "broker_stream"))
        self._made_with = _limits(config)
        self._wanted = {key: value for key, value in begin.items() if value is not None}
        self._cursor = Cursor(durable, self._queue) if durable else None
        # The offset of the next message; None where it is not known, because only the broker can find the place.
        self._next: int | None = None
        self._start: Any = None
        self._seeks_id: str | None = None
        self._since: float | None = None
        # Whether the place was named by its position, so that another one will not do.
        self._is_exact = False
        self.newest = 0
        self.position: int | None = None
        self.handled_to = -1
        self._ticks = False

    def what(self) -> str:
        """Return what it works with."""
        return f"the stream {self._queue!r}"

    def declare(self, channel: Any, open_channel: Step) -> Steps:
        """Find the stream, or make it with the configured limits."""
        own = yield open_channel
        try:
            yield partial(calls.find_queue, own, self._queue)
            own.close()
        except Refused as refused:
            if refused.code != _NOT_FOUND:
                raise
            yield partial(calls.declare_queue, channel, self._queue, self._made_with)
            log.info("made the stream %s, which keeps messages from now on", self._queue)

    def bind(self) -> Steps:
        """Bind it to everything, whatever this reader wants."""
        yield partial(calls.bind, self._channel, self._queue, self._exchange, "#")

    # ---------------------------------------------------------------- where to begin

    def prepare(self, open_channel: Step) -> Steps:
        """Find out where to begin, the first time; later it goes on after the last message."""
        if self._cursor is not None:
            own = yield open_channel
            yield from self._cursor.take(own)
            if self._cursor.offset is not None:
                self._next = max(self._next or 0, self._cursor.offset + 1)
                self.handled_to = max(self.handled_to, self._cursor.offset)
            self._tick()
        if self.position is not None and self._next is not None:
            self._start = self._next
            return
        newest = yield from newest_of(open_channel, self._queue, self.link)
        self.newest = max(self.newest, newest.position)
        if self._next is not None:
            if self._next > self.newest:
                log.warning(
                    "%s: position %d is behind the end of the stream, which has %d: if the stream was made anew, "
                    "remove the queue %s",
                    self._queue, self._next, self.newest, self._cursor.queue if self._cursor is not None else "",
                )  # fmt: skip
            self._begin_at(self._next)
        else:
            self._choose(newest)
        if self.position is None:
            self.position = 0

    def _begin_at(self, offset: int) -> None:
        """Begin with an offset, all before it being handled."""
        self._start = self._next = offset
        self.position = offset
        if self._cursor is not None and self._cursor.offset is None:
            self.handled_to = offset - 1
            self._cursor.write(offset - 1)

    def _choose(self, newest: Newest) -> None:
        """Begin where the program wants to, or end where there is no such place."""
        wanted, after = self._wanted, self._wanted.get("after")
        if isinstance(after, str) or after == 0:
            self._seeks_id = after or None
            self._start = "first"
        elif after is not None:
            if after > self.newest:
                self.fail(
                    PositionGone(f"the stream {self._queue} has no position {after}: its newest one is {self.newest}")
                )
            self._is_exact = True
            self._begin_at(after)
        elif "since" in wanted and (newest.sent is None or newest.sent >= int(wanted["since"])):
            self._since = wanted["since"]
            self._start = self._client.moment(self._since - _CLOCKS_S)
        else:
            self._begin_at(max(0, self.newest - wanted.get("last", 0)))

    def arguments(self) -> dict[str, Any]:
        """Return where the broker is to begin."""
        return {OFFSET: self._start}

    # ---------------------------------------------------------------- messages

    def took(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Take a message, and see what has become of those before it."""
        if channel is not self._channel:
            return
        # In a stream this asks for more, and nothing else.
        self.unacked += 1
        self.acknowledge(self.connection, method.delivery_tag)
        offset = offset_of(properties)
        if not self._note_gap(offset):
            return
        self._next, self.position = offset + 1, offset + 1
        self.newest = max(self.newest, offset + 1)
        if self._is_before_the_place(properties) or not method.routing_key.startswith(self._prefixes):
            self.ready.wake()
            return
        self.counts["received"] += 1
        delivery = StreamDelivery(self, method.delivery_tag, method.routing_key, body, properties)
        delivery.position = offset + 1
        delivery.stored = seconds_of((properties.headers or {}).get(SENT_AT)) or delivery.stored
        self.put(delivery)

    def _note_gap(self, offset: int) -> bool:
        """Count what the stream no longer has of what was to come next; False where that ends the subscription."""
        if self._next is None:
            if self._cursor is not None and self._cursor.offset is None:
                self.handled_to = max(self.handled_to, offset - 1)
        elif offset > self._next and self._is_exact:
            self.fail(PositionGone(f"the stream {self._queue} no longer has what follows position {self._next}"))
            return False
        elif offset > self._next:
            self.counts["lost"] += offset - self._next
            log.warning(
                "%s no longer has the positions %d to %d; it goes on after them",
                self._queue, self._next + 1, offset,
            )  # fmt: skip
        self._is_exact = False
        return True

    def _is_before_the_place(self, properties: Any) -> bool:
        """Return whether a message comes before the place to begin, which the broker finds by whole chunks only."""
        headers = properties.headers or {}
        if self._since is not None:
            if (seconds_of(headers.get(SENT_AT)) or self._since) < int(self._since):
                return True
            self._since = None
        if self._seeks_id is not None:
            found, wanted = properties.message_id, self._seeks_id
            # Ids of other programs have the year put in front by us.
            if found and (found == wanted or wanted.endswith(f"-{found}")):
                self._seeks_id = None
            elif self.position is not None and self.position >= self.newest:
                self.fail(PositionGone(f"the stream {self._queue} has no message {wanted!r}"))
            return True
        return False

    # ---------------------------------------------------------------- the cursor

    def handled(self, offset: int) -> None:
        """Note that everything up to an offset is handled; any thread may call this."""
        if offset > self.handled_to:
            self.handled_to = offset
            cursor = self._cursor
            if cursor is not None and offset - (cursor.offset or 0) >= _WRITE_ACKS:
                self.link.wake()

    def woken(self) -> None:
        """Ask for more messages, and write the cursor when it has moved far."""
        super().woken()
        cursor = self._cursor
        if cursor is not None and self.handled_to - (cursor.offset or 0) >= _WRITE_ACKS:
            cursor.write(self.handled_to)

    def _tick(self) -> None:
        if not self._ticks:
            self._ticks = True
            self.link.later(_WRITE_S, self._write)

    def _write(self) -> None:
        """Write the cursor every second."""
        assert self._cursor is not None
        if self.handled_to >= 0:
            self._cursor.write(self.handled_to)
        self.link.later(_WRITE_S, self._write)

    def finish(self) -> None:
        """Write the cursor for the last time."""
        if self._cursor is not None and self.handled_to >= 0:
            self._cursor.write(self.handled_to, is_last=True)
        super().finish()

    def lost(self, problem: BrokerRefusal) -> None:
        """Go on after the last message that was taken, on the next connection."""
        if self.arrived:
            # They are read again.
            self._next = (self.arrived[0].position or 1) - 1
        super().lost(problem)
        if self._cursor is not None:
            self._cursor.lost()


def _limits(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a stream is made with."""
    age, size = settings.get(config, "broker_stream_age"), settings.get(config, "broker_stream_bytes")
    arguments: dict[str, Any] = {"x-queue-type": "stream"}
    if age:
        arguments["x-max-age"] = f"{age}s"
    if size:
        arguments["x-max-length-bytes"] = size
    return arguments


class StreamSource(BaseSource):
    """Reads the stream of a broker; its attributes are those of `fedmsg.stream.subscription.Subscription`.

    Args:
        config: The configuration.
        topics: Prefixes of topics.
        rejections: Where rejected messages are counted and logged.
        begin: Where to begin.
        durable: The name of a durable subscription; empty for a plain one.
    """

    #: There is no datagrepper behind a broker.
    is_recovering = False
    _receiving: _Reading

    def __init__(
        self,
        config: Mapping[str, Any],
        topics: list[str],
        *,
        rejections: RejectionLog,
        begin: Mapping[str, Any],
        durable: str,
    ) -> None:
        self._closed = True  # until there is something to close
        #: Whether it has a name, so that acknowledging has an effect.
        self.is_durable = bool(durable)
        #: The name of the stream.
        self.stream = str(settings.get(config, "broker_stream"))
        receiving = _Reading(config, topics, rejections, begin=begin, durable=durable)
        super().__init__(config, receiving, rejections, durable or "stream")

    @property
    def position(self) -> int | None:
        """The position up to which the stream was received; None before the subscription has begun."""
        return self._receiving.position if self._receiving.has_begun else None

    @property
    def cursor(self) -> int | None:
        """The position up to which everything is acknowledged; None before the subscription has begun."""
        return self._receiving.handled_to + 1 if self._receiving.has_begun else None

    @property
    def newest(self) -> int:
        """The newest position of the stream that is known."""
        return self._receiving.newest

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        position = self.position
        return {
            **super().statistics(),
            "stream": self.stream,
            "position": position,
            "lag": 0 if position is None else max(0, self.newest - position),
            "lost": self._receiving.counts["lost"],
        }


def open_subscription(
    config: Mapping[str, Any],
    topics: Iterable[str],
    *,
    rejections: RejectionLog,
    after: int | str | None = None,
    since: float | None = None,
    last: int | None = None,
    durable: str | None = None,
) -> StreamSource:
    """Read the stream of the broker; the arguments are checked already.

    Raises:
        ConfigError: A URL or a file for TLS can't be used.
        MissingExtra: The library is not installed.
    """
    begin = {"after": after, "since": since, "last": last}
    return StreamSource(config, [*topics], rejections=rejections, begin=begin, durable=durable or "")
