# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.aio publishes with confirms as the synchronous functions do, and no call holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg.aio
from fedmsg.aio import FedMsgContext
from fedmsg.exceptions import MessageError, NotConfirmed
from fedmsg.stream import publishing
from fedmsg.testing import free_address
from tests.stream_relays import StreamBus, running, sqlite_url

pytestmark = pytest.mark.anyio


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


@pytest.fixture
async def context(bus: StreamBus) -> AsyncIterator[FedMsgContext]:
    async with FedMsgContext(**bus.config, publish_confirm=True) as made:
        yield made


def message(number: int) -> dict[str, Any]:
    return {"topic": "t", "modname": "m", "msg": {"n": number}}


async def test_publish_returns_the_position(bus: StreamBus, context: FedMsgContext) -> None:
    assert [await context.publish(**message(number)) for number in range(3)] == [1, 2, 3]
    assert bus.numbers() == [0, 1, 2]


async def test_tasks_that_publish_at_once_keep_the_order_of_their_calls(bus: StreamBus, context: FedMsgContext) -> None:
    positions = await asyncio.gather(*(context.publish(**message(number)) for number in range(200)))
    assert positions == list(range(1, 201))
    assert bus.numbers() == list(range(200))


async def test_publish_many_takes_both_kinds_of_iterables(bus: StreamBus, context: FedMsgContext) -> None:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        for number in range(1500, 3000):
            yield message(number)

    found = [position async for position in context.publish_many(map(message, range(1500)))]
    found += [position async for position in context.publish_many(messages())]
    assert found == list(range(1, 3001))
    assert bus.numbers() == list(range(3000))


async def test_publish_many_confirms_what_came_before_a_bad_message(bus: StreamBus, context: FedMsgContext) -> None:
    positions = context.publish_many([message(0), message(1), {**message(2), "topic": "t" * 5000}])
    assert [await anext(positions), await anext(positions)] == [1, 2]
    with pytest.raises(MessageError, match="topic"):
        await anext(positions)


async def test_without_a_relay_there_is_no_confirm_and_the_loop_goes_on(bus: StreamBus) -> None:
    settings = {**bus.config, "relay_confirmed": free_address(), "timeout": 0.3}
    async with FedMsgContext(**settings, publish_confirm=True) as context:
        turns = 0

        def count() -> None:
            nonlocal turns
            turns += 1
            asyncio.get_running_loop().call_later(0.01, count)

        count()
        with pytest.raises(NotConfirmed) as caught:
            await context.publish(**message(1))
        with pytest.raises(NotConfirmed) as many:
            _ = [position async for position in context.publish_many(map(message, range(3)))]
        assert turns > 10
    assert not caught.value.sent
    assert [envelope["msg"] for envelope in many.value.unconfirmed] == [{"n": 0}, {"n": 1}, {"n": 2}]
    async with FedMsgContext(**bus.config, active=True) as context:
        assert [await context.republish(caught.value.envelope) for _ in range(2)] == [1, 1]


async def test_a_cancelled_publish_leaves_the_context_usable(bus: StreamBus, context: FedMsgContext) -> None:
    task = asyncio.ensure_future(context.publish(**message(1)))
    await asyncio.wait([task], timeout=0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await context.publish(**message(2)) in {1, 2}
    await context.destroy()
    assert publishing._shared._open == {}


async def test_the_functions_do_the_same(bus: StreamBus) -> None:
    await fedmsg.aio.init(**bus.config, active=True)
    assert await fedmsg.aio.publish(**message(0), confirm=True) == 1
    assert [position async for position in fedmsg.aio.publish_many([message(1)])] == [2]
    assert await fedmsg.aio.publish(**message(2)) is None
    await fedmsg.aio.destroy()
