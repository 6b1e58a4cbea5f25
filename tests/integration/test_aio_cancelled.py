# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever is cancelled in asyncio leaves nothing half done, and nothing open."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

import fedmsg.aio
from fedmsg.aio import FedMsgContext
from fedmsg.exceptions import ConfigError
from fedmsg.testing import free_address
from fedmsg.transport.zmq import contexts
from tests import open_files
from tests.integration.faults import ground
from tests.integration.faults.ground import Witness
from tests.integration.loops import connected, hearing, wait_until

pytestmark = pytest.mark.anyio

FOR_EVER = 10_000


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def settings(address: str) -> dict[str, Any]:
    return {"name": "me.here", "endpoints": {"me.here": address}, "post_init_sleep": FOR_EVER}


@pytest.fixture
async def context(settings: dict[str, Any]) -> AsyncIterator[FedMsgContext]:
    async with FedMsgContext(**settings) as opened:
        yield opened


def outlet_of(context: FedMsgContext) -> Any:
    assert context._session.publisher is not None
    return context._session.publisher


async def cancelled(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and wait for its end; says whether it was cancelled by that."""
    task.cancel()
    await asyncio.wait({task})
    return task.cancelled()


async def test_a_message_that_waits_is_not_sent(address: str, context: FedMsgContext) -> None:
    tasks = [asyncio.create_task(context.publish("t", {"n": n}, modname="m")) for n in range(10)]
    await wait_until(lambda: outlet_of(context).changed._waiters)
    # The one that waits, one that waits for its turn, and the last.
    for number in (0, 4, 9):
        assert await cancelled(tasks[number])
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(context.publish("t", {"n": 10}, modname="m"), timeout=0.02)
    with Witness(address) as witness:
        rest = [task for number, task in enumerate(tasks) if number not in {0, 4, 9}]
        await asyncio.gather(*rest)
        await context.publish("t", {"n": 11}, modname="m")
        await wait_until(lambda: len(witness.frames) == 8)
    assert [body["msg"]["n"] for body in witness.bodies("t")] == [1, 2, 3, 5, 6, 7, 8, 11]
    assert [body["i"] for body in witness.bodies("t")] == list(range(1, 9))
    assert (outlet_of(context).changed._waiters, context._waiting, context._turn.waiting) == ([], set(), 0)


async def test_all_that_wait_are_cancelled(context: FedMsgContext) -> None:
    tasks = [asyncio.create_task(context.publish("t", modname="m")) for _ in range(100)]
    await wait_until(lambda: outlet_of(context).changed._waiters)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert (outlet_of(context).changed._waiters, context._waiting, context._turn.waiting) == ([], set(), 0)


async def test_one_of_those_who_open_is_cancelled(address: str, settings: dict[str, Any]) -> None:
    context = FedMsgContext(**{**settings, "post_init_sleep": 0})
    tasks = [asyncio.create_task(context.publish("t", modname="m")) for _ in range(3)]
    await asyncio.wait(tasks, timeout=0)
    assert await cancelled(tasks[0])
    await asyncio.gather(*tasks[1:])
    assert context._i == 2
    await context.destroy()


async def test_opening_is_cancelled(settings: dict[str, Any]) -> None:
    opening = asyncio.create_task(fedmsg.aio.init(**settings))
    await asyncio.wait({opening}, timeout=0)
    assert await cancelled(opening)
    # It was opened all the same, for others may have waited for it.
    with pytest.raises(ValueError, match="already initialized"):
        await fedmsg.aio.init(**settings)
    await fedmsg.aio.destroy()

    async def use() -> None:
        async with FedMsgContext(**settings):
            raise AssertionError("it is cancelled before")

    task = asyncio.create_task(use())
    await asyncio.wait({task}, timeout=0)
    assert await cancelled(task)
    # Nothing is left of it: the address is free, and the process needs no sockets.
    assert contexts._users == 0


async def test_closing_is_cancelled(settings: dict[str, Any]) -> None:
    context = FedMsgContext(**settings)
    await context.open()
    task = asyncio.create_task(context.destroy())
    await asyncio.wait({task}, timeout=0)
    assert await cancelled(task)
    with pytest.raises(ConfigError, match="closed"):
        await context.publish(modname="m")
    await wait_until(lambda: contexts._users == 0)
    await context.destroy()


async def test_listening_is_cancelled(context: FedMsgContext) -> None:
    messages = context.tail_messages()
    before = open_files.descriptors()
    async with hearing(messages) as heard:
        await connected(context, heard)
        assert open_files.descriptors() > before
    with pytest.raises(StopAsyncIteration):
        await anext(messages)
    gc.collect()
    await wait_until(lambda: open_files.descriptors() <= before)
    # In a time limit too.
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext(context.tail_messages()), timeout=0.02)
    await wait_until(lambda: open_files.descriptors() <= before)


async def test_listening_ends_in_the_middle(context: FedMsgContext) -> None:
    with_listener = 0
    for way in ("closed", "forgotten", "by an error"):
        before = open_files.descriptors()
        messages = context.tail_messages()
        publishing = asyncio.create_task(_publish_for_ever(context))
        with suppress(ZeroDivisionError):
            async for _ in messages:
                with_listener = open_files.descriptors()
                if way == "by an error":
                    raise ZeroDivisionError
                break
        assert with_listener > before
        if way == "closed":
            await messages.aclose()
        del messages
        assert await cancelled(publishing)
        await wait_until(lambda: open_files.descriptors() <= before)  # noqa: B023 - called in this round


async def _publish_for_ever(context: FedMsgContext) -> None:
    while True:
        await context.publish("t", modname="m")
        await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.005)


async def once(address: str, settings: dict[str, Any]) -> None:
    """Open, use and close everything there is, and be cancelled here and there."""
    async with FedMsgContext(**settings) as context, hearing(context.tail_messages()) as heard:
        waiting = asyncio.create_task(context.publish("t", modname="m"))
        await asyncio.wait({waiting}, timeout=0)
        await cancelled(waiting)
        await connected(context, heard)
    await fedmsg.aio.init(active=True, relay_inbound=[address], timeout=FOR_EVER)
    waiting = asyncio.create_task(fedmsg.aio.publish("t", modname="m"))
    await asyncio.wait({waiting}, timeout=0.005)
    await cancelled(waiting)
    await fedmsg.aio.destroy()


@pytest.mark.soak
async def test_nothing_is_left_behind(address: str, settings: dict[str, Any], full_size: bool) -> None:
    for _ in range(3):
        await once(address, settings)
    gc.collect()
    before = open_files.descriptors(), ground.threads()
    for _ in range(1000 if full_size else 50):
        await once(address, settings)
    gc.collect()
    await wait_until(lambda: open_files.descriptors() <= before[0] and ground.threads() <= before[1], what="all closed")
    assert contexts._users == 0
