# SPDX-License-Identifier: LGPL-2.1-or-later
"""RabbitMQ from an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fedmsg.aio import FedMsgContext
from fedmsg.testing import wait_until
from tests.integration.broker.buses import PREFIX, BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")


def test_publishing_listening_and_history_from_an_event_loop(bus: BrokerBus) -> None:
    async def listen(ready: asyncio.Event, got: list[Any]) -> None:
        async with FedMsgContext(**bus.config, mute=True) as context:
            messages = context.tail_messages(f"{PREFIX}.m.")
            waiting = asyncio.ensure_future(anext(messages))
            await asyncio.to_thread(wait_until, bus.bindings, 30)
            ready.set()
            got.append(await waiting)
            while len(got) < 11:
                got.append(await anext(messages))
            await messages.aclose()

    async def run() -> list[Any]:
        ready = asyncio.Event()
        got: list[Any] = []
        listening = asyncio.ensure_future(listen(ready, got))
        await ready.wait()
        async with FedMsgContext(**bus.config, name="test") as context:
            async with context.subscribe() as stream:
                # Begun, and so made.
                assert await stream.read(0.1) is None
                while stream.position is None:
                    await stream.read(0.1)
                assert await context.publish("t", {"n": 0}, modname="m") is None
                many = [{"topic": "t", "modname": "m", "msg": {"n": n}} for n in range(1, 11)]
                assert [position async for position in context.publish_many(many)] == [0] * 10
                read = [await stream.read(30) for _ in range(11)]
            assert [message[3]["msg"]["n"] for message in read if message is not None] == list(range(11))
        await asyncio.wait_for(listening, 60)
        return got

    assert [message[3]["msg"]["n"] for message in asyncio.run(run())] == list(range(11))
