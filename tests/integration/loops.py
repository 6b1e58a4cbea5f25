# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of fedmsg.aio stand on: two kinds of event loop, and waiting for conditions in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fedmsg.aio import FedMsgContext

#: For the fixture ``anyio_backend``: Python's own loop, which complains of what is wrong, and the one that
#: web servers prefer.
LOOPS = [
    ("asyncio", {"debug": True}),
    ("asyncio", {"use_uvloop": True}),
]
NAMES = ["asyncio", "uvloop"]

Received = tuple[str, str, str, dict[str, Any]]


async def wait_until(condition: Callable[[], object], timeout: float = 30.0, *, what: str = "") -> None:
    """Look at a condition again and again until it holds.

    Args:
        condition: The condition.
        timeout: Seconds.
        what: What is waited for, for the error.

    Raises:
        TimeoutError: It does not, within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    never = asyncio.get_running_loop().create_future()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {timeout} s: {what or condition}")
        await asyncio.wait({never}, timeout=0.005)


@asynccontextmanager
async def ticking() -> AsyncIterator[Callable[[], int]]:
    """Count how often the loop comes round while the block lasts; gives what tells the count."""
    count = 0
    ended = asyncio.Event()

    async def tick() -> None:
        nonlocal count
        while not ended.is_set():
            count += 1
            await asyncio.wait({waiting}, timeout=0.005)

    waiting = asyncio.ensure_future(ended.wait())
    ticker = asyncio.create_task(tick())
    try:
        yield lambda: count
    finally:
        ended.set()
        await ticker
        await waiting


@asynccontextmanager
async def hearing(messages: AsyncGenerator[Received, None]) -> AsyncIterator[list[Received]]:
    """Take what a generator yields, in a task, for as long as the block lasts."""
    heard: list[Received] = []

    async def hear() -> None:
        async for received in messages:
            heard.append(received)  # noqa: PERF401 - it is looked at while it grows

    task = asyncio.create_task(hear())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()):
            raise error


async def connected(context: FedMsgContext, heard: list[Received]) -> None:
    """Publish greetings until they are heard; what is heard afterwards is something else."""
    while not heard:
        await context.publish("hello", modname="test")
        await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.01)
    await context.publish("hello", "last", modname="test")
    await wait_until(lambda: heard[-1][3]["msg"] == "last")
    del heard[:]


def begin(coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine as far as it goes without waiting; says whether it has ended."""
    try:
        coroutine.send(None)
    except StopIteration:
        return True
    return False
