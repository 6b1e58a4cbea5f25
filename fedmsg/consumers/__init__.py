# SPDX-License-Identifier: LGPL-2.1-or-later
"""The base class of consumers of a fedmsg bus: checks, duplicates, gaps, status file, catch-up."""

from __future__ import annotations

import json
import logging
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import fedmsg.crypto
from fedmsg import _wire, encoding, meta
from fedmsg._util.bounded import SeenIds
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.filters import MessageFilter
from fedmsg.hub import Consumer, ZMQMessage
from fedmsg.hub.consumer import durable_of, runner_of
from fedmsg.hub.hooks import Origin, Received, RunnerHooks
from fedmsg.replay.consumer import Gaps
from fedmsg.store.catchup import ConsumerProgress
from fedmsg.store.cursor import POST, PRE

__all__ = ["FedmsgConsumer"]

log = logging.getLogger("fedmsg.consumers")

_validate = fedmsg.crypto.validate


class FedmsgConsumer(Consumer):
    """A consumer of messages of a fedmsg bus: checked, and only when it is enabled.

    A subclass has a ``config_key``, a ``topic`` and a method ``consume(message)``.

    Args:
        hub: The hub; something that has only ``config`` will do for tests.

    Attributes:
        config_key: The setting that has to be true for the consumer to run.
        validate_signatures: Whether messages are checked; None is as configured.
        replay_name: The service in ``replay_endpoints`` that is asked for messages which did not arrive, or several.
        only: A filter as a dict, see `fedmsg.filters`: other messages are dropped. The setting
            ``<config_key>.only`` wins.

    Raises:
        ValueError: The class has no ``config_key``.
    """

    config_key: str | None = None
    validate_signatures: bool | None = None
    replay_name: str | Collection[str] | None = None
    only: Mapping[str, Any] | None = None

    log = log

    def __init__(self, hub: Any) -> None:
        name = f"{type(self).__module__}:{type(self).__name__}"
        if not self.config_key:
            raise ValueError(f"{name} must declare a 'config_key'")
        config = hub.config
        self.log.debug("%s is %r", self.config_key, config.get(self.config_key))
        if not config.get(self.config_key):
            self.log.info("* disabled by config - %s", name)
            return
        self.log.info("  enabled by config  - %s", name)
        if self.validate_signatures is None:
            self.validate_signatures = bool(settings.get(config, "validate_signatures"))
        self.status_directory: str | None = settings.get(config, "status_directory")
        self.datagrepper_url: str | None = settings.get(config, "datagrepper_url")
        self.skip_last_message: bool = settings.get(config, "skip_last_message")
        self.name_to_seq_id: dict[str, int] = {}
        self.hub = hub
        is_durable = durable_of(self, hub) is not False
        if is_durable and (self.status_directory or self.replay_name):
            self.log.info(
                "%s is durable and reads on where it has stopped: status_directory, catching up and replay_name are "
                "not used for it",
                type(self).__name__,
            )  # fmt: skip
        self.__hooks = hooks = BusHooks(self, is_durable=is_durable)
        status = hooks.progress.status
        self.status_filename = str(status.path) if status is not None else None
        self.status_lock = hooks.progress.lock
        hooks.watch()
        super().__init__(hub)
        hooks.wants_origin = self.wants_origin
        # How far it is can be stored with its results where each message follows the one before it.
        hooks.is_ordered |= self.wants_origin
        runner_of(self).handler.hooks = hooks

    def validate(self, message: Any) -> None:
        """Check a message; one that is no envelope is wrapped in one.

        Args:
            message: A dict with ``topic`` and ``body``, which is changed in place; or an object
                whose ``__json__`` returns one with the body as JSON.

        Raises:
            RuntimeWarning: It is not valid.
            UnicodeDecodeError: Its body is bytes that are no UTF-8.
        """
        text = None
        if hasattr(message, "__json__"):
            message = message.__json__()
            text, message = message["body"], decoded(message)
        topic, body = message.get("topic"), message.get("body")
        if not isinstance(body, dict) or "topic" not in body:
            message["body"] = body = {"topic": topic, "msg": body}
        if self.validate_signatures:
            if body["topic"] != topic:
                raise RuntimeWarning("Topic envelope mismatch.")
            if not self.__hooks.is_valid(body):
                raise RuntimeWarning("Failed to authn message.")
            if isinstance(text, (str, bytes)) and _wire.has_duplicate_keys(text, body):
                raise RuntimeWarning("A key of the message appears twice.")
        # Those of a broker are not signed.
        if "headers" in message:
            body["headers"] = message["headers"]

    # ---------------------------------------------------------------- what it remembers

    def stored_numbers(self) -> Mapping[str, int]:
        """Return the last number of each service that the consumer has stored.

        A service of ``replay_name`` is asked for what comes after, before the first message is handled.

        Raises:
            Unavailable: It can't be known at the moment; it is asked again.
        """
        return {}

    def pre_consume(self, message: Any) -> None:
        """Note that a message is in work."""
        self.save_status({"message": message, "status": PRE})

    def post_consume(self, message: Any) -> None:
        """Note that a message has been handled."""
        self.save_status({"message": message, "status": POST})

    def save_status(self, data: dict[str, Any]) -> None:
        """Replace the status file, where there is one, by a ``message`` and its ``status``."""
        self.__hooks.save(data)

    def get_datagrepper_results(self, then: float, now: float) -> Iterator[dict[str, Any]]:
        """Yield what the configured datagrepper has between two times, in seconds since the epoch; the oldest first.

        Raises:
            HttpError: It does not answer.
        """
        return self.__hooks.progress.results(then, now)

    def _backlog(self, data: str | bytes) -> None:
        """Put what has passed since a status file was written, whose text this is, on the queue."""
        for envelope in self.__hooks.progress.since(data):
            self.incoming.put({"topic": envelope["topic"], "body": envelope})

    def stop(self) -> None:
        """Release what the consumer holds; called when the hub stops, after the last message."""
        if self._initialized:
            self.__hooks.close()


class BusHooks(RunnerHooks):
    """The hooks of a `FedmsgConsumer`, whose ``validate_signatures`` is settled.

    Attributes:
        progress: The status file, and where the consumer catches up from.
    """

    def __init__(self, consumer: FedmsgConsumer, *, is_durable: bool = False) -> None:
        config = consumer.hub.config
        # The stream has what was missed, and the relay the cursor.
        kept = {**config, "status_directory": None} if is_durable else config
        self.progress = ConsumerProgress(
            kept, type(consumer).__name__, consumer.topic, consumer.log, signed=bool(consumer.validate_signatures)
        )
        self._consumer = consumer
        self._config = config
        self._is_durable = is_durable
        self._seen: SeenIds[bytes] | None = None
        self._gaps: Gaps | None = None
        self._only = self._read_filter()
        # When the message came that a thread checks, where it has waited in a file; and whether it is trusted.
        self._arrived = threading.local()
        # A subclass with hooks of its own need not know that there is a status.
        own, base = type(consumer), FedmsgConsumer
        has_status = self.progress.status is not None
        self.notes_start = has_status and own.pre_consume is not base.pre_consume
        self.notes_end = has_status and own.post_consume is not base.post_consume
        self.selects = has_status or self._only is not None
        if not has_status:
            self.idle = {base.pre_consume, base.post_consume}

    def _read_filter(self) -> MessageFilter | None:
        """Return the filter of the consumer's class or configuration."""
        consumer, config = self._consumer, self._config
        setting = f"{consumer.config_key}.only"
        value = config.get(setting, consumer.only)
        if value is None:
            return None
        return MessageFilter.from_config(
            value,
            setting,
            users_of=lambda envelope: meta.msg2usernames(envelope, **config),
            packages_of=lambda envelope: meta.msg2packages(envelope, **config),
        )

    def _selects(self, envelope: dict[str, Any]) -> bool:
        return self._only is None or self._only.matches(envelope)

    def watch(self) -> None:
        """Start to look for duplicates and gaps."""
        consumer, config = self._consumer, self._config
        limit = settings.get(config, "max_seen_ids") if consumer.validate_signatures else 0
        if limit:
            # Each consumer has one of its own: a hub delivers each message to several.
            self._seen = SeenIds(limit)
            self.admits = True
        wanted = consumer.replay_name or ()
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        if self._is_durable:
            return
        self.services = [name for name in names if self._can_be_asked(name)]
        if not self.services:
            return
        consumer.name_to_seq_id.update(dict.fromkeys(self.services, -1))
        self.selects = self.is_ordered = True
        self._gaps = Gaps(
            config, consumer.name_to_seq_id, consumer.topic, self._check_replayed, consumer.hub,
            signed=consumer.validate_signatures,
        )  # fmt: skip

    def _can_be_asked(self, name: str) -> bool:
        """Return whether a service has an address to ask at, and log what its numbers can't be known by."""
        consumer, who = self._consumer, type(self._consumer).__name__
        if not (settings.get(self._config, "replay_endpoints") or {}).get(name):
            # Those who wrote it need not be those who run it.
            consumer.log.warning(
                "%s does not notice what is missing from %s: replay_endpoints has no address for it", who, name
            )
            return False
        if not (settings.get(self._config, "endpoints") or {}).get(name):
            consumer.log.warning(
                "%s does not notice what is missing from %s: it is not in endpoints, and what comes by another address "
                "may be of any service",
                who, name,
            )  # fmt: skip
        return True

    def prepare(self) -> None:
        """Raise what keeps messages from being checked."""
        if self._consumer.validate_signatures:
            fedmsg.crypto.checker(self._config)

    # ---------------------------------------------------------------- checks

    def validate_as_of(self, consumer: Any, message: Any, since: float) -> None:
        """Check a message that has waited in a file since it came."""
        # By a thread's own variable, since consumers have a validate() of their own with one argument.
        self._arrived.since = since
        try:
            consumer.validate(message)
        finally:
            del self._arrived.since

    def validate_trusted(self, consumer: Any, message: Any) -> None:
        """Check a message that needs no signature."""
        self._arrived.is_trusted = True
        try:
            consumer.validate(message)
        finally:
            del self._arrived.is_trusted

    def is_valid(self, envelope: dict[str, Any]) -> bool:
        """Return whether a message is validly signed, by its age when it came, or needs no signature."""
        if getattr(self._arrived, "is_trusted", False):
            return True
        config: dict[str, Any] = self._config
        limit = config.get("max_message_age")
        if limit and (since := getattr(self._arrived, "since", None)) is not None:
            config = {**config, "max_message_age": limit + max(0.0, time.time() - since)}
        # Tests of consumers put a function of their own in its place.
        if fedmsg.crypto.validate is not _validate:
            return fedmsg.crypto.validate(envelope, **config)
        return fedmsg.crypto.is_valid(envelope, config)

    def admit(self, message: Any) -> None:
        """Reject a message that came before."""
        if self._seen is None:
            return
        body = message["body"] if isinstance(message, dict) else json.loads(message.body)
        if not self._seen.add(fedmsg.crypto.digest(body)):
            raise MessageError("the same message came before", "duplicate")

    def _check_replayed(self, envelope: dict[str, Any]) -> bool:
        """Return True for a replayed message that is valid like any other; raise MessageError for others."""
        message = self._wrapped(envelope)
        try:
            self._consumer.validate(message)
        except RuntimeWarning as warning:
            raise MessageError(str(warning), "invalid") from warning
        except Exception as error:
            self._consumer.log.exception("validate() failed")
            raise MessageError(f"validate() failed: {type(error).__name__}", "invalid") from error
        self.admit(message)
        return True

    # ---------------------------------------------------------------- messages on their way

    def recall(self) -> None:
        """Find out which numbers were stored."""
        if self._gaps is not None:
            for name, number in self._consumer.stored_numbers().items():
                if name in self.services:
                    self._consumer.name_to_seq_id[name] = number

    def missed(self) -> Iterator[Any]:
        """Yield what passed while the consumer was down."""
        if self._gaps is not None:
            for name in self.services:
                for envelope in self._gaps.catch_up(name):
                    if self._selects(envelope):
                        yield self._wrapped(envelope, name)
        for envelope in filter(self._selects, self.progress.missed()):
            message = self._wrapped(envelope)
            if self._is_checked(message):
                yield message
            else:
                # No status: a forger must not decide where the next start goes on.
                self.progress.forget(envelope)
        for more in self.more_missed:
            yield from self.past(more)

    def past(self, source: Callable[[], Iterable[tuple[dict[str, Any], Origin]]]) -> Iterator[Any]:
        """Yield what a source has of the past, checked, with where it comes from."""
        for envelope, origin in source():
            message = Received(envelope["topic"], envelope, origin)
            if self._selects(envelope) and self._is_checked(message):
                yield message

    def _is_checked(self, message: Any) -> bool:
        """Return whether a message of history is valid; one that is not is counted and logged."""
        try:
            self._consumer.validate(message)
        except RuntimeWarning as warning:
            self._consumer.log.warning("Received invalid message %s", warning)
            runner_of(self._consumer).handler.count("rejected")
            return False
        return True

    def due(self, message: Any, item: Any) -> Iterable[Any]:
        """Return the messages to handle: none when it was handled before, more when there was a gap."""
        service = self._gaps.service_of(item) if self._gaps is not None else ""
        if self.progress.status is None and not service and self._only is None:
            return (message,)
        return self._due(message, service, is_given=message is item)

    def _due(self, message: Any, service: str, *, is_given: bool) -> Iterator[Any]:
        envelope = as_dict(message)["body"]
        if not isinstance(envelope, dict):
            yield message
            return
        # What the catch-up has brought has a number like any other, or the next one would seem to follow a gap.
        gaps = self._gaps if service else None
        for one in gaps.fill(service, envelope, wanted=is_given) if gaps is not None else (envelope,):
            # What a program puts on the queue, as `_backlog` does, is always handled.
            if (is_given and one is envelope) or (self._selects(one) and not self.progress.has_brought(one)):
                yield self._marked(message, service) if one is envelope else self._wrapped(one, service)

    def _marked(self, message: Any, service: str) -> Any:
        """Note in a message of a service how far that is handled with it."""
        if service and self._gaps is not None and isinstance(message, Received):
            message.origin = message.origin._replace(service=service, number=self._gaps.last(service))
        return message

    def _wrapped(self, envelope: dict[str, Any], service: str = "") -> Any:
        """Return an envelope in the shape that `consume` gets."""
        if self._consumer.jsonify and self.wants_origin:
            return self._marked(Received(envelope["topic"], envelope, Origin()), service)
        if self._consumer.jsonify:
            return {"topic": envelope["topic"], "body": envelope}
        return ZMQMessage(envelope["topic"], encoding.dumps(envelope))

    # ---------------------------------------------------------------- status

    def started(self, messages: Sequence[Any]) -> None:
        """Write the status of the first message, where the consumer's own `pre_consume` does not."""
        self.save({"message": messages[0], "status": PRE})

    def finished(self, messages: Sequence[Any]) -> None:
        """Write the status of every message, where the consumer's own `post_consume` does not."""
        for message in messages:
            self.save({"message": message, "status": POST})

    def save(self, data: dict[str, Any]) -> None:
        """Replace the status file, where there is one, by a ``message`` and its ``status``."""
        if self.progress.status is not None:
            self.progress.save({**data, "message": as_dict(data["message"])})

    def totals(self) -> dict[str, int]:
        """Return how many messages were replayed, and how many lost."""
        return self._gaps.totals() if self._gaps is not None else {}

    def end(self) -> None:
        """Ask for nothing any more."""
        self.progress.end()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self.progress.close()


def as_dict(message: Any) -> dict[str, Any]:
    """Return a message as a dict of ``topic`` and the decoded ``body``."""
    return decoded(message.__json__()) if hasattr(message, "__json__") else message


def decoded(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with its body decoded, where that is JSON text."""
    body = message["body"]
    if not isinstance(body, (str, bytes)):
        return message
    if isinstance(body, bytes):
        warnings.warn("Message body is not unicode", DeprecationWarning, stacklevel=3)
        body = body.decode("utf-8")
    return {**message, "body": json.loads(body)}
