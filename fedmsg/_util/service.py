# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads, wake-ups and what must be closed: how everything that lives for a while starts and stops.

What a thread shares with the main thread survives an exception at any instruction, since a signal
handler may raise anywhere: hand-over goes through descriptors and `queue.SimpleQueue`, which are
entered and left in C, never through `threading.Event`, `Condition` or `concurrent.futures.Future`,
whose locks a KeyboardInterrupt can leave held for ever. A bare `threading.Lock` or `RLock` in a
``with`` statement is safe: Python looks for signals neither between taking the lock and entering the
block, nor between leaving the block and releasing it.
"""

from __future__ import annotations

import _thread
import logging
import os
import select
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from queue import SimpleQueue

    from typing_extensions import Self

__all__ = ["Closeable", "SafeCondition", "ServiceThread", "Waiter", "Waker", "start_thread"]

log = logging.getLogger(__name__)

#: How long a thread is waited for when its service is closed, in seconds.
JOIN_TIMEOUT = 5.0


def _answer() -> SimpleQueue[BaseException | None]:
    """Return what one thread puts its answer into, and another one takes it from."""
    # Here: a command that starts no thread does without the 2 ms that it takes to load.
    from queue import SimpleQueue

    return SimpleQueue()


def start_thread(
    target: Callable[[], object],
    name: str,
    *,
    daemon: bool = True,
    on_failure: Callable[[BaseException], object] | None = None,
) -> None:
    """Start a thread, safely also where a signal handler raises in the middle of it.

    `threading.Thread.start` waits for an event that the new thread sets: interrupted there, it can
    leave the event's lock held, and the thread never runs. So another thread, in which no signal
    handler runs, makes the call.

    With ``on_failure``, which is called with the error when the process can't have another thread, this
    does not wait until the thread runs.

    Raises:
        RuntimeError: The process can't have another thread.
    """
    thread = threading.Thread(target=target, name=name, daemon=daemon)
    outcome = _answer()

    def start() -> None:
        try:
            thread.start()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            (on_failure or outcome.put)(error)
        else:
            outcome.put(None)

    _thread.start_new_thread(start, ())
    if on_failure is None:
        error = outcome.get()
        if error is not None:
            raise error


class Closeable:
    """Holds something that must be closed: sockets, files, threads.

    It is a context manager, may be closed twice without harm, and warns when it is leaked.
    Subclasses implement `_close`.
    """

    _closed = False

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def _close(self) -> None:
        """Close what is held; called once."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            try:
                warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            finally:
                # The warning may be an error, and what is held has to be closed all the same.
                self.close()


class Waker(Closeable):
    """Wakes a thread that waits on descriptors; any thread may call `wake`, a signal handler too."""

    def __init__(self) -> None:
        self._closed = True  # until there is something to close
        # A descriptor must not be written to once its number may be that of another file.
        self._lock = threading.RLock()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False

    def wake(self) -> None:
        """Make the descriptor readable; after `close` this does nothing."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._descriptor, 1)

    def clear(self) -> bool:
        """Make the descriptor unreadable again; whether it was readable."""
        try:
            return os.eventfd_read(self._descriptor) > 0
        except BlockingIOError:
            return False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a wake-up, and clear it; return whether there was one."""
        self.poll(timeout)
        return self.clear()

    def poll(self, timeout: float | None = None) -> bool:
        """Wait for a wake-up, and leave it for others; whether there was one."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def fileno(self) -> int:
        """Return the descriptor, which is readable after `wake`."""
        return self._descriptor

    def _close(self) -> None:
        with self._lock:
            os.close(self._descriptor)


class Waiter(Protocol):
    """What waits for a `SafeCondition`: a lock that a thread waits for, or a task of an event loop."""

    def release(self) -> None:
        """End the wait; called once, from any thread."""


class SafeCondition:
    """A lock, and waiting for a change of what it protects without holding it.

    It is for what `threading.Condition` can't be used for: that one is Python code, which a
    signal handler that raises can leave with the lock held for ever.

    ::

        with condition.lock:
            if not there:
                waiter = condition.expect()
        condition.wait(waiter, 0.05)

    Args:
        lock: Where several conditions share a lock, that lock.

    Attributes:
        lock: Held by the thread that uses what it protects.
    """

    def __init__(self, lock: threading.RLock | None = None) -> None:
        self.lock = threading.RLock() if lock is None else lock
        self._waiters: list[Waiter] = []

    def expect(self) -> threading.Lock:
        """Register a waiter, and return it; the lock must be held. No later change is missed."""
        waiter = threading.Lock()
        waiter.acquire()
        self.add(waiter)
        return waiter

    def add(self, waiter: Waiter) -> None:
        """Register a waiter for the next change; the lock must be held."""
        self._waiters.append(waiter)

    def discard(self, waiter: Waiter) -> None:
        """Forget a waiter, without the lock: it was released, or waits no longer."""
        with self.lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wait(self, waiter: threading.Lock, timeout: float | None) -> None:
        """Wait until something changes, without the lock; the waiter is what `expect` has returned."""
        if not waiter.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self.discard(waiter)

    def wait_for(self, condition: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until a condition is true, which is looked at with the lock held; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            with self.lock:
                if condition():
                    return True
                if left is not None and left <= 0:
                    return False
                waiter = self.expect()
            self.wait(waiter, left)

    def notify_all(self) -> None:
        """Release all waiters; the lock must be held."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()


class ServiceThread(Closeable):
    """Runs `run` in a thread of its own, which owns what it opens there.

    A subclass opens its sockets in `run`, calls `ready`, works until `stopping`, and closes them.
    `start` returns when the thread is ready, or raises what kept it from getting there.

    Attributes:
        stopping: Whether the thread is to end.
        failure: What ended the thread after it was ready, if it was an exception.
    """

    def __init__(self, name: str, *, daemon: bool = True) -> None:
        self._closed = True  # until there is something to close
        self._waker: Waker | None = None
        self.stopping = False
        self.failure: BaseException | None = None
        self._name = name
        self._daemon = daemon
        self._outcome = _answer()
        self._is_ready = self._has_started = self._has_ended = self._is_abandoned = False
        # Whether `start` was interrupted; if the thread does not run yet, it never will.
        self._is_cancelled = self._has_run = False
        self._thread: threading.Thread | None = None
        # Held until the thread has ended.
        self._end_lock = threading.Lock()
        self._end_lock.acquire()
        self._closed = False

    @property
    def waker(self) -> Waker:
        """Becomes readable when the thread is to look at something; opened by the first use."""
        if self._waker is None:
            self._waker = Waker()
            if self._closed:
                self._waker.close()
        return self._waker

    def start(self) -> None:
        """Start the thread, and wait until it is ready.

        Raises:
            BaseException: What `run` raised before it was ready.
        """
        try:
            self.waker.clear()
            if self.stopping:
                self.waker.wake()
            self._has_started = True
            try:
                start_thread(self._run, self._name, daemon=self._daemon)
            except RuntimeError:
                self._has_started = False
                raise
            error = self._outcome.get()
            if error is not None:
                raise error
        except BaseException:
            self._is_cancelled = True
            self.close()
            raise

    def run(self) -> None:
        """Do the work; called in the thread."""
        raise NotImplementedError

    def ready(self) -> None:
        """Let `start` return; called by `run` once."""
        if not self._is_ready:
            self._is_ready = True
            self._outcome.put(None)

    def _run(self) -> None:
        self._thread = threading.current_thread()
        self._has_run = True
        try:
            if not self._is_cancelled:
                self.run()
            self.ready()
        except BaseException as error:
            if self._is_ready:
                self.failure = error
                log.exception("the thread %s has ended", self._name)
            else:
                self._outcome.put(error)
        finally:
            self._has_ended = True
            self._end_lock.release()
            if self._is_abandoned:
                self._close_waker()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        is_coming = self._has_started and not self._is_cancelled
        return (self._has_run or is_coming) and not self._has_ended

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in the thread."""
        return self._thread is threading.current_thread()

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self.stopping = True
        if self._waker is not None:
            self._waker.wake()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; whether it has."""
        deadline = time.monotonic() + timeout
        if self.alive and not self.is_current and self._end_lock.acquire(timeout=max(0.0, timeout)):
            self._end_lock.release()
        if self._has_ended and self._thread is not None and not self.is_current:
            # It has nothing left to do; this is for counts of threads.
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self.alive

    def abandon(self) -> None:
        """Close it without waiting for the thread, which closes what it still uses when it ends."""
        self.stop()
        self._closed = self._is_abandoned = True
        if not self.alive:
            self._close_waker()

    def _close_waker(self) -> None:
        if self._waker is not None:
            self._waker.close()

    def __del__(self) -> None:
        # One that was never started has nothing to close.
        if getattr(self, "_waker", None) is not None:
            super().__del__()

    def _close(self) -> None:
        self.stop()
        # When the interpreter ends no other thread runs any more.
        if not sys.is_finalizing() and not self.join(JOIN_TIMEOUT):
            log.error("the thread %s does not end", self._name)
        self.abandon()
