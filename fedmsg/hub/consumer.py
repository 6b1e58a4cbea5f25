# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract of a consumer: what a hub gives it, and what it does with each message."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.hub.kept import DeadLetters, KeptMessage
from fedmsg.hub.message import ZMQMessage
from fedmsg.hub.queue import Inbox
from fedmsg.hub.subscriptions import as_topics
from fedmsg.transport.base import Delivery

__all__ = ["Consumer", "Interrupted"]

# Waiting between two tries of a message does not grow beyond a minute.
_LONGEST_DELAY = 60.0


class Interrupted(BaseException):
    """A worker is to stop before a message has had all its tries; the message is to be kept.

    Args:
        first: What else is to be kept, and comes before it.
    """

    def __init__(self, *first: Any) -> None:
        super().__init__(*first)
        self.first = first


class _Handling:
    """What a consumer keeps for its hub; in one place, since subclasses have private names of their own.

    Args:
        config: The configuration.
        kind: The class of the consumer.

    Attributes:
        retries: How often a message is tried again.
        delay: Seconds before that.
        dead: Where messages go whose handling failed for good.
        stopping: Set when the hub stops.
        cut: Set when it waits no longer for what is left to do.
        lock: Held to change a counter.
        totals: What became of messages, by kind.
        reported: How many had come in at the last report.
        seen: The ids of messages that have been handled; None where these don't matter.
        came: For each thread, ``since`` when the message that it looks at has waited in a file.
    """

    def __init__(self, config: Mapping[str, Any], kind: type) -> None:
        self.retries: int = settings.get(config, "consume_retries")
        self.delay: float = settings.get(config, "consume_retry_delay")
        self.dead = DeadLetters(settings.get(config, "dead_letter_directory"), kind)
        self.stopping = threading.Event()
        self.cut = threading.Event()
        self.lock = threading.Lock()
        self.totals = dict.fromkeys(("handled", "failed", "refused", "retried", "dead"), 0)
        self.reported = 0
        self.seen: Any = None
        self.came = threading.local()

    def count(self, kind: str) -> None:
        """Count a message."""
        with self.lock:
            self.totals[kind] += 1


class Consumer:
    """Handles messages of some topics: a subclass has a ``topic`` and a method `consume`.

    A hub makes one instance and runs `consume` in threads of its own. Names that begin with ``_hub_`` are the
    hub's, all others that are not described here are free.

    Args:
        hub: The hub; something that has only ``config`` will do for tests.

    Attributes:
        topic: The topics that are wanted, text or a list: beginnings of topics, and "" for all.
        jsonify: Whether `consume` gets a dict with ``topic`` and ``body``, the decoded envelope;
            otherwise it gets an object with both as text.
        queue_limit: How many messages may wait; None is what ``consumer_queue_limit`` says.
        queue_policy: ``block`` or ``drop``; None is what ``consumer_queue_policy`` says.
        hub: The hub.
        incoming: What waits to be handled.
        blocking_mode: Whether each message is handled before the next is received.
        N: How many threads work for it, unless in blocking mode.
        headcount_out: How many were handled since the last report.
        log: Its logger.
    """

    topic: str | Collection[str] = ""
    jsonify: bool = True
    queue_limit: int | None = None
    queue_policy: str | None = None

    log: Any = logging.getLogger("fedmsg.consumers")

    _initialized = False

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        config = hub.config
        # Consumers of 1.x look whether there is a database; a hub has none.
        self.DBSession: Any = None
        self.engine: Any = None
        self.blocking_mode = bool(settings.get(config, "moksha.blocking_mode"))
        self.incoming = Inbox(
            self.queue_limit or settings.get(config, "consumer_queue_limit"),
            drop=(self.queue_policy or settings.get(config, "consumer_queue_policy")) == "drop",
        )
        self.N: int = settings.get(config, "moksha.workers_per_consumer")
        self.headcount_out = 0
        self._hub_handling = _Handling(config, type(self))
        self._exception_count = 0
        self._hub_times: deque[float] = deque(maxlen=1024)
        subscribe = getattr(hub, "subscribe", None)
        if subscribe is not None:
            for topic in as_topics(self.topic):
                subscribe(topic, self._consume_json if self.jsonify else self._consume)
        self._initialized = True

    # ---------------------------------------------------------------- for its author

    def consume(self, message: Any) -> Any:
        """Handle a message; every consumer has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no consume()")

    def pre_consume(self, message: Any) -> None:
        """Called before `consume`."""

    def post_consume(self, message: Any) -> None:
        """Called after `consume`, also when that has failed."""

    def validate(self, message: Any) -> None:
        """Look at a message before it is handled.

        Raises:
            RuntimeWarning: It is not to be handled.
        """

    def send_message(self, topic: Any, message: Any) -> None:
        """Publish a message through the hub."""
        self.hub.send_message(topic, message)

    def debug(self, message: str) -> None:
        """Log something of no importance."""
        self.log.debug(message)

    def stop(self) -> None:
        """Called when the hub stops, after the last message."""

    def _hub_prepare(self) -> None:
        """Called when the hub starts: what the consumer needs and is not there raises here."""

    @property
    def _hub_service(self) -> str | None:
        """The name in ``endpoints`` of whose messages it has to see every one, in order, whatever their topics."""
        return None

    def _hub_end(self) -> None:
        """Called when the hub begins to stop: what waits for something waits no more."""
        self._hub_handling.stopping.set()

    def _hub_close(self) -> None:
        """Called when the hub has stopped, even if `stop` was overridden."""

    # ---------------------------------------------------------------- messages on their way

    def _hub_takes_as_usual(self, callback: Any) -> bool:
        """Whether messages for a callback may be put on the queue unread.

        Args:
            callback: What was subscribed: it may be another one than ours, or the subclass may have
                a way of its own to take messages.
        """
        function = getattr(callback, "__func__", None)
        if type(self)._consume is not Consumer._consume:
            return False
        return function is (Consumer._consume_json if self.jsonify else Consumer._consume)

    def _consume_json(self, message: Any) -> None:
        """Decode a message, which is what a hub of somebody else's hands over, and take it."""
        try:
            body = encoding.loads(message.body)
        except ValueError:
            # What a broker delivers may be anything, and is wrapped.
            self.log.debug("the body of a message with the topic %a is no JSON", message.topic)
            body = message.body
        self._consume({"topic": message.topic, "body": body})

    def _consume(self, message: Any) -> bool | None:
        """Take a message that did not come by the sockets of the hub.

        Returns:
            In blocking mode whether handling it went well; otherwise, and when it is not valid, None.
        """
        try:
            self.validate(message)
            if self._hub_handling.seen is not None:
                self._hub_admit(message)
        except (RuntimeWarning, MessageError) as warning:
            self.log.warning("Received invalid message %s", warning)
            return None
        if self.blocking_mode:
            self.incoming.received += 1
            outcomes = [self._do_work(one) for one in self._hub_due(message, message)]
            return all(outcomes)
        self.incoming.put(message)
        return None

    def _hub_handle(self, item: Any) -> None:
        """Do all there is to do with what was waiting; only `Interrupted` gets out.

        Raises:
            Interrupted: The hub stops, and the message should be kept.
        """
        try:
            message = self._hub_open(item)
            if self._hub_handling.seen is not None and isinstance(item, Delivery):
                self._hub_admit(message)
        except MessageError as error:
            self._hub_refuse(item, error)
            return
        for one in self._hub_due(message, item):
            if one is message:
                self._do_work(one, item)
                continue
            if self._hub_handling.cut.is_set():
                raise Interrupted(one)
            try:
                self._do_work(one)
            except Interrupted:
                raise Interrupted(one) from None

    def _hub_due(self, message: Any, item: Any) -> Iterable[Any]:  # noqa: ARG002 - for subclasses
        """Give the messages to handle now that one has come.

        Args:
            message: What `consume` gets.
            item: What it was made from, which may say by what address it has come.
        """
        return (message,)

    def _hub_open(self, item: Any) -> Any:
        """Give what `consume` gets.

        Raises:
            MessageError: It is not to be handled.
        """
        if not isinstance(item, Delivery):
            # Somebody put it there by hand, or `_consume` did after looking at it.
            return item
        # One that is malformed is refused, whoever was going to decode it.
        body = item.envelope()
        kept = item if isinstance(item, KeptMessage) else None
        if self.jsonify:
            message: Any = {"topic": kept.topic() if kept else body["topic"], "body": body}
        else:
            message = ZMQMessage.of(item)
        try:
            if kept is None:
                self.validate(message)
            elif not kept.checked:
                self._hub_validate_as_of(message, kept.since)
        except RuntimeWarning as warning:
            raise MessageError(str(warning), "invalid") from warning
        except Exception as error:
            # A consumer may have a validate() of its own.
            self.log.exception("validate() failed")
            raise MessageError(f"validate() failed: {type(error).__name__}", "invalid") from error
        return message

    def _hub_validate_as_of(self, message: Any, since: float) -> None:  # noqa: ARG002 - for subclasses
        """Call `validate` for a message that came some time ago.

        Args:
            message: The message.
            since: When it came, in seconds since the epoch.
        """
        self.validate(message)

    def _hub_admit(self, message: Any) -> None:
        """Called once for each valid message, where it matters which have been seen.

        Raises:
            MessageError: It is not to be handled all the same.
        """

    def _hub_refuse(self, item: Delivery, error: MessageError) -> None:
        self._hub_handling.count("refused")
        rejections = getattr(self.hub, "rejections", None)
        if rejections is not None:
            rejections.add(item.address, error)

    def _do_work(self, message: Any, item: Any = None) -> bool:
        """Handle a message; whether that went well.

        Args:
            message: What `consume` gets.
            item: What it was made from, and can be made from again.

        Raises:
            Interrupted: The hub stops, and the message should be kept.
        """
        start = time.perf_counter()
        self._hub_hook(self.pre_consume, message)
        handled = self._hub_try(message, item)
        self._hub_hook(self.post_consume, message)
        with self._hub_handling.lock:
            self.headcount_out += 1
            self._hub_handling.totals["handled" if handled else "failed"] += 1
            self._hub_times.append(time.perf_counter() - start)
        return handled

    def _hub_hook(self, hook: Any, message: Any) -> None:
        try:
            hook(message)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - logged there
            self._hub_note_failure(message, error, hook.__name__)

    def _hub_try(self, message: Any, item: Any) -> bool:
        handling = self._hub_handling
        kept = item
        if not isinstance(item, Delivery):
            # What a try changes in the message, neither the next one nor a file is to see.
            kept = _copy(message) if handling.retries or handling.dead else message
        error = self._hub_failure(message)
        tries = 1
        while error is not None:
            if tries > handling.retries or (message := self._hub_once_more(kept, tries)) is None:
                if handling.dead and handling.dead.add(kept, error, tries):
                    handling.count("dead")
                return False
            error = self._hub_failure(message)
            tries += 1
        return True

    def _hub_failure(self, message: Any) -> BaseException | None:
        """Have a message handled; the exception, if that has failed."""
        try:
            self.consume(message)
        except KeyboardInterrupt:
            raise
        # A cancelled coroutine is no Exception, and no reason to lose a message either.
        except BaseException as error:  # noqa: BLE001 - logged there
            self._hub_note_failure(message, error, "consume")
            return error
        return None

    def _hub_once_more(self, kept: Any, tries: int) -> Any:
        """Wait, and give the message as it was; None when it is not valid any more.

        Raises:
            Interrupted: The hub stops.
        """
        # Doubling goes on no further than a limit that is reached before.
        delay = min(self._hub_handling.delay * 2.0 ** min(tries - 1, 30), _LONGEST_DELAY)
        if self._hub_handling.stopping.wait(delay):
            raise Interrupted
        self._hub_handling.count("retried")
        try:
            return self._hub_open(kept) if isinstance(kept, Delivery) else _copy(kept)
        except MessageError as error:
            self.log.warning("a message is not tried again: %s", error)
            return None

    def _hub_note_failure(self, message: Any, error: BaseException, where: str) -> None:
        with self._hub_handling.lock:
            self._exception_count += 1
        self.log.error("%s failed in %s() on message %s", type(self).__name__, where, name_of(message), exc_info=error)

    # ---------------------------------------------------------------- how it is

    @property
    def headcount_in(self) -> int:
        """How many messages have come in since the last report."""
        return self.incoming.received - self._hub_handling.reported

    def __json__(self) -> dict[str, Any]:
        """The consumer's row of the monitoring report; the counters in it start again at zero."""
        received = self.incoming.received
        with self._hub_handling.lock:
            row = {
                "backlog": self.incoming.qsize(),
                "exceptions": self._exception_count,
                "headcount_in": received - self._hub_handling.reported,
                "headcount_out": self.headcount_out,
                "initialized": self._initialized,
                "jsonify": self.jsonify,
                "module": type(self).__module__,
                "name": type(self).__name__,
                "times": [*self._hub_times],
                "topic": self.topic,
                "totals": self._hub_totals(),
            }
            self._exception_count = self.headcount_out = 0
            self._hub_handling.reported = received
            self._hub_times.clear()
        return row

    def totals(self) -> dict[str, int]:
        """What has become of its messages since it started, by kind, and how many wait."""
        return self._hub_totals()

    def _hub_totals(self) -> dict[str, int]:
        inbox = self.incoming
        return {
            "received": inbox.received,
            "dropped": inbox.dropped,
            "waiting": inbox.qsize(),
            **self._hub_handling.totals,
        }


def _copy(message: Any) -> Any:
    """Copy a message that was put on the queue by hand, which may be anything."""
    try:
        return copy.deepcopy(message)
    except Exception:  # noqa: BLE001 - not everything can be copied
        return message


def name_of(message: Any) -> str:
    """Give the id of a message for the log; it may hold anything."""
    if isinstance(message, ZMQMessage):
        return f"with the topic {ascii(message.topic)[:300]}"
    body = message.get("body") if isinstance(message, dict) else None
    msg_id = body.get("msg_id") if isinstance(body, dict) else None
    return ascii(msg_id)[1:-1][:300] if isinstance(msg_id, str) else "without an id"
