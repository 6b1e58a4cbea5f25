# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which addresses a hub receives from, and which it publishes at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fedmsg.config import settings
from fedmsg.transport.zmq import addresses

__all__ = ["Inbound", "inbound", "outbound"]


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

    Args:
        config: The configuration.

    Raises:
        ConfigError: Something in it is no address.
    """
    key = "zmq_subscribe_endpoints"
    own = _split(config.get(key))
    if own:
        bound = config.get("zmq_subscribe_method") == "bind"
        return Inbound([(key, addresses.check(address, key)) for address in own], bound)
    return Inbound(
        [
            (name, addresses.check(address, f"endpoints[{name!r}]"))
            for name, several in (settings.get(config, "endpoints") or {}).items()
            for address in addresses.as_list(several)
        ]
    )


def outbound(config: Mapping[str, Any]) -> list[str]:
    """Return where a hub publishes what its consumers send through it; the first free address is bound.

    Args:
        config: The configuration.
    """
    own = _split(config.get("zmq_publish_endpoints"))
    if own:
        return own
    name = config.get("name")
    return addresses.as_list((settings.get(config, "endpoints") or {}).get(name)) if name else []
