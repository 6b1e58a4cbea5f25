# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishes as an application does, or by the bare parts, and times it.

It is opened as ``fedmsg`` (ours or the peer: whichever this Python has), ``aio`` (ours, in
an event loop), ``limit`` (uuid, json and a plain PUB) or ``bare`` (the plain PUB alone).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import zmq

from tests.bench.programs import payload
from tests.bench.programs.link import serve

# What our bound publishers may hold by default; the plain one gets the same.
LIMIT = 200_000
# So many messages are timed at a time.
STRETCH = 20

_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
_publish: dict[str, Callable[[dict[str, Any]], object]] = {}
_loop = asyncio.new_event_loop()
_publish_aio: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {}


def open_fedmsg(address: str) -> None:
    """Publish through fedmsg, bound at an address."""
    import fedmsg

    fedmsg.init(
        name="bench",
        endpoints={"bench": [address]},
        post_init_sleep=0,
    )
    _publish["given"] = lambda message: fedmsg.publish(topic="update", msg=message, modname="bench")
    _publish["guessed"] = lambda message: fedmsg.publish(topic="update", msg=message)


def open_aio(address: str) -> None:
    """Publish through fedmsg.aio, bound at an address."""
    import fedmsg.aio

    _loop.run_until_complete(fedmsg.aio.init(name="bench", endpoints={"bench": [address]}, post_init_sleep=0))
    _publish_aio["given"] = lambda message: fedmsg.aio.publish(topic="update", msg=message, modname="bench")


def open_limit(address: str) -> None:
    """Publish the same envelope by plain means: uuid4, json.dumps, send_multipart."""
    send = _open_plain(address).send_multipart
    year, user = f"{time.localtime().tm_year}-", "bench"
    number = 0

    def publish(message: dict[str, Any]) -> None:
        nonlocal number
        number += 1
        envelope = {
            "i": number,
            "msg": message,
            "msg_id": year + str(uuid.uuid4()),
            "timestamp": int(time.time()),
            "topic": payload.TOPIC,
            "username": user,
        }
        send([payload.TOPIC.encode(), json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()])

    _publish["given"] = publish


def open_bare(address: str) -> None:
    """Send an envelope that is ready."""
    send = _open_plain(address).send_multipart
    topic, body = payload.TOPIC.encode(), payload.body(0)
    _publish["given"] = lambda _message: send([topic, body])


def _open_plain(address: str) -> zmq.Socket[bytes]:
    socket = _context.socket(zmq.PUB)
    socket.set_hwm(LIMIT)
    socket.bind(address)
    return socket


def publish(count: int, size: int, how: str, depth: int) -> float:
    """Publish a message again and again.

    Args:
        count: How often.
        size: The message, see `payload.message`.
        how: The modname ``given`` or ``guessed``.
        depth: How many more frames of the application there are on the call stack.

    Returns:
        Microseconds for each: the median over stretches of a few, for on a machine that
        others use too, some stretches are interrupted.
    """
    if how in _publish_aio:
        return _loop.run_until_complete(_in_loop(_publish_aio[how], payload.message(size), count))
    return _deeper(depth, _publish[how], payload.message(size), count)


async def _in_loop(call: Callable[[dict[str, Any]], Awaitable[object]], message: dict[str, Any], count: int) -> float:
    figures = []
    for begin in range(0, count, STRETCH):
        stretch = min(STRETCH, count - begin)
        start = time.perf_counter()
        for _ in range(stretch):
            await call(message)
        figures.append((time.perf_counter() - start) / stretch * 1e6)
    return statistics.median(figures)


def _deeper(depth: int, call: Callable[[dict[str, Any]], object], message: dict[str, Any], count: int) -> float:
    if depth:
        return _deeper(depth - 1, call, message, count)
    figures = []
    for begin in range(0, count, STRETCH):
        stretch = min(STRETCH, count - begin)
        start = time.perf_counter()
        for _ in range(stretch):
            call(message)
        figures.append((time.perf_counter() - start) / stretch * 1e6)
    return statistics.median(figures)


def publish_until_refused(address: str, patience: float) -> dict[str, int]:
    """Publish to a relay without a break until it listens no more.

    Args:
        address: Of the relay.
        patience: How many seconds to wait for it to listen again.

    Returns:
        How many messages were accepted, and how many are said to be lost.
    """
    from fedmsg.core import FedMsgContext
    from fedmsg.exceptions import NotListening

    message = payload.message(300)
    with FedMsgContext(active=True, name="relay_inbound", relay_inbound=[address], timeout=patience) as context:
        published = 0
        try:
            while True:
                context.publish(topic="update", msg=message, modname="bench")
                published += 1
        except NotListening:
            pass
    return {"published": published, "lost": context.lost}


serve(
    {
        "open_fedmsg": open_fedmsg,
        "open_aio": open_aio,
        "open_limit": open_limit,
        "open_bare": open_bare,
        "publish": publish,
        "publish_until_refused": publish_until_refused,
    }
)
