# SPDX-License-Identifier: LGPL-2.1-or-later
"""Warnings that strangers can cause: all are counted, few are logged.

Whatever sends them, a thousand events write a few lines: one line for each kind and source in
`EVERY` seconds, and no more than `BURST` lines altogether in that time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

from fedmsg._util import text
from fedmsg.exceptions import MessageError, ValidationError

__all__ = ["BURST", "EVERY", "RateLimitedLog", "RejectionLog"]

#: Seconds between two lines about the same kind of event from the same source.
EVERY = 10.0
#: How many lines there may be in that time, of all kinds and sources.
BURST = 10
# Sources whose last line is remembered; strangers must not make this grow.
_SOURCES = 1000


class RateLimitedLog:
    """Counts events by kind, in ``counts``, and logs some of them; any thread may use it.

    Args:
        every: Seconds between two lines about the same kind from the same source.
        burst: How many lines there may be in that time altogether.
    """

    def __init__(
        self, log: logging.Logger, every: float = EVERY, burst: int = BURST, level: int = logging.WARNING
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._level = level
        self._every = every
        self._burst = burst
        # Re-entrant, for signal handlers and finalizers that run in the middle of it.
        self._lock = threading.RLock()
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._suppressed: Counter[tuple[str, str]] = Counter()
        self._window = -every
        self._lines = 0

    def report(self, kind: str, message: str, source: str = "") -> bool:
        """Count an event, and return whether it was logged: unless there were too many like it.

        The message may quote anything: it is made harmless. The kind is a short fixed word.
        """
        more = self._admit(kind, source)
        if more < 0:
            return False
        suppressed = f" (and {more} more like it)" if more else ""
        self._log.log(self._level, "%s%s", text.quoted(message), suppressed)
        return True

    def _admit(self, kind: str, source: str) -> int:
        """Count an event; how many like it were suppressed before, or -1 where this one is to be, too."""
        which, now = (kind, source), time.monotonic()
        with self._lock:
            self.counts[kind] += 1
            if now - self._window >= self._every:
                self._window, self._lines = now, 0
            if now < self._quiet_until.get(which, 0.0) or self._lines >= self._burst:
                self._suppressed[which] += 1
                return -1
            if len(self._quiet_until) >= _SOURCES:
                self._quiet_until.clear()
                self._suppressed.clear()
            self._lines += 1
            self._quiet_until[which] = now + self._every
            return self._suppressed.pop(which, 0)


class RejectionLog(RateLimitedLog):
    """Counts rejected messages by reason and logs some of them."""

    def add(self, endpoint: str, error: MessageError) -> None:
        """Count one rejected message, and perhaps log it."""
        if isinstance(error, ValidationError):
            self.report(error.kind, f"!! invalid message received: from {endpoint}: {error}", endpoint)
        else:
            self.report(error.kind, f"rejected a message from {endpoint}: {error}", endpoint)
