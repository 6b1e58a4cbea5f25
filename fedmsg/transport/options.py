# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sockets made from settings: the one place where a configured value becomes a socket option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zmq

from fedmsg import _settings, utils
from fedmsg.transport import addresses

__all__ = ["Context", "Socket", "bind", "connect", "forwarder_pair", "publisher", "subscriber"]

#: The types of a context and a socket as this package uses them.
Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]


def publisher(context: Context, config: Mapping[str, Any], *, bound: bool) -> Socket:
    """Make the socket that a publisher sends on: an XPUB, which shows who subscribes.

    On the wire an XPUB is a PUB. A connected one is told of each subscription by hand
    (``ZMQ_XPUB_MANUAL``), so that one that a stopping relay withdraws stays in force until
    we have read of it: what is sent in between still reaches the relay, which reads on.

    Args:
        context: The process's context.
        config: The configuration.
        bound: Whether it will be bound (many subscribers) or connected (one relay).
    """
    socket = context.socket(zmq.XPUB)
    limit = _settings.get(config, "high_water_mark")
    if bound:
        limit = limit or _settings.get(config, "publish_high_water_mark")
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    else:
        socket.setsockopt(zmq.XPUB_MANUAL, 1)
    _common(socket, config, limit)
    # Subscribers send as well: their subscriptions.
    socket.setsockopt(zmq.MAXMSGSIZE, _settings.get(config, "max_message_size"))
    return socket


def subscriber(context: Context, config: Mapping[str, Any], *, bound: bool = False) -> Socket:
    """Make the socket that messages are received on.

    Args:
        context: The process's context.
        config: The configuration.
        bound: Whether others connect to it; then the socket itself enforces the size limit.
    """
    socket = context.socket(zmq.SUB)
    limit = _settings.get(config, "high_water_mark") or _settings.get(config, "receive_high_water_mark")
    _common(socket, config, limit)
    if bound:
        socket.setsockopt(zmq.MAXMSGSIZE, _settings.get(config, "max_message_size"))
    return socket


def forwarder_pair(context: Context, config: Mapping[str, Any], limit: int) -> tuple[Socket, Socket]:
    """Make the two sockets of a forwarder: an XSUB to publish into, a PUB to subscribe to.

    Args:
        context: The forwarder's own context.
        config: The configuration.
        limit: How many messages one stuck subscriber may hold.
    """
    inbound = context.socket(zmq.XSUB)
    _common(inbound, config, _settings.get(config, "receive_high_water_mark"))
    inbound.setsockopt(zmq.MAXMSGSIZE, _settings.get(config, "max_message_size"))
    outbound = context.socket(zmq.PUB)
    _common(outbound, config, limit)
    outbound.setsockopt(zmq.MAXMSGSIZE, _settings.get(config, "max_message_size"))
    return inbound, outbound


def _common(socket: Socket, config: Mapping[str, Any], limit: int) -> None:
    utils.set_high_water_mark(socket, {"high_water_mark": limit})
    utils.set_tcp_keepalive(socket, config)
    utils.set_tcp_reconnect(socket, config)
    socket.setsockopt(zmq.LINGER, _settings.get(config, "zmq_linger"))
    socket.setsockopt(zmq.HEARTBEAT_IVL, _settings.get(config, "zmq_heartbeat_ivl"))


def connect(socket: Socket, address: str, key: str) -> None:
    """Connect, with the options that this kind of address needs.

    Raises:
        ConfigError: It is no address.
    """
    addresses.check(address, key)
    socket.setsockopt(zmq.IPV6, int(addresses.is_ipv6(address)))
    socket.connect(address)


def bind(socket: Socket, address: str, key: str) -> str:
    """Bind, with the options that this kind of address needs.

    Returns:
        The address that was really bound: the port is filled in where it was ``*`` or 0.

    Raises:
        ConfigError: It is no address.
        zmq.ZMQError: It is in use, or not ours to bind.
    """
    addresses.check(address, key)
    socket.setsockopt(zmq.IPV6, int(addresses.is_ipv6(address)))
    socket.bind(address)
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
