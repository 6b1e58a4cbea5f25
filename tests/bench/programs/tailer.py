# SPDX-License-Identifier: LGPL-2.1-or-later
"""Receives as an application does, or by the bare parts, and times it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import zmq

from tests.bench.programs import payload
from tests.bench.programs.link import serve

# What our subscribers may hold by default; the plain one gets the same.
LIMIT = 100_000

Received = tuple[str, str, str, dict[str, Any]]

_tail: Iterator[Received] = iter(())
_tail_aio: AsyncIterator[Received] | None = None
_loop = asyncio.new_event_loop()
_plain: zmq.Socket[bytes] | None = None


def open_fedmsg(endpoints: list[str], speed: bool) -> None:
    """Listen through fedmsg, ours or the peer: whichever this Python has.

    Args:
        endpoints: Where.
        speed: Whether orjson may be used; without, it is as if it were not installed.
    """
    global _tail
    if not speed:
        sys.modules["orjson"] = None  # type: ignore[assignment]
    import fedmsg

    _tail = fedmsg.tail_messages(
        mute=True,
        name="bench",
        endpoints={f"bench{number}": [address] for number, address in enumerate(endpoints)},
        post_init_sleep=0,
    )


def open_aio(endpoints: list[str], speed: bool) -> None:
    """Listen through fedmsg.aio.

    Args:
        endpoints: Where.
        speed: Whether orjson may be used; without, it is as if it were not installed.
    """
    global _tail_aio
    if not speed:
        sys.modules["orjson"] = None  # type: ignore[assignment]
    from fedmsg.aio import FedMsgContext

    context = FedMsgContext(
        mute=True, endpoints={f"bench{number}": [address] for number, address in enumerate(endpoints)}
    )
    _tail_aio = context.tail_messages()


def open_limit(endpoints: list[str]) -> None:
    """Listen by plain means: recv_multipart and json.loads."""
    global _plain
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    _plain = context.socket(zmq.SUB)
    _plain.set_hwm(LIMIT)
    _plain.subscribe(b"")
    for address in endpoints:
        _plain.connect(address)


def read(count: int, first: int) -> dict[str, Any]:
    """Read so many messages, which are numbered one after the other.

    Returns:
        The seconds it took, when the last came by the clock that all processes share, and what
        is wrong; empty when nothing is.
    """
    start = time.perf_counter()
    if _tail_aio is not None:
        total = _loop.run_until_complete(_sum_aio(_tail_aio, count))
    else:
        total = _sum_tail(count) if _plain is None else _sum_plain(_plain, count)
    last = time.perf_counter()
    expected = sum(range(10_000_000 + first, 10_000_000 + first + count))
    return {
        "seconds": last - start,
        "last": last,
        "problem": "" if total == expected else f"the numbers sum up to {total}, not {expected}",
    }


def _sum_tail(count: int) -> int:
    total = 0
    for _name, _endpoint, _topic, envelope in islice(_tail, count):
        total += envelope["i"]
    return total


async def _sum_aio(tail: AsyncIterator[Received], count: int) -> int:
    total = 0
    async for _name, _endpoint, _topic, envelope in tail:
        total += envelope["i"]
        count -= 1
        if not count:
            break
    return total


def _sum_plain(socket: zmq.Socket[bytes], count: int) -> int:
    receive, loads = socket.recv_multipart, json.loads
    total = 0
    for _ in range(count):
        _topic, body = receive()
        envelope = loads(body)
        total += envelope["i"]
    return total


def check(count: int, first: int) -> str:
    """Read so many messages and compare each with what was sent.

    Returns:
        What is wrong; empty when nothing is.
    """
    if _tail_aio is not None:
        received = _loop.run_until_complete(_take(_tail_aio, count))
    elif _plain is None:
        received = [envelope for _name, _endpoint, _topic, envelope in islice(_tail, count)]
    else:
        received = [json.loads(_plain.recv_multipart()[1]) for _ in range(count)]
    envelopes = sorted(received, key=lambda envelope: int(envelope["i"]))
    for number, envelope in enumerate(envelopes, first):
        if envelope != json.loads(payload.body(number)):
            return f"message {number} is not what was sent: {envelope}"
    return ""


async def _take(tail: AsyncIterator[Received], count: int) -> list[dict[str, Any]]:
    return [(await anext(tail))[3] for _ in range(count)]


serve({"open_fedmsg": open_fedmsg, "open_aio": open_aio, "open_limit": open_limit, "read": read, "check": check})
