# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a task waits, and what would block an event loop, done in a thread: reading keys, GnuPG, closing sockets.

Not in the threads of the loop's own executor: where an application has all of them wait for
a message to be published, there would be none left to publish it by.

The loop usually runs in the main thread, where a signal handler may raise at any instruction, so it
shares no `concurrent.futures.Future` with these threads; see `fedmsg._util.service`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from fedmsg._util.service import SafeCondition, start_thread
from fedmsg.exceptions import TransportError
from fedmsg.transport.zmq import contexts

__all__ = ["Waiter", "Work", "call_in_loop", "in_thread", "readable"]

T = TypeVar("T")
A = TypeVar("A")
_LOOP_CHECK_INTERVAL = 0.1


class Waiter:
    """One task that waits in an event loop until any thread releases it."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def release(self) -> None:
        """End the wait; any thread may call it."""
        # A closed loop runs no task.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """End the wait; called in the thread of the loop."""
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None) -> None:
        """Wait for the release, at most ``timeout`` seconds."""
        timer = None if timeout is None else self._loop.call_later(timeout, self.wake)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()


async def readable(descriptor: int, timeout: float | None) -> None:
    """Wait until there is something to read."""
    loop = asyncio.get_running_loop()
    waiter = Waiter(loop)
    loop.add_reader(descriptor, waiter.wake)
    try:
        await waiter.wait(timeout)
    finally:
        loop.remove_reader(descriptor)


class Work(Generic[T]):
    """Calls a function in a thread of its own, to its end, also when its caller is cancelled.

    The child of a fork does not have that thread, and finds the lock as it was at the fork: it waits for neither.
    """

    def __init__(self, function: Callable[[], T], *, daemon: bool = False) -> None:
        self.done = False
        self._generation = contexts.generation
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._changed = SafeCondition()
        functions = [function]
        start_thread(lambda: self._run(functions), "fedmsg-aio", daemon=daemon, on_failure=self._finish)

    def _run(self, functions: list[Callable[[], T]]) -> None:
        try:
            # From here on only the result refers to what the function belongs to.
            self._result.append(functions.pop()())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            self._finish(error)
        else:
            self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        self._error = error
        with self._changed.lock:
            self.done = True
            self._changed.notify_all()

    @property
    def _is_inherited(self) -> bool:
        return self._generation != contexts.generation

    @property
    def lost(self) -> bool:
        """Whether it goes on in the parent of this process alone, if at all."""
        return self._is_inherited and not self.done

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in a thread until it has ended; whether it has."""
        if self._is_inherited:
            return self.done
        return self._changed.wait_for(lambda: self.done, timeout)

    async def result(self) -> T:
        """Wait in the loop until it has ended; return or raise what the function did.

        Raises:
            TransportError: It is lost.
        """
        if self.lost:
            raise TransportError("this began before a fork, and goes on in the parent process alone")
        if not self._is_inherited:
            await self._end()
        if self._error is not None:
            raise self._error
        return self._result[0]

    async def _end(self) -> None:
        waiter = Waiter(asyncio.get_running_loop())
        with self._changed.lock:
            if self.done:
                waiter.release()  # in the next round of the loop, in which this can still be cancelled
            else:
                self._changed.add(waiter)
        await waiter.wait(None)


async def in_thread(function: Callable[[], T], *, daemon: bool = False) -> T:
    """Call a function in a thread of its own and return what it returns.

    It runs to its end even when the caller is cancelled; a ``daemon`` one unless the interpreter exits before.
    """
    return await Work(function, daemon=daemon).result()


def call_in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[A], object], argument: A) -> None:
    """Call a function of the application in its loop, from such a thread, and wait for its end.

    Raises:
        TransportError: The loop has stopped.
    """
    outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    # Taken by the call, or by the thread that waits for it no longer.
    turn = threading.Lock()

    def call() -> None:
        error: Any = None
        try:
            if turn.acquire(blocking=False):
                function(argument)
        except BaseException as raised:  # noqa: BLE001 - it is raised where the outcome is waited for
            error = raised
        outcome.put(error)
        if error is not None and not isinstance(error, Exception):
            raise error

    with suppress(RuntimeError):  # it is closed, and so it does not run
        loop.call_soon_threadsafe(call)
    while True:
        stopped = not loop.is_running()
        try:
            error = outcome.get(timeout=0 if stopped else _LOOP_CHECK_INTERVAL)
        except queue.Empty:
            if stopped:
                turn.acquire(blocking=False)
                raise TransportError("the event loop has stopped before the message was sent") from None
        else:
            if error is not None:
                raise error
            return
