# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `consume` gets, and what base classes of consumers add to its handling."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from fedmsg._util.text import quoted
from fedmsg.transport.base import Delivery

__all__ = ["Origin", "Received", "RunnerHooks", "ZMQMessage", "name_of"]


class Origin(NamedTuple):
    """Where a message comes from.

    Attributes:
        stream: The id of the stream that it comes from; empty where it comes from none.
        position: Its position there.
        stored: When the relay stored it, in seconds since the epoch.
        service: The service in ``replay_endpoints`` whose numbers it has; empty where it is not known to be of one.
        number: The last number of the service, once this message is handled.
        is_past: Whether it was read from a history, to make up for what was missed.
    """

    stream: str = ""
    position: int = 0
    stored: float | None = None
    service: str = ""
    number: int = -1
    is_past: bool = False


class Received(dict[str, Any]):
    """A message as a dict, with where it comes from: for consumers that store how far they are with their results.

    Attributes:
        origin: Where it comes from.
    """

    __slots__ = ("origin",)

    def __init__(self, topic: str, body: Any, origin: Origin) -> None:
        super().__init__(topic=topic, body=body)
        self.origin = origin

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy it with its origin."""
        return Received, (self["topic"], self["body"], self.origin)

    @classmethod
    def of(cls, delivery: Delivery, topic: str, body: Any) -> Received:
        """Return what was delivered."""
        position = delivery.position
        if position is None:
            # It may have waited in a file.
            return cls(topic, body, Origin(stored=getattr(delivery, "since", 0.0) or None))
        return cls(topic, body, Origin(getattr(delivery, "stream", ""), position, getattr(delivery, "stored", None)))


class ZMQMessage:
    """A message as text, for consumers that decode it themselves."""

    def __init__(self, topic: str, body: Any) -> None:
        self.topic = topic
        self.body = body

    @classmethod
    def of(cls, delivery: Delivery) -> ZMQMessage:
        """Return a delivery as text, which the receiver may change."""
        return cls(delivery.frame.decode("utf-8", "replace"), delivery.data.decode("utf-8", "replace"))

    def __json__(self) -> dict[str, Any]:
        """Return the topic and the body, as a dict."""
        return {"topic": self.topic, "body": self.body}


def name_of(message: Any) -> str:
    """Return the id of a message for the log; the message may be anything."""
    if isinstance(message, ZMQMessage):
        return f"with the topic {quoted(str(message.topic))}"
    if isinstance(message, list):
        return f"{name_of(message[0])} and {len(message) - 1} more"
    body = message.get("body") if isinstance(message, dict) else None
    msg_id = body.get("msg_id") if isinstance(body, dict) else None
    return quoted(msg_id) if isinstance(msg_id, str) else "without an id"


class RunnerHooks:
    """What a base class adds to the handling of its consumers, apart from the names that their authors use.

    Attributes:
        services: Names in ``endpoints`` of which every message has to be seen, in order, whatever its topic.
        is_ordered: Whether messages are handled one after the other.
        wants_origin: Whether `consume` gets messages with where they come from.
        idle: Methods of base classes that have nothing to do for this consumer; they are not called.
        more_missed: Yield further envelopes that were missed, with where they come from.
    """

    services: Collection[str] = ()
    is_ordered: bool = False
    wants_origin: bool = False
    admits: bool = False
    selects: bool = False
    notes_start: bool = False
    notes_end: bool = False
    idle: AbstractSet[Any] = frozenset()
    more_missed: Sequence[Callable[[], Iterable[tuple[dict[str, Any], Origin]]]] = ()

    def prepare(self) -> None:
        """Raise what keeps the consumer from working; called when the hub starts."""

    def recall(self) -> None:
        """Find out what was handled before; called before the first message, and again where it raises Unavailable."""

    def missed(self) -> Iterator[Any]:
        """Yield the messages to handle before those that arrive; they are checked already."""
        return iter(())

    def past(self, source: Callable[[], Iterable[tuple[dict[str, Any], Origin]]]) -> Iterator[Any]:
        """Yield what a source has of the past, checked, with where it comes from."""
        return (Received(envelope["topic"], envelope, origin) for envelope, origin in source())

    def validate_as_of(self, consumer: Any, message: Any, since: float) -> None:  # noqa: ARG002 - for subclasses
        """Check a message that arrived some time ago, at ``since``; raise RuntimeWarning if it is not valid."""
        consumer.validate(message)

    def validate_trusted(self, consumer: Any, message: Any) -> None:
        """Check a message that needs no signature; raise RuntimeWarning if it is not valid."""
        consumer.validate(message)

    def admit(self, message: Any) -> None:
        """Check a valid message by what was handled before; raise MessageError if it must not be handled."""

    def due(self, message: Any, item: Any) -> Iterable[Any]:  # noqa: ARG002 - for subclasses
        """Return the messages to handle now that one has arrived, which was made from an item."""
        return (message,)

    def started(self, messages: Sequence[Any]) -> None:
        """Note that the handling of messages starts."""

    def finished(self, messages: Sequence[Any]) -> None:
        """Note that messages were handled."""

    def totals(self) -> dict[str, int]:
        """Return further counts of messages, by kind."""
        return {}

    def end(self) -> None:
        """Wait for nothing any more: the hub begins to stop."""

    def close(self) -> None:
        """Close what is open: the hub has stopped."""
