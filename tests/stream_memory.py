# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stream in memory, with the interface of the one on disk, for tests of what serves and reads it."""

from __future__ import annotations

import bisect
import json
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from fedmsg.stream.records import Chunk, Cursor, Entry, Missing


class MemoryLog:
    """A stream in memory.

    Attributes:
        fail: Raised by every read while it is set.
        reads: How many times it was read.
    """

    def __init__(self, stream: str = "") -> None:
        self.stream = stream or uuid.uuid4().hex
        self.fail: Exception | None = None
        self.reads = 0
        self._lock = threading.RLock()
        self._entries: list[Entry] = []
        self._newest = 0
        self._ids: dict[str, int] = {}
        self._cursors: dict[str, Cursor] = {}
        self._missing: dict[str, Missing] = {}

    def add(self, *bodies: bytes, topic: bytes = b"org.test.t", stored: float | None = None) -> list[Entry]:
        """Store messages; return their entries."""
        with self._lock:
            added = []
            for body in bodies:
                self._newest += 1
                now = time.time() if stored is None else stored
                added.append(Entry(self._newest, now, topic, body, ()))
                if body.startswith(b"{") and b'"msg_id"' in body:
                    self._ids[json.loads(body)["msg_id"]] = self._newest
            self._entries += added
            return added

    def _check(self) -> None:
        if self.fail is not None:
            raise self.fail

    def read(self, after: int, prefixes: Sequence[bytes] = (), *, rows: int = 1000, max_bytes: int = 4 << 20) -> Chunk:
        """Read a part."""
        self._check()
        self.reads += 1
        with self._lock:
            start = bisect.bisect_right(self._entries, after, key=lambda entry: entry.position)
            found: list[Entry] = []
            looked, size = max(after, 0), 0
            for entry in self._entries[start : start + rows]:
                size += len(entry.topic) + len(entry.body)
                if found and size > max_bytes:
                    break
                looked = entry.position
                if not prefixes or entry.topic.startswith(tuple(prefixes)):
                    found.append(entry)
            return Chunk(found, looked)

    def first(self) -> int:
        """Return the oldest position."""
        self._check()
        with self._lock:
            return self._entries[0].position if self._entries else self._newest + 1

    def newest(self) -> int:
        """Return the newest position."""
        self._check()
        return self._newest

    def find(self, msg_id: str) -> int | None:
        """Return the position of a message."""
        self._check()
        return self._ids.get(msg_id)

    def topics(self, until: int, rows: int) -> list[tuple[int, bytes]]:
        """Return positions and topics, the newest first; far fewer than asked for, so that a search has many steps."""
        self._check()
        self.reads += 1
        with self._lock:
            found = [(entry.position, entry.topic) for entry in reversed(self._entries) if entry.position <= until]
            return found[: max(1, rows // 1000)]

    def after_time(self, since: float) -> int:
        """Return the position after which the messages of a time begin."""
        self._check()
        with self._lock:
            return next((entry.position - 1 for entry in self._entries if entry.stored >= since), self._newest)

    def remove(self, until: int) -> None:
        """Remove the messages up to a position."""
        with self._lock:
            self._entries = [entry for entry in self._entries if entry.position > until]

    def statistics(self) -> dict[str, Any]:
        """Return figures."""
        self._check()
        with self._lock:
            size = sum(len(entry.topic) + len(entry.body) for entry in self._entries)
            return {"first": self.first(), "newest": self._newest, "messages": len(self._entries), "bytes": size}

    def cursor(self, name: str) -> Cursor | None:
        """Return a cursor."""
        self._check()
        return self._cursors.get(name)

    def save_cursors(self, cursors: Iterable[Cursor]) -> None:
        """Store cursors."""
        self._check()
        with self._lock:
            self._cursors.update({cursor.name: cursor for cursor in cursors})

    def remove_cursor(self, name: str) -> bool:
        """Remove a cursor."""
        return self._cursors.pop(name, None) is not None

    def move_cursors(self, cursors: Iterable[Cursor]) -> list[str]:
        """Store cursors that are there; return the names of the others."""
        self._check()
        with self._lock:
            wanted = list(cursors)
            self.save_cursors(cursor for cursor in wanted if cursor.name in self._cursors)
            return [cursor.name for cursor in wanted if cursor.name not in self._cursors]

    def cursors(self, after: str = "", limit: int = 1 << 31) -> list[Cursor]:
        """Return cursors by name."""
        self._check()
        with self._lock:
            return sorted(cursor for cursor in self._cursors.values() if cursor.name > after)[:limit]

    def cursors_behind(self, limit: int) -> tuple[int, list[Cursor]]:
        """Return how many cursors there are, and those with the largest lag."""
        found = sorted(self.cursors(), key=lambda cursor: cursor.position)
        return len(found), found[:limit]

    def missing(self, name: str) -> Missing | None:
        """Return what a durable subscription can't have of the stream."""
        self._check()
        return self._missing.get(name)

    def save_missing(self, missing: Missing) -> None:
        """Store what a durable subscription can't have of the stream."""
        self._check()
        self._missing[missing.name] = missing
