# SPDX-License-Identifier: LGPL-2.1-or-later
"""Chooses what a configuration publishes through: an address of its own, or a relay."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from fedmsg.config import settings
from fedmsg.exceptions import MissingEndpoint
from fedmsg.transport.zmq import addresses, publisher

__all__ = ["RELAY", "open_sink"]

#: The configuration's name for the addresses that a relay takes messages at.
RELAY = "relay_inbound"


def open_sink(config: Mapping[str, Any]) -> publisher.Publisher | None:
    """Open what a configuration publishes through, which threads share; None where nothing is published.

    Close it with its `close`.

    Raises:
        MissingEndpoint: ``active``, and no address is configured for the relay. A KeyError.
        AddressInUse: All addresses of the name are taken by other processes.
        ConfigError: An address is none.
    """
    name = config["name"]
    if config.get("mute") or not settings.get(config, "zmq_enabled"):
        return None
    if config.get("active"):
        relays = addresses.as_list(config.get(name))
        if not relays:
            raise MissingEndpoint(_no_relay(name))
        return publisher.open_connected(config, name, relays)
    if config["endpoints"].get(name):
        return publisher.open_bound(config, name, config["endpoints"][name])
    warnings.warn(f"fedmsg is not configured to send any zmq messages for name {name!r}", UserWarning, stacklevel=5)
    return None


def _no_relay(name: str) -> str:
    missing = "Could not find endpoint for fedmsg-relay. Try installing fedmsg-relay."
    if name == RELAY:
        return missing
    return (
        f"{missing} The reason is the name {name!r}: with active=True the addresses of the relay are looked up "
        f"under it, and there are none; leave the name out to use {RELAY!r}"
    )
