# SPDX-License-Identifier: LGPL-2.1-or-later
"""Appends messages to a stream and reads them: by StreamLog, or by the bare database."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable

from tests.bench.programs import bare
from tests.bench.programs.bare import TOPIC
from tests.bench.programs.link import serve

BATCH, SIZE = 500, 500

_append: list[Callable[[list[bytes]], Callable[[], None]]] = []
_read: list[Callable[[int], int]] = []


def _body(number: int) -> bytes:
    envelope = {
        "i": number,
        "msg": {"text": ""},
        "msg_id": f"2026-{uuid.uuid4()}",
        "timestamp": time.time(),
        "topic": TOPIC.decode(),
        "username": "bench",
    }
    text = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
    return text.replace('"text":""', f'"text":"{"x" * (SIZE - len(text))}"').encode()


def open_ours(url: str) -> None:
    """Append to a stream of ours."""
    from fedmsg.stream.log import Incoming, StreamLog

    stream = StreamLog(url)

    def prepare(bodies: list[bytes]) -> Callable[[], None]:
        batch = [Incoming(TOPIC, body) for body in bodies]

        def append() -> None:
            stream.append(batch)

        return append

    def read(count: int) -> int:
        found = after = 0
        while found < count:
            chunk = stream.read(after, rows=min(1000, count - found))
            after = chunk.looked_at
            found += len(chunk.entries)
        return found

    _append.append(prepare)
    _read.append(read)


def open_limit(url: str) -> None:
    """Append to a bare table."""
    insert, query = bare.opened(url)
    newest = 0

    def prepare(bodies: list[bytes]) -> Callable[[], None]:
        nonlocal newest
        rows = bare.rows(newest + 1, bodies)
        newest += len(rows)
        return lambda: insert(rows)

    def read(count: int) -> int:
        found = 0
        while found < count:
            found += len(query(found, min(1000, count - found)))
        return found

    _append.append(prepare)
    _read.append(read)


def append(count: int) -> float:
    """Append so many messages; returns how many in a second."""
    batches = [_append[0]([_body(number) for number in range(BATCH)]) for _ in range(count // BATCH)]
    start = time.perf_counter()
    for store in batches:
        store()
    return count / (time.perf_counter() - start)


def read(count: int) -> dict[str, float]:
    """Read so many messages from the first on; returns how many, and how many in a second."""
    start = time.perf_counter()
    found = _read[0](count)
    return {"count": found, "speed": count / (time.perf_counter() - start)}


serve({"open_ours": open_ours, "open_limit": open_limit, "append": append, "read": read})
