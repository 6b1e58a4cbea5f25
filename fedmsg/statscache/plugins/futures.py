# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results that come later, and a queue of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from fedmsg._util.service import start_thread

__all__ = ["Future", "Queue", "asynchronous"]

_Callbacks = Iterable[Callable[[Any], object]]


class Future:
    """A result that comes later: a value, or a failure. Any thread may use it.

    Each function of `on_success` is called with the value, and each of `on_failure` with the exception; one that is
    added later at once.

    Args:
        source: Another future, whose result is that of this one.
        on_success: Functions to call with the value.
        on_failure: Functions to call with the exception.
    """

    class AlreadyResolvedError(Exception):
        """The future has its result already."""

    class CancellationError(Exception):
        """The result is not wanted any more."""

    Failure = Exception

    def __init__(
        self, source: Future | None = None, on_success: _Callbacks | None = None, on_failure: _Callbacks | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[bool, Callable[[Any], object]]] = []
        # Whether it is a value, and what; None as long as it is not known.
        self._outcome: tuple[bool, Any] | None = None
        for function in on_success or ():
            self.on_success(function)
        for function in on_failure or ():
            self.on_failure(function)
        if source is not None:
            source.on_success(self.fire)
            source.on_failure(self.fail)

    def on_success(self, f: Callable[[Any], object]) -> None:
        """Call a function with the value."""
        self._add(True, f)

    def on_failure(self, f: Callable[[Any], object]) -> None:
        """Call a function with the exception."""
        self._add(False, f)

    def _add(self, is_success: bool, function: Callable[[Any], object]) -> None:
        with self._lock:
            if self._outcome is None:
                self._waiting.append((is_success, function))
                return
        if self._outcome[0] is is_success:
            function(self._outcome[1])

    def fire(self, result: Any) -> None:
        """Set the value.

        Raises:
            AlreadyResolvedError: There is a result.
        """
        self._resolve(True, result)

    def fail(self, error: BaseException) -> None:
        """Set a failure; raises as `fire`."""
        self._resolve(False, error)

    def quit(self) -> None:
        """Cancel it: the failure is a CancellationError; raises as `fire`."""
        self.fail(self.CancellationError("the result is not wanted any more"))

    def _resolve(self, is_success: bool, result: Any) -> None:
        with self._lock:
            if self._outcome is not None:
                raise self.AlreadyResolvedError("a future has one result")
            self._outcome = is_success, result
            waiting, self._waiting = self._waiting, []
        for wanted, function in waiting:
            if wanted is is_success:
                function(result)

    @staticmethod
    def compute(
        f: Callable[[], Any], on_success: _Callbacks | None = None, on_failure: _Callbacks | None = None
    ) -> Future:
        """Return the result of a function that is called in a thread of its own."""
        future = Future(None, on_success, on_failure)

        def run() -> None:
            try:
                result = f()
            except Exception as error:  # noqa: BLE001 - it is the result
                future.fail(error)
            else:
                future.fire(result)

        start_thread(run, "fedmsg-statistics-work")
        return future

    @staticmethod
    def success(result: Any, on_success: _Callbacks | None = None, on_failure: _Callbacks | None = None) -> Future:
        """Return a future that has a value."""
        future = Future(None, on_success, on_failure)
        future.fire(result)
        return future

    @staticmethod
    def failure(
        error: BaseException, on_success: _Callbacks | None = None, on_failure: _Callbacks | None = None
    ) -> Future:
        """Return a future that has failed."""
        future = Future(None, on_success, on_failure)
        future.fail(error)
        return future


class Queue:
    """Values that are taken in their order, before they are there or after; nothing waits.

    Args:
        size: How many values may be in it; None is any number.
        backlog: How many may be waited for; None is any number.
    """

    class OverflowError(Exception):  # noqa: A001 - the name that plugins know
        """There is no room for another value."""

    class UnderflowError(Exception):
        """Too many values are waited for."""

    def __init__(self, size: int | None = None, backlog: int | None = None) -> None:
        self._size = size
        self._backlog = backlog
        self._lock = threading.Lock()
        self._values: deque[Any] = deque()
        self._waiting: deque[Future] = deque()

    def enqueue(self, value: Any) -> None:
        """Add a value.

        Raises:
            OverflowError: There is no room.
        """
        with self._lock:
            if not self._waiting:
                if self._size is not None and len(self._values) >= self._size:
                    raise self.OverflowError(f"the queue has {self._size} values already")
                self._values.append(value)
                return
            future = self._waiting.popleft()
        future.fire(value)

    def dequeue(self) -> Future:
        """Return a future for the next value.

        Raises:
            UnderflowError: Too many are waited for.
        """
        with self._lock:
            if not self._values:
                if self._backlog is not None and len(self._waiting) >= self._backlog:
                    raise self.UnderflowError(f"{self._backlog} values are waited for already")
                future = Future()
                self._waiting.append(future)
                return future
            value = self._values.popleft()
        return Future.success(value)


def asynchronous(
    f: Callable[..., Any], on_success: _Callbacks | None = None, on_failure: _Callbacks | None = None
) -> Callable[..., Future]:
    """Return a function that calls ``f`` in a thread of its own, and returns a `Future`; also a decorator."""

    @wraps(f)
    def call(*arguments: Any, **keywords: Any) -> Future:
        return Future.compute(lambda: f(*arguments, **keywords), on_success, on_failure)

    return call
