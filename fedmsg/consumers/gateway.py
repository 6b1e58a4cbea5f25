# SPDX-License-Identifier: LGPL-2.1-or-later
"""The gateway as a consumer: for a hub that opens one port to the world beside other work.

``fedmsg-gateway`` itself passes messages on unread, and faster than any consumer can.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from fedmsg.config import settings
from fedmsg.consumers import FedmsgConsumer
from fedmsg.transport.zmq import publisher

__all__ = ["GatewayConsumer"]


class GatewayConsumer(FedmsgConsumer):
    """Repeats each message on the port ``fedmsg.consumers.gateway.port``.

    Raises:
        AddressInUse: Another process has it.
    """

    topic = "*"
    jsonify = False
    config_key = "fedmsg.consumers.gateway.enabled"

    def __init__(self, hub: Any) -> None:
        self._port_publisher: publisher.Publisher | None = None
        self._port_closing = threading.Lock()
        # Before the hub knows of this consumer: it would go on filling the queue of one that failed.
        if hub.config.get(self.config_key):
            self._open_port(hub.config)
        try:
            super().__init__(hub)
        except BaseException:
            self.destroy()
            raise

    def _open_port(self, config: Mapping[str, Any]) -> None:
        self.port: int = settings.get(config, "fedmsg.consumers.gateway.port")
        limits = {
            "high_water_mark": 0,
            "publish_high_water_mark": settings.get(config, "fedmsg.consumers.gateway.high_water_mark"),
            # It waits for no subscriber: a gateway may have no listener for hours.
            "post_init_sleep": 0,
        }
        key = "fedmsg.consumers.gateway.port"
        self._port_publisher = publisher.open_bound({**config, **limits}, key, [f"tcp://*:{self.port}"])
        self.log.info("repeating what this hub receives at tcp://*:%d", self.port)

    def consume(self, message: Any) -> None:
        """Repeat a message: an object with ``topic`` and ``body`` as text."""
        if self._port_publisher is not None:
            self._port_publisher.send(message.topic.encode(), message.body.encode())

    def stop(self) -> None:
        """Close the port."""
        self.destroy()
        super().stop()

    def destroy(self) -> None:
        """Close the port; a second call does nothing."""
        with self._port_closing:
            opened, self._port_publisher = self._port_publisher, None
        if opened is not None:
            publisher.close(opened)
