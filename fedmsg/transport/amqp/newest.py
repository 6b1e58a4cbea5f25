# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the stream of a broker ends: found by reading its last chunk, since no answer of AMQP has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.format import SENT_AT, seconds_of
from fedmsg.transport.amqp.link import Link
from fedmsg.transport.amqp.steps import Step, Steps

__all__ = ["OFFSET", "Newest", "newest_of", "offset_of"]

#: The header with the offset of a message, and the argument with that of the first one wanted.
OFFSET = "x-stream-offset"
_PREFETCH = 1000
# A chunk comes at once. Seconds without a further message after which it has come; and until the first one has to.
_QUIET_S = 0.3
_FIRST_S = 1.0


class Newest(NamedTuple):
    """The newest message of a stream.

    Attributes:
        position: Its position; 0 where the stream is empty.
        sent: When it was sent, in seconds since the epoch; None where it does not say.
    """

    position: int = 0
    sent: int | None = None


def newest_of(open_channel: Step, queue: str, link: Link) -> Steps:
    """Return the newest message of a stream."""
    channel = yield open_channel
    yield partial(calls.limit, channel, _PREFETCH)
    found = yield partial(_read_last, channel, queue, link)
    channel.close()
    return found


def offset_of(properties: Any) -> int:
    """Return the offset of a message."""
    return int((properties.headers or {}).get(OFFSET) or 0)


def _read_last(channel: Any, queue: str, link: Link, done: Callable[[Any], None]) -> None:
    found, count = Newest(), 0

    def took(_: Any, method: Any, properties: Any, body: bytes) -> None:
        nonlocal found, count
        del body
        count += 1
        found = Newest(offset_of(properties) + 1, seconds_of((properties.headers or {}).get(SENT_AT)))
        channel.basic_ack(method.delivery_tag)
        link.later(_QUIET_S, partial(look, count))

    def look(at: int) -> None:
        # Unless more has come since.
        if at == count:
            done(found)

    channel.basic_consume(queue, took, arguments={OFFSET: "last"})
    link.later(_FIRST_S, partial(look, 0))
