# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which transport a configuration has: the only place that knows that there are several.

Its parts are loaded by their names, when they are first used: a program loads no client of a broker that it has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fedmsg import utils
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError

__all__ = ["Transport", "of"]


class Transport(NamedTuple):
    """A transport: where its parts are, as ``package.module:function``, and what it does differently.

    Attributes:
        name: What it is called.
        confirmed: Opens what publishes with a confirm.
        source: Opens a `fedmsg.transport.base.Source` that listens.
        subscription: Opens what reads the history, and then what comes.
        reader: Opens what reads for one consumer of a hub that acknowledges its messages.
        status: Asks a broker how it is, and its queues; empty where there is no broker.
        remove: Removes a queue of the broker.
        endpoint: The name of the one endpoint that there is; empty where ``endpoints`` has them.
        confirms: Whether everything that is published is confirmed.
        has_queues: Whether each consumer of a hub has a queue of its own, durable or not.
        has_positions: Whether a confirm has a position.
        is_off: Whether ZeroMQ is switched off, and no broker takes its place.
    """

    name: str
    confirmed: str
    source: str
    subscription: str
    reader: str
    status: str = ""
    remove: str = ""
    endpoint: str = ""
    confirms: bool = False
    has_queues: bool = False
    has_positions: bool = True
    is_off: bool = False

    def load(self, part: str) -> Any:
        """Return a part, such as ``source``."""
        return utils.load_class(getattr(self, part))


_ZMQ = Transport(
    "ZeroMQ",
    confirmed="fedmsg.stream.publishing:open_confirmed",
    source="fedmsg.transport.zmq.source:Source",
    subscription="fedmsg.stream.subscription:open_subscription",
    reader="fedmsg.stream.subscription:open_reader",
)
_AMQP = Transport(
    "RabbitMQ",
    confirmed="fedmsg.transport.amqp.sink:open_confirmed",
    source="fedmsg.transport.amqp.source:open_source",
    subscription="fedmsg.transport.amqp.history:open_subscription",
    reader="fedmsg.transport.amqp.consuming:open_reader",
    status="fedmsg.transport.amqp.checking:status",
    remove="fedmsg.transport.amqp.checking:remove",
    endpoint="broker",
    confirms=True,
    has_queues=True,
    has_positions=False,
)


def of(config: Mapping[str, Any]) -> Transport:
    """Return the transport of a configuration.

    Raises:
        ConfigError: There are two.
    """
    if settings.get(config, "broker_url"):
        if settings.get(config, "stomp_uri"):
            raise ConfigError("broker_url and stomp_uri are both set, and a bus has one broker: remove one of them")
        return _AMQP
    return _ZMQ if settings.get(config, "zmq_enabled") else _ZMQ._replace(is_off=True)
