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
from typing import TypeVar

from fedmsg.exceptions import TransportError

__all__ = ["call_in_loop", "in_thread", "start"]

T = TypeVar("T")
A = TypeVar("A")


def start(function: Callable[[], T], *, daemon: bool = False) -> Future[T]:
    """Call a function in a thread of its own.

    Args:
        function: What to call. It goes on to its end, whoever waits for it no longer.
        daemon: Whether the interpreter may end before it does.
    """
    outcome: Future[T] = Future()
    # Who is cancelled waiting for it must not cancel it for all the others.
    outcome.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(function, outcome), name="fedmsg-aio", daemon=daemon).start()
    return outcome


def _run(function: Callable[[], T], outcome: Future[T]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is waited for
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


async def in_thread(function: Callable[[], T], *, daemon: bool = False) -> T:
    """Call a function in a thread of its own and give what it returns.

    Args:
        function: What to call. It goes on to its end, also when this is cancelled.
        daemon: Whether the interpreter may end before it does.
    """
    return await asyncio.wrap_future(start(function, daemon=daemon))


def call_in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[A], object], argument: A) -> None:
    """Call a function of the application in its loop, from such a thread, and wait for its end.

    Raises:
        TransportError: The loop has stopped.
    """

    async def call() -> None:
        function(argument)

    outcome = asyncio.run_coroutine_threadsafe(call(), loop)
    while not wait({outcome}, 0.1).done:
        if not loop.is_running():
            outcome.cancel()
            raise TransportError("the event loop has stopped before the message was sent")
    outcome.result()
