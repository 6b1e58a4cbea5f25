# SPDX-License-Identifier: LGPL-2.1-or-later
"""The base class of consumers, and the consumers that ship."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from typing import Any

import fedmsg.crypto
from fedmsg import _settings
from fedmsg.hub import Consumer

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
            self.validate_signatures = bool(_settings.get(config, "validate_signatures"))
        self.name_to_seq_id: dict[str, int] = {self.replay_name: -1} if self.replay_name else {}
        self.status_directory: str | None = _settings.get(config, "status_directory")
        self.status_filename: str | None = None
        self.status_lock = threading.RLock()
        self.datagrepper_url: str | None = _settings.get(config, "datagrepper_url")
        self.skip_last_message: bool = _settings.get(config, "skip_last_message")
        super().__init__(hub)

    def _prepare(self) -> None:
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
            if not fedmsg.crypto.validate(body, **self.hub.config):
                raise RuntimeWarning("Failed to authn message.")
        # Those of a broker: nobody has signed them.
        if "headers" in message:
            body["headers"] = message["headers"]


def _decoded(message: dict[str, Any]) -> dict[str, Any]:
    body = message["body"]
    if isinstance(body, bytes):
        warnings.warn("Message body is not unicode", DeprecationWarning, stacklevel=3)
        body = body.decode("utf-8")
    return {**message, "body": json.loads(body)}
