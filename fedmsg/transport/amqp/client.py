# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one module that imports pika: connections that never block, with a loop of their own thread.

Of the clients for Python, pika costs the least processor time to publish and to consume, writes without blocking,
and needs nothing else.
"""

from __future__ import annotations

import logging
import ssl
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.exceptions import ChannelClosedByBroker

from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from fedmsg.transport.amqp.problems import Refused
from fedmsg.transport.amqp.urls import Server

__all__ = [
    "OVERSIZED", "READ", "UNREADABLE", "Connection", "close_socket", "connect", "new_loop", "properties_of", "refusal",
    "tls_context",
]  # fmt: skip

# What it logs about each lost connection is in our errors.
logging.getLogger("pika").setLevel(logging.CRITICAL)

READ = IOLoop.READ
# Seconds until a node has to answer, and between two signs of life: a silent cut is noticed after two of these.
_CONNECT_TIMEOUT_S = 2.0
_HEARTBEAT_S = 5
# What stands in place of properties that can't be decoded, and of those of a message that is too large: no program of
# ours or of others makes it.
UNREADABLE = "fedmsg-unreadable"
OVERSIZED = "fedmsg-oversized"


def new_loop() -> Any:
    """Return a loop for the thread that calls this; close it in the end."""
    return IOLoop()


def tls_context(config: Mapping[str, Any]) -> ssl.SSLContext:
    """Return how connections are encrypted.

    Raises:
        ConfigError: A file can't be used.
    """
    authority = settings.get(config, "broker_ca")
    certificate, key = settings.get(config, "broker_cert"), settings.get(config, "broker_key")
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        files = f"broker_ca {authority!r}, broker_cert {certificate!r}, broker_key {key!r}"
        raise ConfigError(f"the broker can't be reached by TLS with {files}: {error}; name files in PEM") from error
    return context


class Connection(pika.SelectConnection):  # type: ignore[misc]
    """A connection that one message can't end, whatever its properties are, and that keeps no body that is too large.

    Attributes:
        body_max: How many bytes the body of a message may have; None for any number.
    """

    body_max: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # How many bytes of a body that is dropped are still to come, by channel.
        self._dropping: dict[int, int] = {}
        super().__init__(*args, **kwargs)

    def _deliver_frame_to_channel(self, value: Any) -> None:
        """Pass a frame on, unless it is of a body that is too large: a mark in its header rejects that message."""
        if self.body_max is not None and value.frame_type != pika.spec.FRAME_METHOD:
            number = value.channel_number
            if value.frame_type == pika.spec.FRAME_HEADER:
                if value.body_size > self.body_max:
                    self._dropping[number] = value.body_size
                    value.properties.headers = {**(value.properties.headers or {}), OVERSIZED: value.body_size}
                    value.body_size = 0
            elif number in self._dropping:
                self._dropping[number] -= len(value.fragment)
                if self._dropping[number] <= 0:
                    del self._dropping[number]
                return
        super()._deliver_frame_to_channel(value)

    def _read_frame(self) -> Any:
        """Read a frame; properties that can't be decoded become a mark, by which the message is rejected."""
        try:
            return super()._read_frame()
        except (RecursionError, ValueError, OverflowError, struct.error, pika.exceptions.AMQPError):
            found = _unreadable(bytes(self._frame_buffer))
            if found is None:
                raise
            return found


def _unreadable(buffer: bytes) -> tuple[int, Any] | None:
    """Return the header frame at the beginning of a buffer with a mark for its properties; None when it is none."""
    kind, channel, size = struct.unpack_from(">BHL", buffer)
    if kind != pika.spec.FRAME_HEADER or len(buffer) < size + 8:
        return None
    body_size = struct.unpack_from(">Q", buffer, 7 + 4)[0]
    return size + 8, pika.frame.Header(channel, body_size, pika.BasicProperties(headers={UNREADABLE: True}))


def connect(
    server: Server,
    loop: Any,
    tls: ssl.SSLContext | None,
    *,
    name: str,
    body_max: int | None,
    opened: Callable[[Any], object],
    failed: Callable[[Any, BaseException], object],
    closed: Callable[[Any, BaseException], object],
) -> Any:
    """Begin to connect; one of the functions is called when it is known how that has ended.

    Args:
        server: The node.
        loop: The loop of the thread.
        tls: How the connection is encrypted, where it is.
        name: The name that the management of the broker shows.
        body_max: How many bytes the body of a message that is received may have; larger ones are dropped as they come.
        opened: Called when there is a connection.
        failed: Called when there will be none.
        closed: Called when it has ended.
    """
    parameters = pika.ConnectionParameters(
        host=server.host,
        port=server.port,
        virtual_host=server.vhost,
        credentials=pika.PlainCredentials(server.user, server.password),
        ssl_options=pika.SSLOptions(tls, server.host) if server.is_tls and tls is not None else None,
        heartbeat=_HEARTBEAT_S,
        connection_attempts=1,
        socket_timeout=_CONNECT_TIMEOUT_S,
        stack_timeout=2 * _CONNECT_TIMEOUT_S,
        client_properties={"connection_name": name, "product": "fedmsg"},
    )
    connection = Connection(
        parameters, on_open_callback=opened, on_open_error_callback=failed, on_close_callback=closed, custom_ioloop=loop
    )
    connection.body_max = body_max
    return connection


def close_socket(connection: Any) -> None:
    """Close the socket of a connection whose loop has ended: a broker that reads nothing never answers the end."""
    if connection._transport is not None:
        connection._transport._sock.close()


def properties_of(message_id: str | None, headers: dict[str, Any]) -> Any:
    """Return the properties of a message that is sent."""
    return pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=message_id,
        headers=headers,
    )


def refusal(error: BaseException) -> Refused | None:
    """Return what the broker has closed a channel with; None when it was not the broker."""
    if isinstance(error, ChannelClosedByBroker):
        return Refused(error.reply_code, error.reply_text)
    return None


def when_empty(channel: Any, call: Callable[..., object]) -> None:
    """Call a function when the next message that is asked for is not there."""
    channel.add_callback(call, [pika.spec.Basic.GetEmpty])


def moment(seconds: float) -> datetime:
    """Return a time as AMQP has it."""
    return datetime.fromtimestamp(max(0.0, seconds), timezone.utc)
