# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small records that the broker keeps for us: a queue each, with the newest one and no other."""

from __future__ import annotations

from functools import partial
from typing import Any

from fedmsg._util import plugins
from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.steps import Steps

__all__ = ["keep_record", "read_record"]

ARGUMENTS = {"x-queue-type": "quorum", "x-max-length": 1}


def read_record(channel: Any, queue: str) -> Steps:
    """Return what a record says, and leave it; None where there is none, or another program holds it."""
    answer = yield partial(calls.declare_queue, channel, queue, ARGUMENTS)
    if not answer.method.message_count:
        return None
    found = yield partial(_get, channel, queue)
    if found is None:
        return None
    tag, body = found
    channel.basic_nack(tag, requeue=True)
    return body


def keep_record(channel: Any, queue: str, body: bytes) -> Steps:
    """Put a record in place of the one before it."""
    client: Any = plugins.lazy("amqp")
    channel.basic_publish("", queue, body, client.properties_of(None, {}))
    # Answered after the message was taken.
    yield partial(calls.declare_queue, channel, queue, ARGUMENTS)


def _get(channel: Any, queue: str, done: Any) -> None:
    client: Any = plugins.lazy("amqp")
    client.when_empty(channel, lambda *_: done(None))
    channel.basic_get(queue, lambda _, method, properties, body: done((method.delivery_tag, body)))
