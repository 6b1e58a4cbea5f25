# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus with endpoints of several kinds, and a gateway that repeats them."""

from __future__ import annotations

from typing import Any

from fedmsg.core import FedMsgContext
from fedmsg.testing import Bus, Process, free_address, free_port

__all__ = ["GatewayBus"]


class GatewayBus(Bus):
    """The endpoints of a relay and of two publishers that bind, and a port for a gateway.

    Args:
        settings: Settings on top of those of the bus.

    Attributes:
        relayed: Where the relay passes messages on.
        first: Where one of the publishers binds.
        second: Where the other does.
        address: Where the gateway can be listened to.
        outside: A bus of which nothing is known but the gateway.
    """

    def __init__(self, **settings: Any) -> None:
        self.relayed, self.first, self.second = free_address(), free_address(), free_address()
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        names = {"relay_outbound": [self.relayed], "first.here": [self.first], "second.here": [self.second]}
        super().__init__(
            {"endpoints": names, "fedmsg.consumers.gateway.port": self.port, "stop_timeout": 10, **settings}
        )
        self.outside = Bus({"endpoints": {"gateway": [self.address]}})

    def start_gateway(self, *arguments: str) -> Process:
        """Start a gateway; returns when it is ready."""
        gateway = Process(["fedmsg-gateway", *arguments], env=self.environ)
        try:
            return gateway.wait_ready()
        except BaseException:
            gateway.close()
            raise

    def publisher(self, name: str, **settings: Any) -> FedMsgContext:
        """A context that publishes at an endpoint of its own, and waits for a subscriber before."""
        return FedMsgContext(**{**self.config, "name": f"{name}.here", "post_init_sleep": 20, **settings})

    def close(self) -> None:
        """Remove both configurations."""
        self.outside.close()
        super().close()

    def __enter__(self) -> GatewayBus:
        return self
