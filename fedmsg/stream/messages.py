# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program reads a stream with: checked messages one by one, each of which can be acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import Closeable
from fedmsg.exceptions import UsageError
from fedmsg.stream.begin import prefixes_of, requested
from fedmsg.stream.subscription import StreamDelivery, Subscription, checked_name
from fedmsg.transport import choice
from fedmsg.transport.zmq.source import accepted

if TYPE_CHECKING:
    from fedmsg.transport.zmq.source import Received

__all__ = ["BaseMessageStream", "Message", "MessageStream", "checked", "open_stream", "subscribe"]

_BATCH = 1000
#: Each message is acknowledged when the next one is asked for, or only by `Message.ack`.
ACK_MODES = ("auto", "manual")


class Message(tuple):  # type: ignore[type-arg] # noqa: SLOT001 - a tuple can have none, and no types of its own
    """A message of a stream: the name ``relay_stream``, the address of the relay, the topic and the envelope.

    Attributes:
        position: Its position in the stream; None where the relay no longer keeps it, and it is from a datagrepper.
        stored: When the relay stored it, in seconds since the epoch; without a position, its timestamp.
    """

    _delivery: StreamDelivery

    @property
    def position(self) -> int | None:
        """Its position in the stream; None where the relay no longer keeps it, and it is from a datagrepper."""
        return self._delivery.position

    @property
    def stored(self) -> float:
        """When the relay stored it, in seconds since the epoch; without a position, its timestamp."""
        return self._delivery.stored

    def ack(self) -> None:
        """Move the cursor of a durable subscription here: this message and all before it are handled."""
        self._delivery.ack()


# Quicker than to call the class.
_make = tuple.__new__


class BaseMessageStream:
    """What a stream of messages is, however one waits for it.

    Args:
        subscription: What it reads.
        ack_mode: ``auto`` acknowledges a message when the next one is asked for, ``manual`` leaves it to the caller.
    """

    def __init__(self, subscription: Subscription, ack_mode: str) -> None:
        self._subscription = subscription
        self._acks = ack_mode == "auto" and subscription.is_durable
        # What is taken from the subscription, each with what is accepted of it; it is checked as it is read.
        self._taken: Iterator[tuple[StreamDelivery, Received | None]] = iter(())
        self._previous: StreamDelivery | None = None

    def _acknowledge(self) -> None:
        """Acknowledge the message before the one that is asked for."""
        if self._previous is not None and self._acks:
            self._previous.ack()
        self._previous = None

    def _next_taken(self) -> Message | None:
        """Return the next message that is accepted of those that are taken; None when there is none."""
        for delivery, received in self._taken:
            if received is not None:
                self._previous = delivery
                message = _make(Message, received)
                message._delivery = delivery
                return message
            if self._acks:
                delivery.ack()
        return None

    @property
    def position(self) -> int | None:
        """The position up to which the stream was received; None before the subscription has begun."""
        return self._subscription.position

    @property
    def is_recovering(self) -> bool:
        """Whether what the relay no longer keeps is being read from a datagrepper."""
        return self._subscription.is_recovering

    @property
    def newest(self) -> int:
        """The newest position of the stream that is known."""
        return self._subscription.newest

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        return self._subscription.statistics()


class MessageStream(BaseMessageStream, Closeable):
    """Yields the messages of a subscription; a context manager.

    Args:
        subscription: What it reads, and closes.
        validate: Returns whether a message is valid; None where messages are not checked.
        ack_mode: ``auto`` acknowledges a message when the next one is asked for, ``manual`` leaves it to the caller.
    """

    def __init__(
        self, subscription: Subscription, validate: Callable[[Mapping[str, Any]], bool] | None, ack_mode: str
    ) -> None:
        super().__init__(subscription, ack_mode)
        self._validate = validate
        self._closed = False

    def __iter__(self) -> MessageStream:
        return self

    def __next__(self) -> Message:
        self._acknowledge()
        message = None if self._closed else self._next_taken()
        if message is None and (message := self.read()) is None:
            raise StopIteration
        return message

    def read(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None when there is none within ``timeout`` seconds, or it is closed.

        Raises:
            PositionGone: There is no such place to begin. A ValueError and LookupError.
            QueryError: The relay has rejected the subscription. A ValueError.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._acknowledge()
        while not self._closed:
            message = self._next_taken()
            if message is not None:
                return message
            batch = self._subscription.poll(_BATCH)
            self._taken = checked(batch, self._validate, self._subscription.rejections)
            if not batch:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._subscription.wait(left)
        return None

    def _close(self) -> None:
        self._subscription.close()


def checked(
    batch: Sequence[StreamDelivery], validate: Callable[[Mapping[str, Any]], bool] | None, rejections: RejectionLog
) -> Iterator[tuple[StreamDelivery, Received | None]]:
    """Yield each delivery with what is accepted of it; None where it is rejected."""
    return zip(batch, map(accepted, batch, repeat(validate), repeat(rejections)), strict=False)


def subscribe(
    config: Mapping[str, Any],
    topic: str | Iterable[str],
    rejections: RejectionLog,
    *,
    ack_mode: str = "auto",
    **begin: Any,
) -> Subscription:
    """Subscribe to the stream of the relay or broker; ``begin`` says where, as for `Subscription`.

    Raises:
        UsageError: The arguments make no sense. A ValueError.
        ConfigError: Something is no address, or there is none.
        RefusedAtStart: The keys for CURVE can't be read.
    """
    if ack_mode not in ACK_MODES:
        raise UsageError(f"ack_mode is {ack_mode!r}: write 'auto' or 'manual'")
    place = requested(**{name: begin.get(name) for name in ("after", "since", "last")})
    opened: Subscription = choice.of(config).load("subscription")(
        config, prefixes_of(topic), rejections=rejections, after=place.after, since=place.since, last=place.last,
        durable=checked_name(begin.get("durable")) or None,
    )  # fmt: skip
    return opened


def open_stream(
    config: Mapping[str, Any],
    topic: str | Iterable[str],
    validate: Callable[[Mapping[str, Any]], bool] | None,
    rejections: RejectionLog,
    *,
    ack_mode: str = "auto",
    **begin: Any,
) -> MessageStream:
    """Subscribe, and return what yields the messages; the arguments and errors are those of `subscribe`."""
    return MessageStream(subscribe(config, topic, rejections, ack_mode=ack_mode, **begin), validate, ack_mode)
