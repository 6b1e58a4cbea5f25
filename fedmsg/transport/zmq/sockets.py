# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sockets made from settings: the one place where a configured value becomes a socket option."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from typing import Any

import zmq

from fedmsg import utils
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.transport.zmq import addresses, ipc
from fedmsg.transport.zmq.resolver import resolve

__all__ = [
    "Context",
    "Socket",
    "answerer",
    "asker",
    "attach",
    "bind",
    "confirmed_client",
    "confirmed_port",
    "connect",
    "forwarder_pair",
    "monitor",
    "publisher",
    "stream_client",
    "stream_port",
    "subscriber",
]

#: The types of a context and a socket as this package uses them.
Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

# A subscriber sends something too: topics. One that is longer than so many bytes ends the
# connection, because libzmq loses memory for each of many kilobytes that comes and goes.
_LONGEST_SUBSCRIPTION = 4096
# A subscriber that sends more than so many at once waits until they are read; no more are kept in memory.
_SUBSCRIPTIONS_AT_ONCE = 100
# So many times max_message_size ends a connection; less is rejected and the connection stays.
_FAR_TOO_LARGE = 4
# Milliseconds between two attempts to reach endpoints that share a socket, on average.
_MS_BETWEEN_ATTEMPTS = 0.1
# So many reports wait for a reader that doesn't keep up: the next ones are newer and replace them.
_REPORTS = 10

# A question for stored messages may list a few ten thousand ids.
_LONGEST_QUESTION = 1024 * 1024
# One who asks waits for the answer before asking again; another one may have got lost on the way.
_ANSWERS_AT_ONCE = 2
# Bytes.
_ANSWERS_IN_KERNEL = 512 * 1024
# Milliseconds.
_STUCK_FOR = 30_000
# What clients of the stream say is short; topics make the longest of it.
_LONGEST_STREAM_REQUEST = 256 * 1024
_STREAM_REQUESTS_AT_ONCE = 100
# How many messages may wait for one client. Those of the stream are fewer: they are counted before they are sent.
_STREAM_ANSWERS_AT_ONCE = 10_000
# How many messages of one publisher wait at the confirmed port until they are read, and how many answers for it.
_SUBMISSIONS_AT_ONCE = 1000
_CONFIRMS_AT_ONCE = 10_000
# An answer to a message is short.
_LONGEST_ANSWER = 64 * 1024
# How long TCP waits before it asks an idle connection, and between two questions.
_PROBES = ("zmq_tcp_keepalive_idle", "zmq_tcp_keepalive_intvl")
# After so many intervals without a sign of life the end that is asked for one closes the connection, too.
_SILENT_INTERVALS = 2
# Milliseconds; ZeroMQ takes no more.
_LONGEST_SILENCE = 6_553_500


def publisher(context: Context, config: Mapping[str, Any], *, bound: bool) -> Socket:
    """Make the socket that a publisher sends on: an XPUB, which shows who subscribes.

    On the wire an XPUB is a PUB. On a connected one our code applies each subscription
    (``ZMQ_XPUB_MANUAL``), so that one that a stopping relay withdraws stays in force until
    we have read of it: what is sent in between still reaches the relay, which reads on.
    """
    socket = context.socket(zmq.XPUB)
    limit = settings.get(config, "high_water_mark")
    if bound:
        limit = limit or settings.get(config, "publish_high_water_mark")
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    else:
        socket.setsockopt(zmq.XPUB_MANUAL, 1)
    _common(socket, config, limit)
    _serve_subscribers(socket, config)
    if not bound:
        # A relay that is busy for a while must not lose what this one has sent it.
        socket.setsockopt(zmq.HEARTBEAT_TTL, 0)
    return socket


def subscriber(context: Context, config: Mapping[str, Any], *, bound: bool = False, endpoints: int = 1) -> Socket:
    """Make the socket that messages are received on.

    A bound one enforces the size limit itself. Attempts to reach many endpoints that are down are spread over time.
    """
    socket = context.socket(zmq.SUB)
    limit = settings.get(config, "high_water_mark") or settings.get(config, "receive_high_water_mark")
    _common(socket, config, limit)
    # A message that is a bit too large is rejected with its reason; one that is far too large ends the
    # connection before it fills the memory.
    size: int = settings.get(config, "max_message_size")
    socket.setsockopt(zmq.MAXMSGSIZE, size if bound else _FAR_TOO_LARGE * size)
    interval = int(socket.get(zmq.RECONNECT_IVL))
    if 0 < interval < endpoints * _MS_BETWEEN_ATTEMPTS:
        socket.setsockopt(zmq.RECONNECT_IVL, int(endpoints * _MS_BETWEEN_ATTEMPTS))
    return socket


def forwarder_pair(context: Context, config: Mapping[str, Any], limit: int) -> tuple[Socket, Socket]:
    """Make the two sockets of a forwarder: an XSUB to publish into, a PUB to subscribe to.

    One stuck subscriber may hold ``limit`` messages.
    """
    inbound = context.socket(zmq.XSUB)
    _common(inbound, config, settings.get(config, "receive_high_water_mark"))
    inbound.setsockopt(zmq.MAXMSGSIZE, settings.get(config, "max_message_size"))
    outbound = context.socket(zmq.PUB)
    _common(outbound, config, limit)
    _serve_subscribers(outbound, config)
    return inbound, outbound


def monitor(context: Context, config: Mapping[str, Any]) -> Socket:
    """Make the PUB socket on which a daemon reports how it is."""
    socket = context.socket(zmq.PUB)
    _common(socket, config, _REPORTS)
    socket.setsockopt(zmq.LINGER, 0)
    _serve_subscribers(socket, config)
    return socket


def answerer(context: Context, config: Mapping[str, Any]) -> Socket:
    """Make the socket that questions are answered on: a ROUTER, which on the wire is a REP to those who ask.

    A REP would block on its answer to a client that never reads, or lose the address of the client. This
    one reports for each answer whether it could be sent.
    """
    return _router(context, config, _ANSWERS_AT_ONCE, _LONGEST_QUESTION)


def asker(context: Context, config: Mapping[str, Any]) -> Socket:
    """Make the socket that questions are asked on: a DEALER, which can ask again while it waits."""
    socket = _dealer(context, config, _ANSWERS_AT_ONCE, settings.get(config, "max_message_size"))
    socket.setsockopt(zmq.LINGER, 0)
    return socket


def stream_port(context: Context, config: Mapping[str, Any]) -> Socket:
    """Make the socket that a relay serves its stream on: a ROUTER, which reports what could not be sent."""
    socket = _router(context, config, _STREAM_ANSWERS_AT_ONCE, _LONGEST_STREAM_REQUEST)
    socket.setsockopt(zmq.RCVHWM, _STREAM_REQUESTS_AT_ONCE)
    return socket


def stream_client(context: Context, config: Mapping[str, Any]) -> Socket:
    """Make the socket that a stream is read on: a DEALER, whose receive buffer is bounded by credit alone."""
    return _dealer(context, config, 0, _FAR_TOO_LARGE * settings.get(config, "max_message_size"))


def confirmed_port(context: Context, config: Mapping[str, Any]) -> Socket:
    """Make the socket that a relay takes messages at which it confirms: a ROUTER, which reports lost answers."""
    # A message that is a bit too large is rejected with its reason; one that is far too large ends the connection.
    size = _FAR_TOO_LARGE * settings.get(config, "max_message_size")
    socket = _router(context, config, _CONFIRMS_AT_ONCE, size)
    socket.setsockopt(zmq.RCVHWM, _SUBMISSIONS_AT_ONCE)
    return socket


def confirmed_client(context: Context, config: Mapping[str, Any]) -> Socket:
    """Make the socket that messages are sent on to be confirmed: a DEALER for one connection."""
    socket = _dealer(context, config, _SUBMISSIONS_AT_ONCE, _LONGEST_ANSWER)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)
    return socket


def _router(context: Context, config: Mapping[str, Any], limit: int, size: int) -> Socket:
    """Make a socket for many clients, which reports what could not be sent."""
    socket = context.socket(zmq.ROUTER)
    _common(socket, config, limit)
    socket.setsockopt(zmq.MAXMSGSIZE, size)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    # By default the kernel takes megabytes for each client that does not read.
    socket.setsockopt(zmq.SNDBUF, _ANSWERS_IN_KERNEL)
    # Ends the connection of one who has not read a byte for so long.
    socket.setsockopt(zmq.TCP_MAXRT, _STUCK_FOR)
    return socket


def _dealer(context: Context, config: Mapping[str, Any], limit: int, size: int) -> Socket:
    """Make a socket for one server."""
    socket = context.socket(zmq.DEALER)
    _common(socket, config, limit)
    socket.setsockopt(zmq.MAXMSGSIZE, size)
    # Not ZMQ_IMMEDIATE: with it, libzmq aborts the process where a connection ends while a message of several frames
    # is being read.
    return socket


def _common(socket: Socket, config: Mapping[str, Any], limit: int) -> None:
    """Set what all sockets have: how much waits, and how the end of a connection is noticed.

    TCP asks the other end, and not ZeroMQ: an end that asks for signs of life and has stopped reading, because
    its limit is reached, makes libzmq 4.3.5 abort the process when the other one resets the connection.
    """
    utils.set_high_water_mark(socket, {"high_water_mark": limit})
    interval = settings.get(config, "zmq_heartbeat_ivl")
    often = {key: min(value, math.ceil(interval / 1000)) for key in _PROBES if interval and (value := config.get(key))}
    utils.set_tcp_keepalive(socket, {**config, **often})
    utils.set_tcp_reconnect(socket, config)
    socket.setsockopt(zmq.LINGER, settings.get(config, "zmq_linger"))


def _serve_subscribers(socket: Socket, config: Mapping[str, Any]) -> None:
    """Bound what subscribers say, and ask them for signs of life; they notice by that who is silent, too."""
    socket.setsockopt(zmq.MAXMSGSIZE, _LONGEST_SUBSCRIPTION)
    socket.setsockopt(zmq.RCVHWM, _SUBSCRIPTIONS_AT_ONCE)
    interval = settings.get(config, "zmq_heartbeat_ivl")
    socket.setsockopt(zmq.HEARTBEAT_IVL, interval)
    socket.setsockopt(zmq.HEARTBEAT_TTL, min(_SILENT_INTERVALS * interval, _LONGEST_SILENCE))


def connect(socket: Socket, address: str, key: str) -> None:
    """Connect, with the options that this kind of address needs.

    Raises:
        ConfigError: It is no address, or not one to connect to.
    """
    addresses.check(address, key)
    attach(socket, resolve(address).target, key)


def attach(socket: Socket, target: str, key: str) -> None:
    """Connect to what an address was resolved to.

    Raises:
        ConfigError: It is not an address to connect to.
    """
    socket.setsockopt(zmq.IPV6, int(addresses.is_ipv6(target)))
    try:
        socket.connect(target)
    except zmq.ZMQError as error:
        raise ConfigError(f"{key}: {target} can't be connected to: {error.strerror}") from error


def bind(socket: Socket, address: str, key: str) -> str:
    """Bind, with the options that this kind of address needs; return the address with the port that was ``*`` or 0.

    Raises:
        AddressInUse: Another socket has it.
        ConfigError: It is no address, or not one of this machine, or not for this user to bind.
    """
    addresses.check(address, key)
    host = addresses.host_to_resolve(address)
    # A name that is not found may be that of a network interface.
    socket.setsockopt(zmq.IPV6, int(addresses.is_ipv6(resolve(address, log_failure=False).target)))
    try:
        if address.startswith("ipc://") and socket.getsockopt(zmq.USE_FD) == -1:
            with ipc.reserved(address.removeprefix("ipc://"), key):
                socket.bind(address)
        else:
            socket.bind(address)
    except zmq.ZMQError as error:
        kind = AddressInUse if error.errno == zmq.EADDRINUSE else ConfigError
        reason = error.strerror
        if host and error.errno == errno.ENODEV:
            reason = f"the host {host!r} can't be found, and no network interface has that name"
        raise kind(f"{key}: {address} can't be bound: {reason}") from error
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
