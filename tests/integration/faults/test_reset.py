# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connections that are reset while what came over them waits to be read: libzmq must not abort the process."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
from socket import SO_LINGER, SOL_SOCKET

import pytest

from fedmsg.testing import free_address
from tests.integration.faults.ground import frame, raw, shake_hands

# Milliseconds between two signs of life.
INTERVAL = 800

# A process that reads everything, but only some time after it was told to by its standard input.
RECEIVER = f"""
import sys, threading, zmq
from fedmsg.transport.zmq import sockets

kind, address = sys.argv[1:]
config = {{"zmq_heartbeat_ivl": {INTERVAL}, "receive_high_water_mark": 10, "max_message_size": 1000}}
context = zmq.Context()
if kind == "subscriber":
    socket = sockets.subscriber(context, config, bound=True)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
elif kind == "forwarder_pair":
    socket, _ = sockets.forwarder_pair(context, config, 10)
    socket.send(b"\\x01")
else:
    socket = getattr(sockets, kind)(context, config)
sockets.bind(socket, address, "test")
print("bound", flush=True)
sys.stdin.readline()
# Until ZeroMQ would ask for a sign of life.
threading.Event().wait({1.2 * INTERVAL / 1000})
count = 0
while socket.poll(500):
    socket.recv_multipart()
    count += 1
print(count, flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "peer"),
    [
        ("forwarder_pair", b"PUB"),
        ("subscriber", b"PUB"),
        ("confirmed_port", b"DEALER"),
        ("stream_port", b"DEALER"),
        ("answerer", b"REQ"),
    ],
)
def test_a_peer_that_resets_the_connection_while_its_messages_wait(kind: str, peer: bytes) -> None:
    address = free_address()
    command = [sys.executable, "-c", RECEIVER, kind, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdin is not None
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "bound\n"
        with raw(address) as connection:
            shake_hands(connection, peer)
            # More than its limit, so that it stops reading; a question has an empty frame before it.
            one = frame(b"x" * 10)
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while True:
                    connection.sendall((b"\x01\x00" + one if peer == b"REQ" else one) * 1000)
            connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        found, _ = receiver.communicate("\n", timeout=60)
    assert receiver.returncode == 0
    # What was read from the network before that is there.
    assert int(found) >= 2
