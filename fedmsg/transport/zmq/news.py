# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock that the threads at a publisher share, and how they wait for something to happen.

`threading.Condition` would do, were it not for signal handlers that raise: in the middle
of its Python code they leave the lock held for ever, or released once too often. A bare
lock is entered and left in C, which no handler can interrupt halfway.
"""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["News", "Waiter"]


class Waiter(Protocol):
    """Who is told: a lock that a thread waits for, or what passes it on to an event loop."""

    def release(self) -> None:
        """Something has happened; called once, from any thread."""


class News:
    """A lock, and news for those who wait without holding it.

    ::

        with news.lock:
            if not there:
                waiter = news.expect()
        news.wait(waiter, 0.05)

    Attributes:
        lock: Held by whoever uses what it protects.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._waiters: list[Waiter] = []

    def expect(self) -> threading.Lock:
        """Begin to wait, with the lock held: whatever is told from now on will be heard."""
        waiter = threading.Lock()
        waiter.acquire()
        self.add(waiter)
        return waiter

    def add(self, waiter: Waiter) -> None:
        """Tell this one too, with the lock held: it waits in a way of its own."""
        self._waiters.append(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Tell this one no more, without the lock: it has been told, or waits no longer."""
        with self.lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wait(self, waiter: threading.Lock, timeout: float) -> None:
        """Wait until something is told, without the lock.

        Args:
            waiter: What `expect` has returned.
            timeout: Seconds to wait at most.
        """
        if not waiter.acquire(timeout=timeout):
            self.forget(waiter)

    def tell(self) -> None:
        """Wake all who wait, with the lock held."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()
