# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-gateway``: repeat everything that passes on the bus on one port, for listeners outside."""

from __future__ import annotations

from typing import Any, ClassVar

from fedmsg.commands import Declaration
from fedmsg.commands._forwarding import ForwardingCommand, Metric
from fedmsg.commands._options import flag
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from fedmsg.transport.zmq import addresses
from fedmsg.transport.zmq.forwarder import Forwarder
from fedmsg.transport.zmq.upstream import Upstream

__all__ = ["GatewayCommand", "gateway"]


class GatewayCommand(ForwardingCommand):
    """Repeat what all endpoints publish on one port, fedmsg.consumers.gateway.port.

    Listeners outside connect to this port alone, and can't publish through it. Messages are
    forwarded unread and unchanged. Endpoints that can't be found or reached are tried again and
    again. The command runs in the foreground until it is stopped; then it passes on what
    has arrived, and ends.
    """

    name = "fedmsg-gateway"
    consumer = "fedmsg.consumers.gateway:GatewayConsumer"
    extra_args: ClassVar[list[Declaration]] = [
        flag(
            "--validate",
            dest="relay_validate",
            action="store_true",
            help="Reject and count what is malformed or not validly signed; costs most of the speed.",
        ),
    ]

    def forwarder(self) -> Forwarder:
        """Make a forwarder that listens to all endpoints."""
        port = settings.get(self.config, "fedmsg.consumers.gateway.port")
        endpoints = addresses.listed(self.config.get("endpoints"))
        if not endpoints:
            raise ConfigError("endpoints is empty: there is nothing to listen to")
        self._upstream = Upstream(self.config, endpoints, own_port=port)
        return Forwarder(
            self.config,
            [],
            [f"tcp://*:{port}"],
            limit=settings.get(self.config, "fedmsg.consumers.gateway.high_water_mark"),
            check=self.check(),
            upstream=self._upstream,
            outbound_key="fedmsg.consumers.gateway.port",
        )

    def more(self) -> dict[str, Any]:
        """Return the endpoints that no connection stands to."""
        away = sorted({*self._upstream.addresses} - {*self._upstream.connected})
        return {"endpoints": len(self._upstream.addresses), "not_connected": away}

    def metrics(self) -> list[Metric]:
        """Count the endpoints, and those that a connection stands to."""
        return [
            ("endpoints", "Endpoints that are listened to", len(self._upstream.addresses), {}, False),
            ("endpoints_connected", "Endpoints that a connection stands to", len(self._upstream.connected), {}, False),
        ]

    def describe(self, forwarder: Forwarder) -> str:
        """Return how many endpoints there are, and where the gateway can be reached."""
        return (
            f"repeating {len(self._upstream.addresses)} endpoints "
            f"({len(self._upstream.connected)} connected) at {forwarder.outbound}"
        )


def gateway() -> None:
    """Run the command: the entry point of ``fedmsg-gateway``."""
    GatewayCommand().execute()
