# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread that writes to a stream: it waits for the disk or the database, and for as long as they are away.

It also removes what retention no longer keeps, in small steps in between.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import ServiceThread, Waker
from fedmsg.exceptions import StoreError
from fedmsg.stream import removal
from fedmsg.stream.records import Incoming, Stored

__all__ = ["Appendable", "Committer", "Result"]

log = logging.getLogger("fedmsg.stream")

# Seconds until a failed append is repeated: they double each time.
_RETRY_MIN = 0.02
_RETRY_MAX = 1.0
# Seconds between two looks for what is to be removed; steps follow each other where one was not enough.
_PRUNE_INTERVAL = 1.0
_PRUNE_STEP_INTERVAL = 0.05
# Seconds of one attempt to take the lock of the stream.
_ACQUIRE = 0.5
# A store that has not taken a batch after so many seconds is away.
_AWAY_AFTER = 0.5


class Appendable(Protocol):
    """What is needed of a stream to write it."""

    @property
    def stream(self) -> str:
        """The id of the stream."""

    def acquire(self, timeout: float) -> bool:
        """Take the lock of the one relay that writes; whether it is held."""

    def append(self, batch: Sequence[Incoming]) -> list[Stored]:
        """Store messages; they are on disk when it returns."""

    def newest(self) -> int:
        """Return the newest position."""

    def prune(self, *, age: float, max_bytes: int, messages: int, rows: int = 1000) -> int:
        """Remove the oldest messages that are too many, in one step; how many."""

    def close(self) -> None:
        """Close it."""


class Result:
    """What became of a batch: when it was stored, and the position of each message."""

    __slots__ = ("batch", "stored", "time")

    def __init__(self, batch: Sequence[Incoming], stored: Sequence[Stored], now: float) -> None:
        self.batch, self.stored, self.time = batch, stored, now


class Committer(ServiceThread):
    """Stores one batch after the other, each of them until it is stored.

    `start` opens the stream; then it takes the lock, which another relay may hold.

    Args:
        open_log: Opens the stream, in the thread.
        config: The configuration, for retention.

    Attributes:
        log: The stream, once it is started.
        news: Readable when a batch is stored, or the thread has ended.
        acquired: Whether this relay may write.
        working_since: Since when a batch is being stored, by the monotonic clock; None where none is.
        failures: How many attempts to store have failed.
        removed: How many messages retention has removed.
        retention: What retention keeps: ``age``, ``max_bytes``, ``messages``; 0 for no limit.
    """

    log: Any

    def __init__(self, open_log: Callable[[], Appendable], config: Mapping[str, Any]) -> None:
        super().__init__("fedmsg-store")
        self._open_log = open_log
        self.retention: dict[str, Any] = removal.retention(config)
        self._batches: queue.SimpleQueue[Sequence[Incoming] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        # Whether the owner waits in `result`: it is not woken by `news` then, which would cost more.
        self._is_awaited = False
        self._events = RateLimitedLog(log)
        self._next_prune = 0.0
        self._is_logged: bool = False
        # Of the last failure, until a batch is stored.
        self._reason = ""
        self.news = Waker()
        self.acquired = False
        self.working_since: float | None = None
        self.failures = self.removed = 0

    # ---------------------------------------------------------------- for the owner

    def store(self, batch: Sequence[Incoming]) -> None:
        """Have a batch stored; the next one only when the result of this one was taken."""
        self._batches.put(batch)

    def result(self, timeout: float) -> Result | None:
        """Wait some seconds for what became of the batch; None as long as it is not stored."""
        self._is_awaited = True
        found: Result | None = None
        with suppress(queue.Empty):
            found = self._results.get(timeout=timeout)
        self._is_awaited = False
        if found is None:
            # One that came just before this line has woken no thread.
            with suppress(queue.Empty):
                found = self._results.get_nowait()
        return found

    @property
    def away(self) -> float:
        """For how many seconds the store has not taken what it should; 0 where it is only at work."""
        since = self.working_since
        duration = 0.0 if since is None else time.monotonic() - since
        return duration if duration >= _AWAY_AFTER else 0.0

    def look(self) -> None:
        """Log that the store does not answer; an error of it is logged when it comes."""
        if self.away and not self._is_logged:
            self._is_logged = True
            reason = f": {self._reason}" if self._reason else ""
            self._events.report("store", f"messages wait to be stored, for {self.away:.1f} s now{reason}")

    def wait_acquired(self, timeout: float) -> bool:
        """Wait some seconds for the lock of the stream; whether it is held.

        Raises:
            BaseException: What has ended the thread.
        """
        self.news.poll(0 if self.acquired else timeout)
        if not self.alive and self.failure is not None:
            raise self.failure
        return self.acquired

    def stop(self) -> None:
        """Ask the thread to end, whether or not the batch in work is stored."""
        super().stop()
        self._batches.put(None)

    def _close(self) -> None:
        super()._close()
        self.news.close()

    # ---------------------------------------------------------------- the thread

    def run(self) -> None:
        """Store until it is stopped."""
        try:
            self.log = self._open_log()
            try:
                self.ready()
                self._acquire()
                self.news.wake()
                self._work()
            finally:
                self.log.close()
        finally:
            self.news.wake()

    def _acquire(self) -> None:
        while not self.stopping and not self.acquired:
            try:
                self.acquired = self.log.acquire(_ACQUIRE)
            except StoreError as error:
                self._note_failure(error)
                self.waker.wait(_RETRY_MAX)
            else:
                if not self.acquired and not self._is_logged:
                    self._is_logged = True
                    log.warning("another relay has the stream; waiting until it ends, to take over")
        self._take_over()

    def _take_over(self) -> None:
        if self.acquired and self._is_logged:
            log.warning("taking over the stream")
        self._is_logged = False

    def _work(self) -> None:
        while not self.stopping:
            timeout = max(0.0, self._next_prune - time.monotonic())
            try:
                batch = self._batches.get(timeout=timeout)
            except queue.Empty:
                batch = None
            if batch:
                now = time.time()
                stored = self._append(batch)
                if stored is None:
                    return
                self._results.put(Result(batch, stored, now))
                if not self._is_awaited:
                    self.news.wake()
            if time.monotonic() >= self._next_prune:
                self._prune()

    def _append(self, batch: Sequence[Incoming]) -> list[Stored] | None:
        """Store a batch, and try again until that succeeds; None when it is stopped before."""
        delay = _RETRY_MIN
        self.working_since = time.monotonic()
        while True:
            try:
                stored: list[Stored] = self.log.append(batch)
            except StoreError as error:
                self._note_failure(error)
            else:
                self._note_success()
                return stored
            if self.stopping:
                return None
            self.waker.wait(delay)
            delay = min(2 * delay, _RETRY_MAX)

    def _note_failure(self, error: StoreError) -> None:
        self.failures += 1
        self._reason = str(error)
        if self.away or not self.acquired:
            self._is_logged = True
            self._events.report("store", f"messages wait to be stored: {error}")

    def _note_success(self) -> None:
        if self._is_logged:
            log.warning("messages are stored again, after %.1f s", self.away)
        self.working_since, self._is_logged, self._reason = None, False, ""

    def _prune(self) -> None:
        removed = 0
        if any(self.retention.values()):
            try:
                removed = self.log.prune(**self.retention)
            except StoreError as error:
                self._events.report("retention", f"retention can't remove old messages, trying again: {error}")
        self.removed += removed
        self._next_prune = time.monotonic() + (_PRUNE_STEP_INTERVAL if removed else _PRUNE_INTERVAL)
