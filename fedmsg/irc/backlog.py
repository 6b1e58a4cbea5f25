# SPDX-License-Identifier: LGPL-2.1-or-later
"""What waits to be said in a channel: bounded, and honest about what it left out."""

from __future__ import annotations

import threading
from collections import deque

from fedmsg.irc import text

__all__ = ["Backlog"]

# How far it has to grow until that is said, and how much has to be left out.
_STEP = 20


class Backlog:
    """Messages that wait; any thread may add some while one takes them line by line.

    Args:
        limit: How many may wait. One more, and the oldest is left out.

    Attributes:
        left_out: How many have been left out so far.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str]] = deque()
        # The message of which a part has been said, with what remains.
        self._begun: tuple[str, str] | None = None
        self._grown_to = 0
        self._growth_to_tell = False
        self._told_of = 0
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._waiting) + (self._begun is not None)

    def add(self, command: str, message: str) -> bool:
        """Let a message wait.

        Args:
            command: ``NOTICE`` or ``PRIVMSG``.
            message: What to say.

        Returns:
            Whether another was left out for it.
        """
        with self._lock:
            self._waiting.append((command, message))
            over = len(self._waiting) > self._limit
            if over:
                self._waiting.popleft()
                self.left_out += 1
            if len(self._waiting) >= self._grown_to + _STEP:
                self._grown_to = len(self._waiting) // _STEP * _STEP
                self._growth_to_tell = True
            return over

    def next_line(self, command: str, room: int) -> tuple[str, str] | None:
        """Take the next line to say.

        Args:
            command: How to say what is said of the backlog itself.
            room: How many bytes of text fit into a line.

        Returns:
            The command and the text, or None when nothing waits.
        """
        with self._lock:
            if self._begun is None:
                if news := self._news():
                    return command, news
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
        """Take back a line that could not be said.

        Args:
            command: Its command.
            line: Its text.
        """
        with self._lock:
            rest = self._begun[1] if self._begun else ""
            self._begun = (command, f"{line} {rest}" if rest else line)

    def _news(self) -> str | None:
        """Give a line about the backlog itself, when it is time for one."""
        if self._growth_to_tell:
            self._growth_to_tell = False
            return f"* backlogged by {len(self._waiting)} messages"
        missing = self.left_out - self._told_of
        # While every line leaves out another message, not every other line is about that.
        if missing >= _STEP or (missing and len(self._waiting) < self._limit):
            self._told_of = self.left_out
            return f"* left out {missing} messages"
        return None
