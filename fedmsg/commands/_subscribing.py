# SPDX-License-Identifier: LGPL-2.1-or-later
"""The flags with which a command reads the stream of a relay, from some place on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg.commands._options import flag
from fedmsg.exceptions import UsageError
from fedmsg.stream.begin import place_of

if TYPE_CHECKING:
    from fedmsg.core import FedMsgContext
    from fedmsg.stream.messages import Message, MessageStream

__all__ = ["BEGIN_FLAGS", "FLAGS", "UNTIL", "messages", "requested"]

# How often a command that ends by itself looks whether it is at the end, in seconds.
_LOOK_S = 0.1


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"{text!r} is not a number of messages")
    return number


_SINCE = flag(
    "--since",
    metavar="TIME",
    help="Begin in the stream of a relay with what was stored since then: 2026-05-01T12:00, or 90s, 2h, 7d.",
)
_AFTER = flag("--after", metavar="PLACE", help="Begin in the stream after a position, or the message of this msg_id.")
_FIRST = flag("--first", action="store_true", help="Begin in the stream with the first message that is kept.")
#: Where a hub lets durable consumers begin.
BEGIN_FLAGS = [_SINCE, _AFTER, _FIRST]
FLAGS = [
    _SINCE,
    _AFTER,
    flag("--last", type=_count, metavar="N", help="Begin in the stream with so many of the newest messages it shows."),
    _FIRST,
    flag("--durable", metavar="NAME", help="Go on in the stream where the last reader of this name has stopped."),
]
UNTIL = flag("--until", choices=["now"], help="End at what is the end of the stream when the command starts.")


def requested(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return where the flags let a subscription begin; None where they do not ask for the stream.

    Raises:
        UsageError: They contradict each other, or ``--after`` is no place.
    """
    given = {name: config.get(name) for name in ("since", "after", "last")} | {"first": config.get("first") or None}
    places = [f"--{name}" for name, value in given.items() if value is not None]
    if len(places) > 1:
        raise UsageError(f"{' and '.join(places)}: only one of them can say where to begin")
    if not places and config.get("durable") is None:
        if config.get("until"):
            raise UsageError("--until is for the stream: add --since, --after, --last, --first or --durable")
        return None
    after = config.get("after")
    place = None if after is None else place_of(after)
    begin = {key: config.get(key) for key in ("since", "last", "durable")}
    return {**begin, "after": 0 if config.get("first") else place}


def _until_now(stream: MessageStream) -> Iterator[Message]:
    """Yield the messages up to what is the newest position when the subscription begins."""
    end = None
    while True:
        # Before: what is received in the meantime is read first.
        looked_at = None if stream.is_recovering else stream.position
        message = stream.read(_LOOK_S)
        if end is None and stream.position is not None:
            end = stream.newest
        if message is not None:
            if end is not None and message.position is not None and message.position > end:
                return
            yield message
            if message.position == end:
                # No other one is asked for, by which it would be acknowledged.
                message.ack()
                return
        # Of the last ones none may match: then the relay reports how far it has looked.
        elif end is not None and looked_at is not None and looked_at >= end:
            return


def messages(context: FedMsgContext, config: Mapping[str, Any], topic: str, begin: dict[str, Any]) -> Iterator[Message]:
    """Yield the messages of a subscription, for ever or until now."""
    with context.subscribe(topic, **begin) as stream:
        yield from _until_now(stream) if config.get("until") else stream
