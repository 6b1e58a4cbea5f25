# SPDX-License-Identifier: LGPL-2.1-or-later
"""What would block an event loop, done in a thread: reading keys, GnuPG, closing sockets.

Not in the threads of the loop's own executor: where an application has all of them wait for
a message to be published, there would be none left to publish it by.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TypeVar

from fedmsg.aio._waiting import Waiter
from fedmsg.exceptions import TransportError

__all__ = ["call_in_loop", "in_thread", "outcome_of", "start"]

T = TypeVar("T")
A = TypeVar("A")


def start(function: Callable[[], T], *, daemon: bool = False) -> Future[T]:
    """Call a function in a thread of its own.

    Args:
        function: What to call. It goes on to its end, whoever waits for it no longer.
        daemon: Whether the interpreter may end before it does.
    """
    outcome: Future[T] = Future()
    threading.Thread(target=_run, args=([function], outcome), name="fedmsg-aio", daemon=daemon).start()
    return outcome


def _run(functions: list[Callable[[], T]], outcome: Future[T]) -> None:
    try:
        # Whoever waits for the outcome is then the only one to hold what the function belongs to.
        result = functions.pop()()
    except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is waited for
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


async def outcome_of(future: Future[T]) -> T:
    """Wait for what was started, and give what it has returned.

    Args:
        future: What `start` gave. It goes on to its end, also when this is cancelled.
    """
    waiter = Waiter(asyncio.get_running_loop())
    # Not by asyncio.wrap_future, which complains in the log where the loop is closed meanwhile.
    future.add_done_callback(lambda _: waiter.release())
    await waiter.wait(None)
    return future.result()


async def in_thread(function: Callable[[], T], *, daemon: bool = False) -> T:
    """Call a function in a thread of its own and give what it returns.

    Args:
        function: What to call. It goes on to its end, also when this is cancelled.
        daemon: Whether the interpreter may end before it does.
    """
    return await outcome_of(start(function, daemon=daemon))


def call_in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[A], object], argument: A) -> None:
    """Call a function of the application in its loop, from such a thread, and wait for its end.

    Raises:
        TransportError: The loop has stopped.
    """
    outcome: Future[object] = Future()

    def call() -> None:
        # Where it was given up meanwhile, it is not to be called any more.
        if outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(function(argument))
            except Exception as error:  # noqa: BLE001 - it is raised where the outcome is waited for
                outcome.set_exception(error)

    with suppress(RuntimeError):  # it is closed, and so it does not run
        loop.call_soon_threadsafe(call)
    while not wait({outcome}, 0.1).done:
        if not loop.is_running() and outcome.cancel():
            raise TransportError("the event loop has stopped before the message was sent")
    outcome.result()
