# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock WebSocket clients, and what tests send them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import websocket

from fedmsg.testing import wait_until
from fedmsg.websocket.clients import Filtered
from fedmsg.websocket.server import Server

TOPIC = "org.fedoraproject.dev.shop"


def envelope(topic: str = TOPIC, **more: Any) -> dict[str, Any]:
    """Give an envelope as a publisher makes it."""
    return {"topic": topic, "msg": {}, "timestamp": 1, "msg_id": "2026-a", "i": 1, "username": "ann", **more}


def give(server: Server, topic: str = TOPIC, **more: Any) -> None:
    """Hand a message over as a hub does."""
    server.deliver(topic, json.dumps(envelope(topic, **more)))


class Client:
    """A client of a library that many programs use.

    Args:
        server: The server to connect to.
        options: For `websocket.create_connection`.
    """

    def __init__(self, server: Server, **options: Any) -> None:
        self._server = server
        self.connection = websocket.create_connection(
            f"ws://127.0.0.1:{server.port}/", timeout=20, suppress_origin=True, **options
        )

    def say(self, topic: Any, body: Any) -> None:
        """Send a topic and a body."""
        self.connection.send(json.dumps({"topic": topic, "body": body}))

    def subscribe(self, *topics: str | dict[str, Any]) -> None:
        """Subscribe; returns when the server has read that."""
        for topic in topics:
            self.say("__topic_subscribe__", topic)
        assert self.connection.sock is not None
        name = f":{self.connection.sock.getsockname()[1]}"
        wanted = {topic.replace("*", "") for topic in topics if isinstance(topic, str)}

        def has_read() -> bool:
            subscribed = list(self._server._index._topics.items())
            return any(
                wanted <= set(theirs)
                for member, theirs in subscribed
                if (member.client if isinstance(member, Filtered) else member).name.endswith(name)
            )

        wait_until(has_read)

    def hear(self) -> Any:
        """Give the next message."""
        return json.loads(self.connection.recv())

    def numbers(self, count: int) -> list[int]:
        """Give the numbers of so many messages."""
        return [self.hear()["body"]["i"] for _ in range(count)]

    def close(self) -> None:
        """Say goodbye, and close the socket, which the library forgets where the other side was first."""
        socket = self.connection.sock
        self.connection.close(timeout=1)
        if socket is not None:
            socket.close()

    def ending(self) -> tuple[int, str]:
        """Give code and reason with which the server ends the connection; what comes before is left out."""
        while True:
            operation, data = self.connection.recv_data()
            if operation == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big"), data[2:].decode()


@contextmanager
def client(server: Server, *topics: str | dict[str, Any], **options: Any) -> Iterator[Client]:
    """Connect a client that has subscribed to topics."""
    made = Client(server, **options)
    try:
        if topics:
            made.subscribe(*topics)
        yield made
    finally:
        made.close()


def raw(port: int | None, *, window: int | None = None) -> socket.socket:
    """Connect without any protocol.

    Args:
        port: The port.
        window: How many bytes the kernel keeps until they are read.
    """
    connection = socket.socket()
    if window is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    return connection


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def shake_hands(connection: socket.socket) -> None:
    """Become a WebSocket connection."""
    connection.sendall(UPGRADE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 ")


def frame(operation: int, data: bytes, *, final: bool = True) -> bytes:
    """Give a frame as a client sends it, masked with zeros."""
    head = bytes([0x80 * final | operation])
    if len(data) < 126:
        head += bytes([0x80 | len(data)])
    elif len(data) < 65536:
        head += b"\xfe" + len(data).to_bytes(2, "big")
    else:
        head += b"\xff" + len(data).to_bytes(8, "big")
    return head + bytes(4) + data
