# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long to wait before something is tried again, and how far apart connections are started."""

from __future__ import annotations

import random
import threading
import time

__all__ = ["Backoff", "Turnstile"]


class Backoff:
    """Waits that double from one try to the next.

    Args:
        first: Seconds before the first repetition.
        longest: Seconds that a wait has at most.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def wait(self) -> float:
        """Give the seconds to wait now: up to a fifth less than planned, so that not all bots come back at once."""
        planned, self._next = self._next, min(2 * self._next, self._longest)
        return planned * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Begin anew, after something went well."""
        self._next = self._first


class Turnstile:
    """Lets through one at a time, some seconds apart; threads share one.

    Args:
        apart: The seconds.
    """

    def __init__(self, apart: float) -> None:
        self._apart = apart
        self._lock = threading.Lock()
        self._next = 0.0

    def turn(self) -> float:
        """Take the next turn.

        Returns:
            The seconds until it comes.
        """
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next)
            self._next = mine + self._apart
            return mine - now
