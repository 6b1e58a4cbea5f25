# SPDX-License-Identifier: LGPL-2.1-or-later
"""A queue on disk behind the one in memory: where messages wait while a consumer can't handle any.

It consists of files with a JSON object per line, one after the other; a file is removed when all its messages are
finished. What a killed process leaves is delivered again from the beginning of the oldest file.
"""

from __future__ import annotations

import bisect
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from fedmsg._util import files
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.exceptions import ConfigError
from fedmsg.store.spool import MessageFile, SpooledMessage, record
from fedmsg.transport.base import Delivery

__all__ = ["Overflow"]

log = logging.getLogger("fedmsg.hub")

# How much a file may hold: it is read whole.
_MESSAGES_MAX = 1000
_BYTES_MAX = 4 * 1024 * 1024
# Seconds until the disk is tried again.
_RETRY_S = 0.5


class _Waiting(SpooledMessage):
    """A message from a file that seems to have come just now, by where it has come."""

    __slots__ = ()

    def __init__(self, *args: Any, row: dict[str, Any], **more: Any) -> None:
        super().__init__(*args, **more)
        address, name = row.get("address"), row.get("name")
        self.address = address if isinstance(address, str) else self.address
        self.name = name if isinstance(name, str) else ""


class _Segment(MessageFile):
    """One of the files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        self.count = self.size = 0
        self._descriptor = -1

    def append(self, lines: Sequence[bytes]) -> int:
        """Append lines as far as there is room on the disk, and return how many.

        Raises:
            OSError: Not even one of them could be written.
        """
        if self._descriptor < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(self._descriptor, b"".join(lines))
            ends = [0, *accumulate(map(len, lines))]
            done = bisect.bisect_right(ends, written) - 1
            if ends[done] < written:
                os.ftruncate(self._descriptor, self.size + ends[done])
            if not done:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            if self.size == 0:
                self.seal()
                self._remove()
            raise
        self.size += ends[done]
        self.count += done
        return done

    def seal(self) -> None:
        """Append no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> list[SpooledMessage]:
        """Return its messages; it is removed when all of them are finished."""
        self.seal()
        try:
            found = self._read(self.path)
        except (OSError, UnicodeDecodeError) as error:
            log.error("%s can't be read, and its messages are lost: %s", self.path, error)
            found = []
        self._pending = len(found)
        if not found:
            self._remove()
        return found

    def _message(self, frame: bytes, data: bytes, row: dict[str, Any], **more: Any) -> SpooledMessage:
        return _Waiting(self.path, frame, data, self, row=row, **more)

    def keep(self, items: Iterable[Any]) -> None:
        """Replace it by those of its messages that are not finished."""
        with self._lock:
            self._pending = 0
            lines = [_line(item) for item in items]
            if lines:
                files.replace(self.path, b"".join(lines))
            else:
                self._remove()


class Overflow:
    """What waits on disk for one consumer; threads may share it.

    Args:
        folder: The state directory.
        kind: The class of the consumer.

    Raises:
        ConfigError: The folder can't be used.
    """

    def __init__(self, folder: str, kind: type) -> None:
        name = f"{kind.__module__}.{kind.__qualname__}.waiting".replace("/", "-").replace("<", "").replace(">", "")
        self._folder = Path(folder) / files.process_name() / name
        self.lock = threading.RLock()
        self._events = RateLimitedLog(log)
        self._segments: deque[_Segment] = deque()
        self._read: deque[Any] = deque()
        # What the disk has no room for at the moment.
        self._held: deque[Any] = deque()
        self._retry_at = 0.0
        self._next = 1
        self._load()

    def _load(self) -> None:
        try:
            paths = sorted(self._folder.glob("*.jsonl")) if self._folder.exists() else []
            for path in paths:
                segment = _Segment(path)
                with files.open_regular(path) as file:
                    segment.count = sum(1 for _ in file)
                self._segments.append(segment)
                self._next = int(path.stem) + 1
        except (OSError, ValueError) as error:
            raise ConfigError(f"state_directory: {self._folder} can't be read: {error}") from error
        for segment in self._segments:
            segment.size = _BYTES_MAX  # nothing is appended to it

    def __len__(self) -> int:
        """Return how many messages wait."""
        return sum(segment.count for segment in self._segments) + len(self._read) + len(self._held)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, so that what comes need not either."""
        return not (self._segments or self._read or self._held)

    @property
    def is_full(self) -> bool:
        """Whether there is no room on the disk, so that nothing more should be received."""
        with self.lock:
            if self._held and time.monotonic() >= self._retry_at:
                self._write()
            return bool(self._held)

    def put(self, items: Iterable[Delivery]) -> None:
        """Add messages; those that can't be written wait in memory, and `is_full` is True until they can."""
        with self.lock:
            self._held.extend(items)
            self._write()

    def _write(self) -> None:
        try:
            while self._held:
                segment = self._newest()
                part = [_line(self._held[n]) for n in range(min(len(self._held), _MESSAGES_MAX - segment.count))]
                for _ in range(segment.append(part)):
                    self._held.popleft()
        except OSError as error:
            if self._segments and not self._segments[-1].count:
                self._segments.pop()
            self._retry_at = time.monotonic() + _RETRY_S
            text = f"what waits can't be written to {self._folder}, so nothing is received: {error}"
            self._events.report("full", text)

    def _newest(self) -> _Segment:
        """Return the file to append to."""
        if self._segments and self._segments[-1].count < _MESSAGES_MAX and self._segments[-1].size < _BYTES_MAX:
            return self._segments[-1]
        if self._segments:
            self._segments[-1].seal()
        segment = _Segment(self._folder / f"{self._next:010}.jsonl")
        self._next += 1
        self._segments.append(segment)
        return segment

    def take(self, most: int) -> list[Any]:
        """Take out the oldest messages, at most so many."""
        with self.lock:
            taken: list[Any] = []
            while len(taken) < most and not self.is_empty:
                if not self._read and self._segments:
                    self._read.extend(self._segments.popleft().read())
                    continue
                source = self._read or self._held
                taken.append(source.popleft())
            return taken

    def owns(self, item: Any) -> bool:
        """Return whether a message is in one of the files."""
        return isinstance(item, _Waiting)

    def close(self, unfinished: Iterable[Any]) -> int:
        """Keep what is not finished in the files, and return how many messages could not be written."""
        with self.lock:
            by_file: dict[_Segment, list[Any]] = {}
            for item in (*unfinished, *self._read):
                by_file.setdefault(item.origin, []).append(item)
            self._read.clear()
            for segment, items in by_file.items():
                segment.keep(items)
            self._write()
            for segment in self._segments:
                segment.seal()
            return len(self._held)


def _line(item: Any) -> bytes:
    return record(item, address=item.address, name=item.name).encode()
