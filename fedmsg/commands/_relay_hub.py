# SPDX-License-Identifier: LGPL-2.1-or-later
"""A relay whose messages go through a consumer of the application, and so through a hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmsg.hub import Hub, daemon
from fedmsg.hub.endpoints import Inbound

__all__ = ["run_consumer"]


def run_consumer(
    config: Mapping[str, Any], consumer: Any, inbound: list[str], outbound: list[str], *, validate: bool | None
) -> None:
    """Run one consumer between the addresses of a relay, until it is stopped.

    Args:
        config: The configuration.
        consumer: The class of the consumer; it is enabled by being asked for.
        inbound: Addresses to bind for publishers; all of them.
        outbound: Addresses for subscribers; the first that is free is bound.
        validate: Whether it gets only what is validly signed; otherwise as it is configured.
    """
    own = {**config, **({consumer.config_key: True} if consumer.config_key else {})}
    if validate:
        own["validate_signatures"] = True
    endpoints = Inbound([("relay_inbound", address) for address in inbound], bound=True)
    daemon.run_hub(
        lambda: Hub(own, [consumer], [], inbound=endpoints, outbound=outbound),
        f"relaying from {', '.join(inbound)} to {outbound[0]}",
    )
