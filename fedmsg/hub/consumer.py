# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract of a consumer: what a hub offers it, and what it does with each message."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, cast

from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.hub.runner import ConsumerRunner
from fedmsg.stream.begin import Begin
from fedmsg.stream.progress import StoredPosition
from fedmsg.transport import choice

__all__ = ["SHARED", "Consumer", "as_topics", "durable_of", "runner_of"]


class _Shared:
    """See `SHARED`."""

    def __bool__(self) -> bool:
        return False


#: The ``durable`` of a consumer that is not, but has a queue of its own, because every one has at that transport: it
#: has the name of its class, and hubs that run it share the messages.
SHARED = _Shared()


def as_topics(topic: Any) -> list[str]:
    """Return a list of a consumer's ``topic``, which is text or some collection of texts."""
    return [topic] if isinstance(topic, str) else [str(one) for one in topic]


def durable_of(consumer: Any, hub: Any) -> object:
    """Return the ``durable`` of a consumer, where the setting of its ``config_key`` wins; False when it is not durable.

    Not every hub reads streams: in a test it need not.
    """
    key = getattr(consumer, "config_key", None)
    value: object = hub.config.get(f"{key}.durable") if isinstance(key, str) else None
    if value is None:
        value = consumer.durable
    if not getattr(hub, "reads_streams", False):
        return False
    if value is None or value is False:
        return SHARED if choice.of(hub.config).has_queues else False
    return value


class Consumer:
    """Handles messages of some topics: a subclass has a ``topic`` and a method `consume`.

    A hub makes one instance and calls `consume` in threads of its own. Names that are not described here
    are free.

    A subclass that stores messages may have a method ``consume_many(messages)`` too, which gets a list of
    what `consume` gets one by one. When it returns, all of them are handled; what it raises sends each of
    them through `consume`. `pre_consume` and `post_consume` are for single messages.

    Args:
        hub: The hub; something that has only ``config`` will do for tests.

    Attributes:
        topic: The topics to receive, text or a list: beginnings of topics, and "" for all.
        jsonify: Whether `consume` gets a dict with ``topic`` and ``body``, the decoded envelope;
            otherwise it gets an object with both as text.
        queue_limit: How many messages may wait; None is what ``consumer_queue_limit`` says.
        queue_policy: ``block`` or ``drop``; None is what ``consumer_queue_policy`` says.
        overflows: Whether messages wait on disk, in the ``state_directory``, when the queue is full.
        wants_origin: Whether what `consume` gets, a dict all the same, has an attribute ``origin``: where it comes
            from, for a consumer that stores how far it is with what it makes of it.
        durable: Whether the messages come from the stream of a relay, each at least once, and not from the
            endpoints: True, or the name of the durable subscription, which otherwise is that of the class. The
            setting ``<config_key>.durable`` wins.
        incoming: The queue of what is to be handled.
        blocking_mode: Whether each message is handled before the next is received.
        N: How many threads work for it, unless in blocking mode.
    """

    topic: str | Collection[str] = ""
    jsonify: bool = True
    queue_limit: int | None = None
    queue_policy: str | None = None
    durable: bool | str = False
    overflows: bool = False
    wants_origin: bool = False

    log: Any = logging.getLogger("fedmsg.consumers")

    _initialized = False

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        config = hub.config
        # Consumers of 1.x look whether there is a database; a hub has none.
        self.DBSession: Any = None
        self.engine: Any = None
        self.blocking_mode = bool(settings.get(config, "moksha.blocking_mode"))
        self.N: int = settings.get(config, "moksha.workers_per_consumer")
        self._exception_count = 0
        durable = durable_of(self, hub)
        self.__runner = ConsumerRunner(self, config, durable)
        self.__runner.handler.hooks.idle = {Consumer.pre_consume, Consumer.post_consume}
        self.__runner.handler.hooks.wants_origin = self.wants_origin
        if type(self)._do_work is not Consumer._do_work:
            self.__runner.handler.own_work = self._do_work
        self.incoming = self.__runner.queue
        subscribe = getattr(hub, "subscribe", None)
        if subscribe is not None and durable is False:
            for topic in as_topics(self.topic):
                subscribe(topic, self._consume_json if self.jsonify else self._consume)
        self._initialized = True

    # ---------------------------------------------------------------- for its author

    def consume(self, message: Any) -> Any:
        """Handle a message; every consumer has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no consume()")

    def pre_consume(self, message: Any) -> None:
        """Prepare for a message; called before `consume`."""

    def post_consume(self, message: Any) -> None:
        """Clean up after a message; called after `consume`, even when that has failed."""

    def stored_position(self, name: str) -> StoredPosition | Begin | None:
        """Return how far a durable consumer has stored, under a name; None when it stores nothing of the kind.

        The stream is read on from there, where the relay does not know that the consumer has come so far. One that
        has stored nothing yet may return where it wants to begin, which counts when the name is new.

        Raises:
            Unavailable: It can't be known at the moment; it is asked again.
        """
        del name
        return None

    def validate(self, message: Any) -> None:
        """Check a message before it is handled.

        Raises:
            RuntimeWarning: It must not be handled.
        """

    def send_message(self, topic: Any, message: Any, confirm: bool | None = None) -> int | None:
        """Publish a message through the hub; return its position in the stream, where a relay has confirmed it.

        Args:
            topic: The full topic, or a list of them.
            message: The envelope.
            confirm: Whether to wait until a relay has it on disk; by default as ``publish_confirm`` says.
        """
        more = {} if confirm is None else {"confirm": confirm}
        position: int | None = self.hub.send_message(topic, message, **more)
        return position

    def debug(self, message: str) -> None:
        """Log something of no importance."""
        self.log.debug(message)

    def stop(self) -> None:
        """Release what the consumer holds; called when the hub stops, after the last message."""

    # ---------------------------------------------------------------- for hubs, ours and others

    def _consume_json(self, message: Any) -> None:
        """Decode a message of another hub, and take it."""
        try:
            body = encoding.loads(message.body)
        except ValueError:
            # What a broker delivers may be anything, and is wrapped.
            self.log.debug("the body of a message with the topic %a is no JSON", message.topic)
            body = message.body
        self._consume({"topic": message.topic, "body": body})

    def _consume(self, message: Any) -> bool | None:
        """Take a message that did not come by the sockets of the hub.

        The result is None, but in blocking mode whether a valid one was handled well.
        """
        return self.__runner.accept(message)

    def _do_work(self, message: Any) -> bool:
        """Handle a valid message now; whether that went well."""
        return self.__runner.handler.process(message) is None

    @property
    def headcount_out(self) -> int:
        """How many were handled since the last report."""
        return self.__runner.headcount_out

    @property
    def headcount_in(self) -> int:
        """How many messages have arrived since the last report."""
        return self.__runner.headcount_in

    def __json__(self) -> dict[str, Any]:
        """Return the consumer's row of the status report; the counters in it start again at zero."""
        return self.__runner.report()

    def totals(self) -> dict[str, int]:
        """Return what has become of its messages since it started, by kind, and how many wait."""
        return self.__runner.totals()


def runner_of(consumer: Consumer) -> ConsumerRunner:
    """Return the runner of a consumer, which has no name among those of its subclasses."""
    return cast("ConsumerRunner", vars(consumer)["_Consumer__runner"])
