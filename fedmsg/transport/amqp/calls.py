# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of a channel, as functions whose last argument gets the answer: for `fedmsg.transport.amqp.steps`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "bind", "cancel", "cluster_of", "consume", "declare_exchange", "declare_own", "declare_queue", "delete_queue",
    "find_exchange", "find_queue", "limit", "unbind",
]  # fmt: skip

Done = Callable[[Any], None]


def declare_exchange(channel: Any, name: str, done: Done) -> None:
    """Make a durable topic exchange, unless it is there."""
    channel.exchange_declare(name, "topic", durable=True, callback=done)


def find_exchange(channel: Any, name: str, done: Done) -> None:
    """Look whether an exchange is there."""
    channel.exchange_declare(name, passive=True, callback=done)


def declare_own(channel: Any, done: Done) -> None:
    """Make a queue of this connection alone; the broker names it."""
    channel.queue_declare("", exclusive=True, auto_delete=True, callback=done)


def declare_queue(channel: Any, queue: str, arguments: Mapping[str, Any], done: Done) -> None:
    """Make a durable queue, unless it is there."""
    channel.queue_declare(queue, durable=True, arguments=dict(arguments), callback=done)


def find_queue(channel: Any, queue: str, done: Done) -> None:
    """Look whether a queue is there, and how many messages and consumers it has."""
    channel.queue_declare(queue, passive=True, callback=done)


def delete_queue(channel: Any, queue: str, done: Done) -> None:
    """Remove a queue, with its messages; one that is not there is no error."""
    channel.queue_delete(queue, callback=done)


def cluster_of(channel: Any) -> Any:
    """Return the name of the cluster, which the broker sends on each connection."""
    return (channel.connection.server_properties or {}).get("cluster_name", "")


def bind(channel: Any, queue: str, exchange: str, pattern: str, done: Done) -> None:
    """Have an exchange pass messages on to a queue."""
    channel.queue_bind(queue, exchange, pattern, callback=done)


def unbind(channel: Any, queue: str, exchange: str, pattern: str, done: Done) -> None:
    """Undo `bind`."""
    channel.queue_unbind(queue, exchange, pattern, callback=done)


def limit(channel: Any, count: int, done: Done) -> None:
    """Set how many messages a consumer is sent ahead of their acknowledgement."""
    channel.basic_qos(prefetch_count=count, callback=done)


def cancel(channel: Any, tag: str, done: Done) -> None:
    """Consume no more."""
    channel.basic_cancel(tag, callback=done)


def consume(channel: Any, queue: str, take: Any, arguments: Mapping[str, Any], done: Done) -> None:
    """Begin to consume a queue."""
    channel.basic_consume(queue, take, arguments=dict(arguments), callback=done)
