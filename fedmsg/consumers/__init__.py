# SPDX-License-Identifier: LGPL-2.1-or-later
"""The base class of consumers, and the consumers that ship."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import fedmsg.crypto
from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.crypto._refused import Refused
from fedmsg.crypto._seen import Seen
from fedmsg.exceptions import MessageError
from fedmsg.hub import Consumer, ZMQMessage
from fedmsg.replay.consumer import Gaps
from fedmsg.store.catchup import Memory
from fedmsg.store.cursor import POST, PRE

__all__ = ["FedmsgConsumer"]

log = logging.getLogger("fedmsg.consumers")


class FedmsgConsumer(Consumer):
    """A consumer of messages of a fedmsg bus: checked, and only when it is enabled.

    A subclass has a ``config_key``, a ``topic`` and a method ``consume(message)``.

    Args:
        hub: The hub; something that has only ``config`` will do for tests.

    Attributes:
        config_key: The setting that has to be true for the consumer to run.
        validate_signatures: Whether messages are checked; None is as configured.
        replay_name: The service in ``replay_endpoints`` that is asked for messages which did not arrive.

    Raises:
        ValueError: The class has no ``config_key``.
    """

    config_key: str | None = None
    validate_signatures: bool | None = None
    replay_name: str | None = None

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
        self._hub_memory = memory = Memory(config, type(self).__name__, self.topic, self.log)
        self.status_directory: str | None = settings.get(config, "status_directory")
        self.status_filename = str(memory.status.path) if memory.status is not None else None
        self.status_lock = memory.lock
        self.datagrepper_url: str | None = settings.get(config, "datagrepper_url")
        self.skip_last_message: bool = settings.get(config, "skip_last_message")
        self.name_to_seq_id: dict[str, int] = {}
        self._hub_gaps: Gaps | None = None
        if self.replay_name:
            self._hub_look_for_gaps(hub, self.replay_name)
        super().__init__(hub)
        limit = settings.get(config, "max_seen_ids") if self.validate_signatures else 0
        if limit:
            # Each consumer has a memory of its own: a hub hands each message to several.
            self._hub_handling.seen = Seen(limit)

    def _hub_look_for_gaps(self, hub: Any, name: str) -> None:
        config = hub.config
        if not (settings.get(config, "replay_endpoints") or {}).get(name):
            # Those who wrote it need not be those who run it.
            self.log.warning(
                "%s does not notice what is missing from %s: replay_endpoints has no address for it",
                type(self).__name__, name,
            )  # fmt: skip
            return
        if not (settings.get(config, "endpoints") or {}).get(name):
            self.log.warning(
                "%s does not notice what is missing from %s: it is not in endpoints, and what comes by another address "
                "may be of any service",
                type(self).__name__, name,
            )  # fmt: skip
        self.name_to_seq_id[name] = -1
        self._hub_gaps = Gaps(
            config, self.name_to_seq_id, self.topic, self._hub_is_valid, hub, signed=self.validate_signatures
        )

    def _hub_prepare(self) -> None:
        """See that what is to be checked can be checked.

        Raises:
            RefusedAtStart: Checking is on and can't be done.
            ConfigError: A setting is wrong.
        """
        if self.validate_signatures:
            fedmsg.crypto.checker(self.hub.config)

    def validate(self, message: Any) -> None:
        """Look whether a message is what it says it is; one that is no envelope is wrapped in one.

        Args:
            message: A dict with ``topic`` and ``body``, which is changed in place; or an object
                whose ``__json__`` gives one with the body as JSON.

        Raises:
            RuntimeWarning: It is not to be trusted.
            UnicodeDecodeError: Its body is bytes that are no UTF-8.
        """
        if hasattr(message, "__json__"):
            message = _decoded(message.__json__())
        topic, body = message.get("topic"), message.get("body")
        if not isinstance(body, dict) or "topic" not in body:
            message["body"] = body = {"topic": topic, "msg": body}
        if self.validate_signatures:
            if body["topic"] != topic:
                raise RuntimeWarning("Topic envelope mismatch.")
            if not fedmsg.crypto.validate(body, **self._hub_settings_as_of()):
                raise RuntimeWarning("Failed to authn message.")
        # Those of a broker: nobody has signed them.
        if "headers" in message:
            body["headers"] = message["headers"]

    def _hub_validate_as_of(self, message: Any, since: float) -> None:
        # By a thread's own variable, since consumers have a validate() of their own with one argument.
        self._hub_handling.came.since = since
        try:
            self.validate(message)
        finally:
            del self._hub_handling.came.since

    def _hub_settings_as_of(self) -> dict[str, Any]:
        """Give the configuration to check a message with, which may have waited in a file since it came."""
        config: dict[str, Any] = self.hub.config
        limit = config.get("max_message_age")
        if not limit:
            return config
        waited = max(0.0, time.time() - getattr(self._hub_handling.came, "since", time.time()))
        return {**config, "max_message_age": limit + waited}

    def _hub_admit(self, message: Any) -> None:
        body = message["body"] if isinstance(message, dict) else json.loads(message.body)
        try:
            self._hub_handling.seen.add(body.get("msg_id"))
        except Refused as error:
            raise MessageError(str(error), error.kind) from error

    def _hub_is_valid(self, envelope: dict[str, Any]) -> bool:
        """Whether a replayed message may be handled; it is looked at like any other.

        Raises:
            MessageError: It may not, and why.
        """
        message = self._hub_wrapped(envelope)
        try:
            self.validate(message)
        except RuntimeWarning as warning:
            raise MessageError(str(warning), "invalid") from warning
        except Exception as error:
            self.log.exception("validate() failed")
            raise MessageError(f"validate() failed: {type(error).__name__}", "invalid") from error
        if self._hub_handling.seen is not None:
            self._hub_admit(message)
        return True

    # ---------------------------------------------------------------- what it remembers

    def pre_consume(self, message: Any) -> None:
        """Note that a message is in work."""
        self.save_status({"message": message, "status": PRE})

    def post_consume(self, message: Any) -> None:
        """Note that a message has been handled."""
        self.save_status({"message": message, "status": POST})

    def save_status(self, data: dict[str, Any]) -> None:
        """Replace the status file, where there is one.

        Args:
            data: ``message`` and ``status``.
        """
        if self._hub_memory.status is not None:
            self._hub_memory.save({**data, "message": _as_dict(data["message"])})

    def get_datagrepper_results(self, then: float, now: float) -> Iterator[dict[str, Any]]:
        """Ask the configured datagrepper for the messages of a time.

        Args:
            then: From when on, in seconds since the epoch.
            now: Up to when.

        Returns:
            A generator of envelopes, the oldest first.

        Raises:
            HttpError: In the generator: it does not answer.
        """
        return self._hub_memory.results(then, now)

    def _backlog(self, data: str | bytes) -> None:
        """Put what has passed since a status was written on the queue.

        Args:
            data: The text of the status file.
        """
        for envelope in self._hub_memory.since(data):
            self.incoming.put({"topic": envelope["topic"], "body": envelope})

    def _hub_early(self) -> Iterator[Any]:
        for envelope in self._hub_memory.missed():
            message = self._hub_wrapped(envelope)
            try:
                self.validate(message)
            except RuntimeWarning as warning:
                self.log.warning("Received invalid message %s", warning)
                self._hub_handling.count("refused")
                # No status: where to go on next time is not for a forger to say.
                self._hub_memory.forget(envelope)
            else:
                yield message

    def _hub_wrapped(self, envelope: dict[str, Any]) -> Any:
        """Give an envelope in the shape that `consume` gets."""
        if self.jsonify:
            return {"topic": envelope["topic"], "body": envelope}
        return ZMQMessage(envelope["topic"], encoding.dumps(envelope))

    # ---------------------------------------------------------------- messages on their way

    def _hub_due(self, message: Any, item: Any) -> Iterable[Any]:
        """Give the messages to handle now that one has come: none when it came before, more when there was a gap."""
        gaps = self._hub_gaps if self._hub_gaps is not None and self._hub_gaps.concern(item) else None
        if self._hub_memory.status is None and gaps is None:
            return (message,)
        return self._hub_after_looking_back(message, gaps, given=message is item)

    def _hub_after_looking_back(self, message: Any, gaps: Gaps | None, *, given: bool) -> Iterator[Any]:
        envelope = _as_dict(message)["body"]
        if not isinstance(envelope, dict):
            yield message
            return
        # What the catch-up has brought has a number like any other, or the next one would seem to follow a gap.
        for one in gaps.fill(envelope, wanted=given) if gaps is not None else (envelope,):
            # Whoever puts a message in by hand, as `_backlog` does, wants it handled.
            if (given and one is envelope) or not self._hub_memory.has_brought(one):
                yield message if one is envelope else self._hub_wrapped(one)

    def _do_work(self, message: Any, item: Any = None) -> bool:
        # A subclass with hooks of its own need not know that there is a status.
        kind = type(self)
        if kind.pre_consume is not FedmsgConsumer.pre_consume:
            FedmsgConsumer.pre_consume(self, message)
        handled = super()._do_work(message, item)
        if kind.post_consume is not FedmsgConsumer.post_consume:
            FedmsgConsumer.post_consume(self, message)
        return handled

    @property
    def _hub_service(self) -> str | None:
        return self.replay_name if self._hub_gaps is not None else None

    def _hub_totals(self) -> dict[str, int]:
        return {**super()._hub_totals(), **(self._hub_gaps.totals() if self._hub_gaps is not None else {})}

    def _hub_end(self) -> None:
        super()._hub_end()
        self._hub_memory.end()

    def stop(self) -> None:
        """Called when the hub stops, after the last message."""
        self._hub_close()

    def _hub_close(self) -> None:
        if self._initialized:
            self._hub_memory.close()


def _as_dict(message: Any) -> dict[str, Any]:
    """Give a message as a dict of ``topic`` and the decoded ``body``."""
    return _decoded(message.__json__()) if hasattr(message, "__json__") else message


def _decoded(message: dict[str, Any]) -> dict[str, Any]:
    body = message["body"]
    if not isinstance(body, (str, bytes)):
        return message
    if isinstance(body, bytes):
        warnings.warn("Message body is not unicode", DeprecationWarning, stacklevel=3)
        body = body.decode("utf-8")
    return {**message, "body": json.loads(body)}
