# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages for a stream, and the whole of what a stream has."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fedmsg.stream.log import Entry, Incoming, StreamLog

TOPIC = b"org.fedoraproject.dev.shop.order"


def body(number: int, *, msg_id: str | None = "", timestamp: float = 1_700_000_000, text: str = "") -> bytes:
    """Return the body of an envelope; without ``msg_id`` where that is None."""
    envelope = {"i": number, "msg": {"text": text}, "timestamp": timestamp, "topic": TOPIC.decode()}
    if msg_id is not None:
        envelope["msg_id"] = msg_id or f"2026-{number:08}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
    return json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()


def incoming(number: int, *, topic: bytes = TOPIC, via: tuple[str, ...] = (), again: bool = False) -> Incoming:
    """Return a message to store."""
    return Incoming(topic, body(number), via, again)


def some(first: int, last: int) -> list[Incoming]:
    """Return messages to store."""
    return [incoming(number) for number in range(first, last + 1)]


def everything(
    stream: StreamLog, after: int = 0, prefixes: Sequence[bytes] = (), *, rows: int = 1000, max_bytes: int = 4 << 20
) -> list[Entry]:
    """Read a stream to its end, in chunks."""
    found: list[Entry] = []
    while True:
        chunk = stream.read(after, prefixes, rows=rows, max_bytes=max_bytes)
        found += chunk.entries
        assert all(after < entry.position <= chunk.looked_at for entry in chunk.entries)
        if chunk.looked_at >= stream.newest():
            return found
        assert chunk.looked_at > after
        after = chunk.looked_at


def positions(entries: Sequence[Entry]) -> list[int]:
    """Return the positions of entries."""
    return [entry.position for entry in entries]
