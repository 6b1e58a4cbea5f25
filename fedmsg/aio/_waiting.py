# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a task waits: for a publisher to be ready, for a descriptor to become readable."""

from __future__ import annotations

import asyncio
from contextlib import suppress

__all__ = ["Waiter", "readable"]


class Waiter:
    """One task that waits in an event loop until any thread releases it.

    Args:
        loop: The loop that runs.
    """

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def release(self) -> None:
        """End the wait, from any thread."""
        # A closed loop runs no task.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """End the wait, from the loop."""
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None) -> None:
        """Wait.

        Args:
            timeout: For so many seconds at most; None waits for ever.
        """
        timer = None if timeout is None else self._loop.call_later(timeout, self.wake)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()


async def readable(descriptor: int, timeout: float | None) -> None:
    """Wait until there is something to read.

    Args:
        descriptor: Where; no other task waits for it.
        timeout: For so many seconds at most; None waits for ever.
    """
    loop = asyncio.get_running_loop()
    waiter = Waiter(loop)
    loop.add_reader(descriptor, waiter.wake)
    try:
        await waiter.wait(timeout)
    finally:
        loop.remove_reader(descriptor)
