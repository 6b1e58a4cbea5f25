# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a hub publishes through itself, on behalf of consumers and producers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, MessageError
from fedmsg.transport.zmq import publisher

__all__ = ["Outgoing"]


class Outgoing:
    """A bound publisher that is opened when it is first needed; threads share it.

    Args:
        config: The configuration.
        addresses: What may be bound, of which the first that is free is.
    """

    def __init__(self, config: Mapping[str, Any], addresses: list[str]) -> None:
        self._config = config
        self._addresses = addresses
        self._publisher: publisher.Publisher | None = None
        self._lock = threading.Lock()
        self._closed = False

    def open(self) -> publisher.Publisher:
        """Open it, or return what is open.

        Raises:
            ConfigError: There is no address to publish at, or it was closed.
            AddressInUse: All addresses are taken.
        """
        with self._lock:
            if self._publisher is None:
                if not self._addresses:
                    raise ConfigError(
                        "this hub has no address to publish at: set name to a name in endpoints, or set "
                        "zmq_publish_endpoints; or publish with fedmsg.publish()"
                    )
                if self._closed:
                    raise ConfigError("this hub has stopped")
                self._publisher = publisher.open_bound(self._config, "zmq_publish_endpoints", self._addresses)
            return self._publisher

    def send(self, topics: Iterable[str], message: Any, *, jsonify: bool) -> None:
        """Publish a message.

        Args:
            topics: The full topics.
            message: The envelope.
            jsonify: Whether it has still to become JSON.

        Raises:
            ConfigError: There is no address to publish at.
            MessageError: The message is too large, or its topic is no text.
        """
        text = encoding.dumps(message) if jsonify else message
        limit = settings.get(self._config, "max_message_size")
        for topic in topics:
            try:
                frame, body = topic.encode(), text if isinstance(text, bytes) else text.encode()
            except UnicodeEncodeError as error:
                raise MessageError(f"{error.object[:100]!r} can't be written in UTF-8", "utf-8") from error
            if len(frame) + len(body) > limit:
                raise MessageError(f"it has more than {limit} bytes", "size")
            self.open().send(frame, body)

    def close(self) -> None:
        """Close it for good; a second call does nothing."""
        with self._lock:
            self._closed = True
            if self._publisher is not None:
                publisher.close(self._publisher)
                self._publisher = None
