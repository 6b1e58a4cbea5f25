# SPDX-License-Identifier: LGPL-2.1-or-later
"""The relay as a consumer: for a hub that relays beside other work, and to build one's own relay on.

``fedmsg-relay`` itself passes messages on unread, and faster than any consumer can. It
runs a consumer only when a subclass of the command names one of its own, as
``relay_consumer``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fedmsg import crypto
from fedmsg.consumers import FedmsgConsumer
from fedmsg.exceptions import MissingKey
from fedmsg.hub import Hub, daemon
from fedmsg.hub.consumer import runner_of
from fedmsg.hub.endpoints import Inbound

__all__ = ["RelayConsumer", "SigningRelayConsumer", "run_consumer"]

log = logging.getLogger("fedmsg.consumers.relay")

_NO_CERTIFICATE = (
    "The signing relay requires that the certificate name is in the "
    '"certnames" dictionary using the "signing_relay" key'
)


class RelayConsumer(FedmsgConsumer):
    """Publishes each message again, as it came, at the addresses of its hub."""

    topic = "*"
    config_key = "fedmsg.consumers.relay.enabled"

    def consume(self, message: Any) -> None:
        """Pass a message on: a dict with ``topic`` and ``body``, the envelope."""
        self.hub.send_message(topic=message["topic"], message=message["body"])


class SigningRelayConsumer(RelayConsumer):
    """The same, signed with the key that ``certnames["signing_relay"]`` names."""

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        certname = (hub.config.get("certnames") or {}).get("signing_relay")
        if certname:
            hub.config["certname"] = certname
        elif not crypto.uses_gnupg(hub.config):
            log.error(_NO_CERTIFICATE)
        if self._initialized:
            runner_of(self).on_start.append(self._check_certificate)

    def _check_certificate(self) -> None:
        """Raise MissingKey where no certificate is named to sign with."""
        if not self.hub.config.get("certname") and not crypto.uses_gnupg(self.hub.config):
            raise MissingKey(_NO_CERTIFICATE)

    def consume(self, message: Any) -> None:
        """Pass a signed copy of a message on, which is a dict with ``topic`` and ``body``, the envelope."""
        super().consume({**message, "body": crypto.sign(message["body"], **self.hub.config)})


def run_consumer(
    config: Mapping[str, Any], consumer: Any, inbound: list[str], outbound: list[str], *, validate: bool | None
) -> None:
    """Run one consumer between the addresses of a relay, until it is stopped; it need not be enabled."""
    own = {**config, **({consumer.config_key: True} if consumer.config_key else {})}
    if validate:
        own["validate_signatures"] = True
    endpoints = Inbound([("relay_inbound", address) for address in inbound], bound=True)
    daemon.run_hub(
        lambda: Hub(own, [consumer], [], inbound=endpoints, outbound=outbound),
        f"relaying from {', '.join(inbound)} to {outbound[0]}",
    )
