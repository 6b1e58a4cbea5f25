# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishes at a pace, and takes the time until a listener has each message."""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import Any

from tests.bench.programs.link import serve

_never = threading.Event()
_messages: list[Any] = []
_context: list[Any] = []


def publisher(config: dict[str, Any]) -> None:
    """Become a publisher."""
    from fedmsg.core import FedMsgContext

    _context.append(FedMsgContext(**config, active=True))


def listener(config: dict[str, Any], stream: bool) -> None:
    """Become a listener, of a stream or of a relay without one."""
    from fedmsg.core import FedMsgContext

    _context.append(FedMsgContext(**config, mute=True))
    _messages.append(iter(_context[0].subscribe() if stream else _context[0].tail_messages()))


def publish(count: int, pace: float) -> None:
    """Publish so many messages, so many in a second."""
    begin = time.monotonic()
    for number in range(count):
        ahead = begin + number / pace - time.monotonic()
        if ahead > 0:
            _never.wait(ahead)
        _context[0].publish(topic="update", modname="bench", msg={"text": "x" * 300, "sent": time.time()})


def listen(count: int) -> dict[str, float]:
    """Take so many messages; returns the median and the 99th percentile of their delays in milliseconds."""
    clock = time.time
    delays = sorted(clock() - message[3]["msg"]["sent"] for message in islice(_messages[0], count))
    return {"p50": 1000 * delays[count // 2], "p99": 1000 * delays[count * 99 // 100]}


serve({"publisher": publisher, "listener": listener, "publish": publish, "listen": listen})
