# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plugins use of Twisted's reactor, without Twisted: calls that are made later or elsewhere."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from fedmsg.hub.forking import ForkGuard

__all__ = ["Reactor"]

log = logging.getLogger("fedmsg.hub")


class _Later:
    """A call that has not been made yet."""

    def __init__(self, timer: threading.Timer) -> None:
        self._timer = timer

    def cancel(self) -> None:
        """Don't make it."""
        self._timer.cancel()

    def active(self) -> bool:
        """Whether it is still to be made."""
        return self._timer.is_alive() and not self._timer.finished.is_set()


class Reactor:
    """Makes calls in threads; what they raise is logged.

    Attributes:
        hubs: The hubs that `stop` stops.
    """

    def __init__(self) -> None:
        self.hubs: list[Any] = []
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def callInThread(self, function: Callable[..., object], *args: Any, **kw: Any) -> None:  # noqa: N802 - Twisted's name
        """Call a function in a thread of its own."""
        threading.Thread(target=_guarded(function, args, kw), name="fedmsg-call", daemon=True).start()

    def callFromThread(self, function: Callable[..., object], *args: Any, **kw: Any) -> None:  # noqa: N802 - Twisted's name
        """Call a function in the one thread that makes all such calls, one after the other."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._make_calls, name="fedmsg-calls", daemon=True)
                self._thread.start()
        self._calls.put(_guarded(function, args, kw))

    def callLater(self, delay: float, function: Callable[..., object], *args: Any, **kw: Any) -> _Later:  # noqa: N802 - Twisted's name
        """Call a function in so many seconds, in that thread.

        Returns:
            Something with ``cancel()`` and ``active()``.
        """
        timer = threading.Timer(float(delay), self.callFromThread, (function, *args), kw)
        timer.daemon = True
        timer.start()
        return _Later(timer)

    def stop(self) -> None:
        """Stop the hubs of this process; a daemon ends with its hub."""
        for hub in list(self.hubs):
            hub.on_stop_request()

    def _make_calls(self) -> None:
        while True:
            self._calls.get()()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"reactor.{name} is Twisted's, and this hub runs without it: it has callInThread, callLater, "
            "callFromThread, stop"
        )


def _guarded(function: Callable[..., object], args: tuple[Any, ...], kw: dict[str, Any]) -> Callable[[], None]:
    def call() -> None:
        guard = ForkGuard()
        try:
            function(*args, **kw)
        except BaseException as error:
            guard.check(error)
            # The thread that makes the calls goes on, whatever one of them does.
            log.exception("a call of %r failed", function)
        guard.check()

    return call
