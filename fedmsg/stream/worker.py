# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thread that does one thing after the other for another thread: what waits for a disk or a database."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import Any

from fedmsg._util.service import ServiceThread, Waker

__all__ = ["Worker"]

Job = tuple[Callable[[], Any], Callable[[Any], None]]


class Worker(ServiceThread):
    """Does jobs in order; the thread that asks for them calls `finish` to take the results.

    Args:
        name: The name of the thread.
        waker: Woken when a result can be taken.
    """

    def __init__(self, name: str, waker: Waker) -> None:
        super().__init__(name)
        self._result_waker = waker
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Callable[[Any], None], Any]] = queue.SimpleQueue()

    def ask(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Have something done.

        Args:
            work: Called in the thread of the worker.
            done: Called by `finish` with what ``work`` has returned, or the exception that it raised.
        """
        self._jobs.put((work, done))

    def finish(self) -> bool:
        """Call ``done`` for what has been done since; whether there was something."""
        found = False
        with contextlib.suppress(queue.Empty):
            while True:
                done, result = self._results.get_nowait()
                found = True
                done(result)
        return found

    def run(self) -> None:
        """Do the jobs until the worker is stopped."""
        self.ready()
        while not self.stopping and (job := self._jobs.get()) is not None:
            work, done = job
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - it is the result for the thread that asked
                result = error
            self._results.put((done, result))
            self._result_waker.wake()

    def stop(self) -> None:
        """Ask the thread to end after the job that it is at."""
        super().stop()
        self._jobs.put(None)
