# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clients of the WebSocket server: what they say, what waits for them, and how much of it may."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from fedmsg import encoding
from fedmsg.exceptions import MessageError

__all__ = ["Client", "Clients", "Connection", "Limits", "Seldom", "read", "write"]


class Limits(NamedTuple):
    """What clients may do.

    Attributes:
        clients: How many may be connected.
        frame: How many bytes one of them may send at once.
        topics: How many subscriptions one of them may have.
        topic: How many characters one of these may have.
        refused: After how many frames that had to be ignored one of them is sent away.
        waiting: How many messages wait for one of them; then the oldest are left out.
        waiting_bytes: How many bytes wait for one of them.
        waiting_in_all: How many bytes wait for all of them; then the one with the most is sent away.
        handed_over: How many messages the hub hands over before they are looked at.
        handed_over_bytes: The same in bytes.
        handshake: After how many seconds a connection that is none yet is closed.
        ping: How often a client is asked whether it is alive, and how long it has for the answer, in seconds.
    """

    clients: int = 1000
    frame: int = 8192
    topics: int = 100
    topic: int = 512
    refused: int = 100
    waiting: int = 1000
    waiting_bytes: int = 32 * 1024 * 1024
    waiting_in_all: int = 256 * 1024 * 1024
    handed_over: int = 10_000
    handed_over_bytes: int = 64 * 1024 * 1024
    handshake: float = 10.0
    ping: float = 20.0


class Seldom:
    """Warns once in a while for each kind of event, and counts them all.

    Args:
        log: Where the warnings go.
        every: Seconds between two warnings of one kind.

    Attributes:
        counts: How many there were, by kind.
    """

    def __init__(self, log: logging.Logger, every: float = 10.0) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._every = every
        self._quiet_until: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def say(self, kind: str, text: str) -> None:
        """Count an event, and perhaps say so.

        Args:
            kind: A short fixed word.
            text: What happened; it may quote anything.
        """
        self.counts[kind] += 1
        now = time.monotonic()
        if now < self._quiet_until.get(kind, 0.0):
            self._unsaid[kind] += 1
            return
        self._quiet_until[kind] = now + self._every
        more = self._unsaid.pop(kind, 0)
        # What it quotes must not steer a terminal or fill a disk.
        self._log.warning("%s%s", ascii(text)[1:-1][:300], f" (and {more} more like it)" if more else "")


class Connection(Protocol):
    """What is needed of a connection."""

    async def send(self, message: str, /) -> None:
        """Send a text; waits while the other side does not read."""


class Client:
    """A connected client, and what waits for it.

    Args:
        connection: Its connection.
        name: What to call it in the log.
        cut: Ends the connection at once.

    Attributes:
        refused: How many of its frames had to be ignored.
        lost: How many messages were left out because it is too slow.
        held: How many characters wait for it.
    """

    def __init__(self, connection: Connection, name: str, cut: Callable[[], None]) -> None:
        self.connection = connection
        self.name = name
        self.cut = cut
        self.refused = 0
        self.lost = 0
        self.held = 0
        self.waiting: deque[str] = deque()
        self.news = asyncio.Event()


class Clients:
    """Everybody who is connected, and the bounds of what waits for them.

    Args:
        limits: The bounds.
        seldom: Where it is told what was left out.
    """

    def __init__(self, limits: Limits, seldom: Seldom) -> None:
        self._limits = limits
        self._seldom = seldom
        self._present: set[Client] = set()
        self._held = 0

    def __len__(self) -> int:
        return len(self._present)

    def add(self, client: Client) -> None:
        """Let one in."""
        self._present.add(client)

    def remove(self, client: Client) -> None:
        """Forget one, and what waits for it."""
        self._present.discard(client)
        self._held -= client.held
        client.held = 0
        client.waiting.clear()

    def put(self, client: Client, text: str) -> None:
        """Have a text sent to a client in its turn."""
        limits = self._limits
        client.waiting.append(text)
        client.held += len(text)
        self._held += len(text)
        while len(client.waiting) > limits.waiting or (client.held > limits.waiting_bytes and len(client.waiting) > 1):
            self._release(client, client.waiting.popleft())
            client.lost += 1
            self._seldom.say("slow", f"the client {client.name} is too slow: {client.lost} messages are left out")
        client.news.set()
        if self._held > limits.waiting_in_all:
            slowest = max(self._present, key=lambda each: each.held)
            self._seldom.say("memory", f"the client {slowest.name} is cut off, for {slowest.held} bytes wait for it")
            self.remove(slowest)
            slowest.cut()

    def _release(self, client: Client, text: str) -> None:
        # Nothing is held for one that was removed.
        size = min(len(text), client.held)
        client.held -= size
        self._held -= size

    async def write(self, client: Client) -> None:
        """Send a client what waits for it, for ever."""
        while True:
            while client.waiting:
                text = client.waiting.popleft()
                await client.connection.send(text)
                self._release(client, text)
            client.news.clear()
            await client.news.wait()


def read(frame: str | bytes) -> tuple[str, Any]:
    """Read what a client sent.

    Returns:
        Topic and body.

    Raises:
        MessageError: It is something else.
    """
    if isinstance(frame, bytes):
        raise MessageError("it is binary", "frame")
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise MessageError("it is not JSON", "frame") from error
    if not isinstance(message, dict) or not isinstance(message.get("topic"), str) or "body" not in message:
        raise MessageError("it has no topic and body", "frame")
    return message["topic"], message["body"]


def write(topic: str, envelope: dict[str, Any]) -> str:
    """Write a message the way that clients get it.

    Args:
        topic: The topic.
        envelope: The envelope. What JSON doesn't have, such as NaN, becomes null: browsers stop at it.
    """
    text = encoding.dumps({"topic": topic, "body": envelope})
    if "NaN" in text or "Infinity" in text:
        return encoding.dumps({"topic": topic, "body": _finite(envelope)})
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
