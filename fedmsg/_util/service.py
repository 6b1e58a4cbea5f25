# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads, wake-ups and what must be closed: how everything that lives for a while starts and stops.

What a thread shares with the main thread survives an exception at any instruction, since a signal
handler may raise anywhere: hand-over goes through descriptors and `queue.SimpleQueue`, which are
entered and left in C, never through `threading.Event`, `Condition` or `concurrent.futures.Future`,
whose locks a KeyboardInterrupt can leave held for ever.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
import warnings
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Closeable", "ServiceThread", "Waker"]

log = logging.getLogger(__name__)

#: How long a thread is waited for when its service is closed, in seconds.
JOIN_TIMEOUT = 5.0


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()


class Waker(Closeable):
    """Wakes a thread that waits on descriptors; any thread may call `wake`, a signal handler too."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # A descriptor must not be written to once its number may be that of another file.
        self._lock = threading.RLock()

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
        """Wait for a wake-up, and clear it.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Returns:
            Whether there was one.
        """
        self.poll(timeout)
        return self.clear()

    def poll(self, timeout: float | None = None) -> bool:
        """Wait for a wake-up, and leave it for others; whether there was one.

        Args:
            timeout: Seconds to wait at most; None waits for ever.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def fileno(self) -> int:
        """Return the descriptor, which is readable after `wake`."""
        return self._descriptor

    def _close(self) -> None:
        with self._lock:
            os.close(self._descriptor)


class ServiceThread(Closeable):
    """Runs `run` in a thread of its own, which owns what it opens there.

    A subclass opens its sockets in `run`, calls `ready`, works until `stopping`, and closes them.
    `start` returns when the thread is ready, or raises what kept it from getting there.

    Args:
        name: The name of the thread, in logs and debuggers.
        daemon: Whether the end of the process does not wait for it.

    Attributes:
        stopping: Whether the thread is to end.
        failure: What ended the thread after it was ready, if it was an exception.
    """

    def __init__(self, name: str, *, daemon: bool = True) -> None:
        self._waker: Waker | None = None
        self.stopping = False
        self.failure: BaseException | None = None
        self._outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._is_ready = False
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=daemon)

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
        self.waker.clear()
        if self.stopping:
            self.waker.wake()
        self._thread.start()
        error = self._outcome.get()
        if error is not None:
            self.close()
            raise error

    def run(self) -> None:
        """Do the work; called in the thread."""
        raise NotImplementedError

    def ready(self) -> None:
        """Let `start` return; called by `run` once."""
        if not self._is_ready:
            self._is_ready = True
            self._outcome.put(None)

    def _run(self) -> None:
        try:
            self.run()
            self.ready()
        except BaseException as error:
            if self._is_ready:
                self.failure = error
                log.exception("the thread %s has ended", self._thread.name)
            else:
                self._outcome.put(error)
        finally:
            if self._is_abandoned:
                self._close_waker()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

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
        """Wait for the thread to end; whether it has.

        Args:
            timeout: Seconds to wait at most.
        """
        deadline = time.monotonic() + timeout
        if self._thread.ident is not None and not self.is_current:
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
        if not self.join(JOIN_TIMEOUT):
            log.error("the thread %s does not end", self._thread.name)
        self.abandon()
