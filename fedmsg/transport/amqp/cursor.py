# SPDX-License-Identifier: LGPL-2.1-or-later
"""How far a durable reader of the broker's stream has come: the one message of a queue, whose consumer is the reader.

The queue has one active consumer. A second reader of the name waits for the message, and gets it when the first has
gone. To move on is to publish the next message, and to acknowledge the one before it when that has come; after a crash
in between there are two, of which the later one counts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from fedmsg._util import plugins
from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.steps import Steps

__all__ = ["CURSORS", "Cursor"]

log = logging.getLogger("fedmsg.transport")

#: The queues of cursors begin with this.
CURSORS = "fedmsg.cursor."
_ARGUMENTS = {"x-queue-type": "quorum", "x-max-length": 1, "x-single-active-consumer": True}
_NONE = -1
_PREFETCH = 10


class Cursor:
    """The cursor of a durable reader; used in the thread of the link.

    Args:
        name: The name of the durable subscription.
        stream: The name of the stream; the place in another one counts for nothing.

    Attributes:
        offset: The offset of the last message that is handled; None where the name is new.
    """

    def __init__(self, name: str, stream: str) -> None:
        self._stream = stream
        self.queue = CURSORS + name
        self.offset: int | None = None
        self._channel: Any = None
        self._tag = 0
        self._written: int | None = None
        self._taken: Callable[[Any], None] | None = None

    def take(self, channel: Any) -> Steps:
        """Wait until this is the reader, and read how far the last one has come."""
        self._channel = channel
        found = yield partial(calls.declare_queue, channel, self.queue, _ARGUMENTS)
        if found.method.consumer_count:
            log.info("%s: another reader has the name; this one waits until it goes", self.queue)
        elif not found.method.message_count:
            self._publish(None)
        yield partial(calls.limit, channel, _PREFETCH)
        yield self._wait

    def _wait(self, done: Callable[[Any], None]) -> None:
        self._taken = done
        self._channel.basic_consume(self.queue, self._took)

    def _took(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Take the message that says how far; a later one than before counts."""
        del properties
        offset = _read(body, self._stream)
        is_older = offset is None or (self.offset is not None and offset < self.offset)
        if is_older and self._tag:
            channel.basic_ack(method.delivery_tag)
        else:
            self._acknowledge()
            self._tag = method.delivery_tag
        if not is_older:
            self.offset = offset
        if self._taken is not None:
            taken, self._taken = self._taken, None
            taken(None)

    def _acknowledge(self) -> None:
        if self._tag:
            self._channel.basic_ack(self._tag)
            self._tag = 0

    def write(self, offset: int, *, is_last: bool = False) -> None:
        """Note that everything up to an offset is handled; after the last time no answer is waited for."""
        if self._channel is None or not self._channel.is_open or offset == self._written:
            return
        self.offset = self._written = offset
        self._publish(offset)
        if is_last:
            self._acknowledge()

    def _publish(self, offset: int | None) -> None:
        client: Any = plugins.lazy("amqp")
        body = json.dumps({"offset": offset, "stream": self._stream}).encode()
        self._channel.basic_publish("", self.queue, body, client.properties_of(None, {}))

    def lost(self) -> None:
        """Forget the connection."""
        self._channel, self._tag, self._taken, self._written = None, 0, None, None


def _read(body: bytes, stream: str) -> int | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("stream", stream) != stream:
        return None
    offset = found.get("offset")
    return offset if type(offset) is int and offset >= _NONE else None
