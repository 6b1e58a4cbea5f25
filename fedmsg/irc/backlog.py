# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages that wait to be sent to a channel; it is bounded, and reports what it drops."""

from __future__ import annotations

import threading
from collections import deque

from fedmsg.irc import text

__all__ = ["Backlog"]

# After so many more messages, waiting or dropped, a line about that is sent.
_STEP = 20


class Backlog:
    """Messages that wait; any thread may add some while one takes them line by line.

    Args:
        limit: How many may wait; then the oldest is dropped.

    Attributes:
        dropped: How many were dropped so far.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str]] = deque()
        # The message of which a part has been sent, with the rest of it.
        self._begun: tuple[str, str] | None = None
        self._grown_to = 0
        self._report_growth = False
        self._reported = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting) + (self._begun is not None)

    def add(self, command: str, message: str) -> bool:
        """Add a message with its command, ``NOTICE`` or ``PRIVMSG``; return whether another was dropped for it."""
        with self._lock:
            self._waiting.append((command, message))
            over = len(self._waiting) > self._limit
            if over:
                self._waiting.popleft()
                self.dropped += 1
            if len(self._waiting) >= self._grown_to + _STEP:
                self._grown_to = len(self._waiting) // _STEP * _STEP
                self._report_growth = True
            return over

    def next_line(self, command: str, room: int) -> tuple[str, str] | None:
        """Take the next line to send.

        Args:
            command: The command for a line about the backlog itself.
            room: How many bytes of text fit into a line.

        Returns:
            The command and the text, or None when nothing waits.
        """
        with self._lock:
            if self._begun is None:
                if report := self._report():
                    return command, report
                if not self._waiting:
                    return None
                self._begun = self._waiting.popleft()
                if not self._waiting:
                    self._grown_to = 0
            own_command, rest = self._begun
            line, rest = text.cut(rest, room)
            self._begun = (own_command, rest) if rest else None
            return own_command, line

    def put_back(self, command: str, line: str) -> None:
        """Take back a line that could not be sent."""
        with self._lock:
            rest = self._begun[1] if self._begun else ""
            self._begun = (command, f"{line} {rest}" if rest else line)

    def _report(self) -> str | None:
        """Return a line about the backlog itself, when there is something to report."""
        if self._report_growth:
            self._report_growth = False
            return f"* backlogged by {len(self._waiting)} messages"
        missing = self.dropped - self._reported
        # Not every other line is about that while each line drops another message.
        if missing >= _STEP or (missing and len(self._waiting) < self._limit):
            self._reported = self.dropped
            return f"* left out {missing} messages"
        return None
