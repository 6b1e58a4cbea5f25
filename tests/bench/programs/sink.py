# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plain subscriber: takes what comes, and then checks it message by message."""

from __future__ import annotations

import gc
import json
import re
import time
from typing import Any

import zmq

from tests.bench.programs import payload
from tests.bench.programs.link import serve

_MSG_ID = re.compile(r"20\d\d-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
_socket = _context.socket(zmq.SUB)
_socket.set_hwm(0)
_socket.setsockopt(zmq.RECONNECT_IVL, 10)
_socket.subscribe(b"")
_topics: list[bytes] = []
_bodies: list[bytes] = []
_times: list[float] = []
_ids: set[str] = set()


def connect(address: str) -> None:
    """Subscribe to everything there."""
    _socket.connect(address)


def greeted(patience: float) -> bool:
    """Whether a message comes within so many seconds; takes what is there."""
    heard = False
    while _socket.poll(0 if heard else int(patience * 1000)):
        _socket.recv_multipart()
        heard = True
    return heard


def collect(count: int, patience: float) -> dict[str, Any]:
    """Take so many messages, or fewer when no more come.

    Args:
        count: How many.
        patience: How many seconds of silence mean that no more come.

    Returns:
        How many came, and when the last of them did, by the clock that all processes share.
    """
    _topics.clear()
    _bodies.clear()
    _times.clear()
    gc.disable()
    receive, noblock, greeting = _socket.recv, int(zmq.NOBLOCK), payload.GREETING[0]
    last = 0.0
    while len(_bodies) < count and _socket.poll(int(patience * 1000)):
        try:
            while len(_bodies) < count:
                topic = receive(noblock)
                body = receive()
                if topic != greeting:
                    _topics.append(topic)
                    _bodies.append(body)
        except zmq.Again:
            pass
        last = time.perf_counter()
    gc.enable()
    return {"count": len(_bodies), "last": last}


def clock(count: int, patience: float) -> list[float]:
    """Take so many messages and give the time when each came."""
    collected = 0
    _times.clear()
    while collected < count and _socket.poll(int(patience * 1000)):
        topic, _ = _socket.recv_multipart()
        if topic != payload.GREETING[0]:
            _times.append(time.perf_counter())
            collected += 1
    return list(_times)


def check_sent(first: int) -> dict[str, Any]:
    """Compare what was collected with what was sent, one by one.

    Returns:
        What is wrong, empty when nothing is; and how many say the same in other bytes.
    """
    topic = payload.TOPIC.encode()
    changed = 0
    for number, (frame, body) in enumerate(zip(_topics, _bodies, strict=True), first):
        sent = payload.body(number)
        if frame != topic or (body != sent and json.loads(body) != json.loads(sent)):
            return {"problem": f"message {number} is not what was sent: {frame!r} {body!r}", "changed": changed}
        changed += body != sent
    return {"problem": "", "changed": changed}


def check_envelopes(topic: str, size: int, first: int) -> str:
    """Check published messages: numbered in order, complete, canonical, each with an id of its own.

    Returns:
        What is wrong; empty when nothing is.
    """
    message = payload.message(size)
    for number, (frame, body) in enumerate(zip(_topics, _bodies, strict=True), first):
        envelope = json.loads(body)
        fresh = _MSG_ID.fullmatch(envelope["msg_id"]) and envelope["msg_id"] not in _ids
        _ids.add(envelope["msg_id"])
        expected = {**envelope, "i": number, "msg": message, "topic": topic}
        canonical = json.dumps(expected, sort_keys=True, separators=(",", ":")).encode()
        if frame.decode() != topic or body != canonical or not fresh or abs(time.time() - envelope["timestamp"]) > 60:
            return f"message {number} is not as it should be: {frame!r} {body!r}"
    return ""


def check_lines(first: int) -> str:
    """Check that what was collected are the messages of a logger: each line once and in order.

    Returns:
        What is wrong; empty when nothing is.
    """
    for number, body in enumerate(_bodies, first):
        if json.loads(body)["msg"] != {"log": f"line {number}"}:
            return f"message {number} is not what was written: {body!r}"
    return ""


serve(
    {
        "connect": connect,
        "greeted": greeted,
        "collect": collect,
        "clock": clock,
        "check_sent": check_sent,
        "check_envelopes": check_envelopes,
        "check_lines": check_lines,
    }
)
