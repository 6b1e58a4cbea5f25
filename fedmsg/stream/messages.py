# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program reads a stream with: checked messages one by one, each of which can be acknowledged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.exceptions import UsageError
from fedmsg.stream.subscription import StreamDelivery, Subscription
from fedmsg.transport.zmq.source import accepted

if TYPE_CHECKING:
    from typing_extensions import Self

    from fedmsg.transport.zmq.source import Received

__all__ = ["Message", "MessageStream", "open_stream"]

_BATCH = 1000
#: Each message is acknowledged when the next one is asked for, or only by `Message.ack`.
ACK_MODES = ("auto", "manual")


class Message(tuple):  # type: ignore[type-arg] # noqa: SLOT001 - a tuple can have none, and no types of its own
    """A message of a stream: the name ``relay_stream``, the address of the relay, the topic and the envelope.

    Attributes:
        position: Its position in the stream.
        stored: When the relay stored it, in seconds since the epoch.
    """

    _delivery: StreamDelivery

    def __new__(cls, received: Received, delivery: StreamDelivery) -> Self:
        """Make one of what was received."""
        made = super().__new__(cls, received)
        made._delivery = delivery
        return made

    @property
    def position(self) -> int:
        """Its position in the stream."""
        return self._delivery.position

    @property
    def stored(self) -> float:
        """When the relay stored it, in seconds since the epoch."""
        return self._delivery.stored

    def ack(self) -> None:
        """Move the cursor of a durable subscription here: this message and all before it are handled."""
        self._delivery.ack()


class MessageStream(Closeable):
    """Yields the messages of a subscription; a context manager.

    Args:
        subscription: What it reads, and closes.
        validate: Returns whether a message is valid; None where messages are not checked.
        ack_mode: ``auto`` acknowledges a message when the next one is asked for, ``manual`` leaves it to the caller.
    """

    def __init__(
        self, subscription: Subscription, validate: Callable[[Mapping[str, Any]], bool] | None, ack_mode: str
    ) -> None:
        self._subscription = subscription
        self._validate = validate
        self._acks = ack_mode == "auto"
        self._waiting: deque[StreamDelivery] = deque()
        self._previous: StreamDelivery | None = None
        self._closed = False

    def __iter__(self) -> MessageStream:
        return self

    def __next__(self) -> Message:
        message = self.read()
        if message is None:
            raise StopIteration
        return message

    def read(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None when there is none within ``timeout`` seconds, or it is closed.

        Raises:
            PositionGone: There is no such place to begin. A ValueError and LookupError.
            QueryError: The relay has rejected the subscription. A ValueError.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._previous is not None and self._acks:
            self._previous.ack()
        self._previous = None
        while not self._closed:
            while self._waiting:
                delivery = self._waiting.popleft()
                received = accepted(delivery, self._validate, self._subscription.rejections)
                if received is not None:
                    self._previous = delivery
                    return Message(received, delivery)
                if self._acks:
                    delivery.ack()
            self._waiting.extend(self._subscription.poll(_BATCH))
            if not self._waiting:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._subscription.wait(left)
        return None

    @property
    def position(self) -> int | None:
        """The position up to which the stream was received; None before the subscription has begun."""
        return self._subscription.position

    @property
    def newest(self) -> int:
        """The newest position of the stream that is known."""
        return self._subscription.newest

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        return self._subscription.statistics()

    def _close(self) -> None:
        self._subscription.close()


def open_stream(
    config: Mapping[str, Any],
    topic: str | Iterable[str],
    validate: Callable[[Mapping[str, Any]], bool] | None,
    rejections: RejectionLog,
    *,
    ack_mode: str = "auto",
    **begin: Any,
) -> MessageStream:
    """Subscribe to the stream at ``relay_stream``; ``begin`` says where, as for `Subscription`.

    Raises:
        UsageError: The arguments make no sense. A ValueError.
        ConfigError: Something is no address, or there is none.
        RefusedAtStart: The keys for CURVE can't be read.
    """
    if ack_mode not in ACK_MODES:
        raise UsageError(f"ack_mode is {ack_mode!r}: write 'auto' or 'manual'")
    addresses = settings.get(config, "relay_stream")
    return MessageStream(Subscription(config, addresses, topic, rejections=rejections, **begin), validate, ack_mode)
