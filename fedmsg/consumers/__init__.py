# SPDX-License-Identifier: LGPL-2.1-or-later
"""The base class of consumers, and the consumers that ship."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import fedmsg.crypto
from fedmsg import _wire
from fedmsg.config import settings
from fedmsg.consumers._bus import BusHooks, decoded
from fedmsg.hub import Consumer
from fedmsg.hub.consumer import runner_of
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
        self.status_directory: str | None = settings.get(config, "status_directory")
        self.datagrepper_url: str | None = settings.get(config, "datagrepper_url")
        self.skip_last_message: bool = settings.get(config, "skip_last_message")
        self.name_to_seq_id: dict[str, int] = {}
        self.hub = hub
        self.__hooks = hooks = BusHooks(self, FedmsgConsumer)
        status = hooks.memory.status
        self.status_filename = str(status.path) if status is not None else None
        self.status_lock = hooks.memory.lock
        hooks.watch()
        super().__init__(hub)
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
            if not fedmsg.crypto.validate(body, **self.__hooks.crypto_config()):
                raise RuntimeWarning("Failed to authn message.")
            if isinstance(text, (str, bytes)) and _wire.has_duplicate_keys(text, body):
                raise RuntimeWarning("A key of the message appears twice.")
        # Those of a broker are not signed.
        if "headers" in message:
            body["headers"] = message["headers"]

    # ---------------------------------------------------------------- what it remembers

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
        """Ask the configured datagrepper for the messages between two times, in seconds since the epoch.

        Returns:
            A generator of envelopes, the oldest first, which raises HttpError where it does not answer.
        """
        return self.__hooks.memory.results(then, now)

    def _backlog(self, data: str | bytes) -> None:
        """Put what has passed since a status file was written, whose text this is, on the queue."""
        for envelope in self.__hooks.memory.since(data):
            self.incoming.put({"topic": envelope["topic"], "body": envelope})

    def stop(self) -> None:
        """Called when the hub stops, after the last message."""
        if self._initialized:
            self.__hooks.close()
