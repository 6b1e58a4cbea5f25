# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests and replies: a client that goes on after garbage, and after a busy server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from fedmsg.exceptions import TransportError
from fedmsg.transport.zmq import rpc


def test_request_knows_its_reply() -> None:
    one, two = rpc.Request(b"{}"), rpc.Request(b"{}")
    head, empty, body = one.frames
    assert (empty, body) == (b"", b"{}")
    assert one.reply([head, b"", b"a", b"b"]) == [b"a", b"b"]
    for frames in ([], [head], [head, b""], [b"", b"a"], [head, b"x", b"a"], [*two.frames[:2], b"a"]):
        assert one.reply(frames) is None


@contextmanager
def answering(port: int, *replies: bytes) -> Iterator[list[bytes]]:
    """Answer so many requests at a port, in a thread; gives the requests."""
    got: list[bytes] = []
    with zmq.Context() as context, context.socket(zmq.REP) as server:
        server.linger = 1000
        server.bind(f"tcp://127.0.0.1:{port}")

        def answer() -> None:
            for reply in replies:
                got.append(server.recv())
                server.send(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        yield got
        thread.join()


GREETING_OF_PUB = (
    b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"
)


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 100, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", GREETING_OF_PUB],
    ids=["bytes", "nothing", "http", "pub"],
)
def test_client_hears_the_next_server_after_garbage(garbage: bytes) -> None:
    """What listens at the address does not speak ZeroMQ and ends; then a real server binds there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with rpc.Client({}, f"tcp://127.0.0.1:{port}", "test", "test") as client:
            with pytest.raises(TransportError, match=r"did not answer within 0\.3 s"):
                # Control: the garbage is received, and is no reply.
                _ask_while_garbage(client, listener, garbage)
            listener.close()
            with answering(port, b"reply") as got:
                assert client.request(b"{}", 20) == [b"reply"]
            assert got == [b"{}"]


def _ask_while_garbage(client: rpc.Client, listener: socket.socket, garbage: bytes) -> None:
    connections = []

    def answer() -> None:
        connection, _ = listener.accept()
        connections.append(connection)
        connection.sendall(garbage)
        with contextlib.suppress(OSError):  # the client may have hung up by then
            connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        client.request(b"{}", 0.3)
    finally:
        thread.join()
        assert connections
        connections[0].close()


def test_client_asks_a_busy_server_again() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]

    def is_busy(frames: list[bytes]) -> bool:
        return frames == [b"busy"]

    with rpc.Client({}, f"tcp://127.0.0.1:{port}", "test", "test") as client:
        with answering(port, b"busy", b"busy", b"done") as got:
            assert client.request(b"1", 20, is_busy) == [b"done"]
        assert got == [b"1"] * 3
