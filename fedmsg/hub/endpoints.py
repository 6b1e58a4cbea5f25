# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a hub receives from, and what it publishes through for its consumers and producers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fedmsg import _wire, encoding
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, MessageError
from fedmsg.transport import choice
from fedmsg.transport.base import ConfirmingSink
from fedmsg.transport.zmq import addresses, publisher

__all__ = ["Inbound", "Outgoing", "inbound", "outbound"]


class Inbound(NamedTuple):
    """Where a hub receives from.

    Attributes:
        endpoints: Pairs of name and address.
        bound: Whether it binds them, for others to connect.
    """

    endpoints: list[tuple[str, str]]
    bound: bool = False


def _split(value: Any) -> list[str]:
    """Return a list of addresses, which moksha's settings have as text with commas."""
    texts = [value] if isinstance(value, str) else list(value or ())
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def inbound(config: Mapping[str, Any]) -> Inbound:
    """Return where a hub receives from: all endpoints, or what moksha's own settings name.

    Raises:
        ConfigError: Something in it is no address.
    """
    key = "zmq_subscribe_endpoints"
    own = _split(config.get(key))
    if endpoint := choice.of(config).endpoint:
        return Inbound([(endpoint, endpoint)])
    if own:
        bound = config.get("zmq_subscribe_method") == "bind"
        return Inbound([(key, addresses.check(address, key)) for address in own], bound)
    return Inbound(addresses.listed(settings.get(config, "endpoints")))


def outbound(config: Mapping[str, Any]) -> list[str]:
    """Return where a hub publishes what its consumers send through it; the first free address is bound."""
    own = _split(config.get("zmq_publish_endpoints"))
    if own:
        return own
    name = config.get("name")
    return addresses.as_list((settings.get(config, "endpoints") or {}).get(name)) if name else []


class Outgoing:
    """A publisher that is bound at the first free address when it is first needed; threads share it.

    What is to be confirmed goes to the relays of ``relay_confirmed`` instead.
    """

    def __init__(self, config: Mapping[str, Any], addresses: list[str]) -> None:
        self._config = config
        self._addresses = addresses
        self._publisher: publisher.Publisher | None = None
        self._transport = choice.of(config)
        self._confirmed: ConfirmingSink | None = None
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

    def _open_confirmed(self) -> ConfirmingSink:
        with self._lock:
            if self._closed:
                raise ConfigError("this hub has stopped")
            if self._confirmed is None:
                self._confirmed = self._transport.load("confirmed")(self._config)
            return self._confirmed

    def send(self, topics: Iterable[str], message: Any, *, jsonify: bool, confirm: bool | None) -> int | None:
        """Publish a message for each of its topics, as `Hub.send_message` does."""
        text = encoding.dumps(message) if jsonify else message
        confirms = bool(settings.get(self._config, "publish_confirm")) if confirm is None else confirm
        confirms = confirms or self._transport.confirms
        timeout, position = float(settings.get(self._config, "timeout")), None
        limit = settings.get(self._config, "max_message_size")
        for topic in topics:
            try:
                frame, body = topic.encode(), text if isinstance(text, bytes) else text.encode()
            except UnicodeEncodeError as error:
                raise MessageError(f"{error.object[:100]!r} can't be written in UTF-8", "utf-8") from error
            _wire.check_topic(frame)
            _wire.check_size(len(frame) + len(body), limit)
            if confirms:
                position = self._open_confirmed().send(frame, body, timeout=timeout)
            else:
                self.open().send(frame, body)
        return position if self._transport.has_positions else None

    def close(self) -> None:
        """Close it for good; a second call does nothing."""
        with self._lock:
            self._closed = True
            if self._publisher is not None:
                publisher.close(self._publisher)
                self._publisher = None
            if self._confirmed is not None:
                self._confirmed.release()
                self._confirmed = None
