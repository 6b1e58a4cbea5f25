# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many messages a connection held when it broke: those handed over lately."""

from __future__ import annotations

from collections import deque

__all__ = ["HandoverLog"]


class HandoverLog:
    """Counts what is handed to a socket and answers how much of it is recent.

    Args:
        window: What counts as recent, in seconds.

    Attributes:
        count: How many there were since the start, or since they were last forgotten.
    """

    #: Messages handed over within so many seconds of each other share one entry.
    step = 0.05

    def __init__(self, window: float) -> None:
        self.window = window
        self.forget()

    def forget(self) -> None:
        """Start again: what was handed over so far is accounted for."""
        self.count = 0
        self._last = [-self.step, 0.0]
        self._entries: deque[list[float]] = deque()

    def add(self, now: float) -> None:
        """Count one message, handed over at ``now`` (`time.monotonic`)."""
        self.count += 1
        last = self._last
        if now - last[0] < self.step:
            last[1] += 1
            return
        self._last = [now, 1]
        self._entries.append(self._last)
        while self._entries[0][0] < now - self.window - self.step:
            self._entries.popleft()

    def recent(self, now: float) -> int:
        """How many were handed over within the window before ``now``, to within a step."""
        return int(sum(count for start, count in self._entries if start > now - self.window - self.step))
