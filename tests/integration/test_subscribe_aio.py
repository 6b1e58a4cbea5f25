# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.aio reads the stream of a relay as the synchronous functions do, and no read holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import fedmsg.aio
from fedmsg.aio import FedMsgContext
from fedmsg.aio._subscribing import AsyncMessageStream
from fedmsg.exceptions import PositionGone, UsageError
from fedmsg.testing import wait_until
from tests import certificates
from tests.integration.test_subscribe import publish
from tests.stream_relays import StreamBus, running, sqlite_url

pytestmark = pytest.mark.anyio


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


@pytest.fixture
async def context(bus: StreamBus) -> AsyncIterator[FedMsgContext]:
    async with FedMsgContext(**bus.config, mute=True) as made:
        yield made


async def numbers(stream: AsyncMessageStream, count: int) -> list[int]:
    """Return the numbers of the next messages."""
    found: list[int] = []
    while len(found) < count:
        message = await stream.read(20)
        assert message is not None
        found.append(message[3]["msg"]["n"])
    return found


async def test_subscribe_goes_from_history_to_live_without_a_seam(bus: StreamBus, context: FedMsgContext) -> None:
    publish(bus, *range(100))
    async with context.subscribe(after="first") as stream:
        assert await numbers(stream, 50) == [*range(50)]
        await asyncio.to_thread(publish, bus, *range(100, 150))
        assert await numbers(stream, 100) == [*range(50, 150)]
        assert await stream.read(0.1) is None  # no doubles
        assert (stream.position, stream.newest, stream.statistics()["received"]) == (150, 150, 150)


async def test_a_message_is_the_same_as_that_of_the_synchronous_twin(bus: StreamBus, context: FedMsgContext) -> None:
    publish(bus, 7)
    with bus.context(mute=True) as other, other.subscribe(last=1) as stream:
        expected = next(stream)
    async with context.subscribe(last=1) as found:
        message = await anext(found)
    assert message == expected
    assert (message.position, message.stored) == (expected.position, expected.stored)


async def test_a_durable_subscription_goes_on_where_it_was_acknowledged(bus: StreamBus, context: FedMsgContext) -> None:
    publish(bus, *range(10))
    async with context.subscribe(after=0, durable="mine") as stream:
        assert await numbers(stream, 4) == [0, 1, 2, 3]  # the last of them is not acknowledged
    async with context.subscribe(durable="mine", ack_mode="manual") as stream:
        messages = [await anext(stream) for _ in range(3)]
        messages[1].ack()
    async with context.subscribe(durable="mine") as stream:
        assert await numbers(stream, 2) == [5, 6]


async def test_an_exception_acknowledges_nothing_more(bus: StreamBus, context: FedMsgContext) -> None:
    publish(bus, *range(5))

    async def handle() -> None:
        async with context.subscribe(after=0, durable="mine") as stream:
            async for message in stream:
                if message[3]["msg"]["n"] == 2:
                    raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            await handle()
    async with context.subscribe(durable="mine") as stream:
        assert await numbers(stream, 3) == [2, 3, 4]


async def test_subscribe_has_the_same_arguments_everywhere() -> None:
    context, sync = fedmsg.core.FedMsgContext.subscribe, fedmsg.subscribe
    found = [
        [(one.name, one.kind, one.default) for one in signature(function).parameters.values()]
        for function in (context, FedMsgContext.subscribe, sync, fedmsg.aio.subscribe)
    ]
    assert found[0][0][0] == "self"
    assert found[2][-1][0] == "config"
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0][1:] == found[2][:-1]


async def test_a_cancelled_read_takes_nothing(bus: StreamBus, context: FedMsgContext) -> None:
    async with context.subscribe(after=0) as stream:
        for number in range(20):
            reading = asyncio.ensure_future(stream.read())
            await asyncio.wait([reading], timeout=0.001 * number)
            await asyncio.to_thread(publish, bus, number)
            reading.cancel()
            done = await asyncio.gather(reading, return_exceptions=True)
            if isinstance(done[0], asyncio.CancelledError):
                assert await numbers(stream, 1) == [number]
            else:
                assert done[0] is not None
                assert not isinstance(done[0], BaseException)
                assert done[0][3]["msg"] == {"n": number}


async def test_a_stream_that_is_closed_ends_for_who_reads_it(bus: StreamBus, context: FedMsgContext) -> None:
    stream = context.subscribe()

    async def read() -> list[Any]:
        return [message async for message in stream]

    reading = asyncio.ensure_future(read())
    await asyncio.wait([reading], timeout=0.1)
    await stream.aclose()
    assert await asyncio.wait_for(reading, 20) == []
    assert await stream.read() is None
    await stream.aclose()


async def test_a_busy_stream_leaves_the_loop_time(bus: StreamBus, context: FedMsgContext) -> None:
    publish(bus, *range(2000))
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    async with context.subscribe(after=0) as stream:
        await anext(stream)
        wait_until(lambda: stream.statistics()["received"] > 500)  # so that no read has to wait
        count()
        before = turns
        async for message in stream:
            if message[3]["msg"]["n"] == 400:
                break
    assert turns > before


@pytest.mark.parametrize("far_away", [False, True], ids=["checked here", "checked in a thread"])
async def test_what_is_not_valid_is_rejected_and_passed_over(tmp_path: Path, far_away: bool) -> None:
    (tmp_path / "keys").mkdir()
    keys = certificates.Bench(tmp_path / "keys")
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        publish(bus, 1)
        signing = {**keys.config, "sign_messages": True, "certnames": {"m": keys.config["certname"]}, "name": "m"}
        with bus.confirming(**signing) as publisher:
            publisher.publish(topic="t", modname="m", msg={"n": 2})
        publish(bus, 3)
        checking = {**keys.config, "validate_signatures": True, "routing_policy": {}}
        if far_away:
            # A signature may be one of GnuPG, which is a program.
            (tmp_path / "gnupg").mkdir(mode=0o700)
            checking |= {"crypto_validate_backends": ["x509", "gpg"], "gpg_home": str(tmp_path / "gnupg")}
        async with (
            FedMsgContext(**{**bus.config, **checking}, mute=True) as reader,
            reader.subscribe(after=0, durable="all") as stream,
        ):
            assert await numbers(stream, 1) == [2]
            assert await stream.read(0.5) is None
            assert reader.rejections.counts.total() == 2
        async with (
            FedMsgContext(**bus.config, mute=True) as reader,
            reader.subscribe(durable="all") as stream,
        ):
            # All of them were acknowledged, what was rejected too.
            await asyncio.to_thread(publish, bus, 4)
            assert await numbers(stream, 1) == [4]


async def test_subscribe_with_the_module(bus: StreamBus) -> None:
    publish(bus, 1, 2)
    async with fedmsg.aio.subscribe(after=1, **bus.config) as stream:
        assert await numbers(stream, 1) == [2]
    await fedmsg.aio.destroy()


async def test_subscribe_rejects_what_makes_no_sense(bus: StreamBus, context: FedMsgContext) -> None:
    several: list[dict[str, Any]] = [{"after": 1, "last": 1}, {"ack_mode": "never"}, {"since": "yesterday"}]
    for wrong in several:
        with pytest.raises(UsageError):
            context.subscribe(**wrong)
    async with context.subscribe(after=1000) as stream:
        with pytest.raises(PositionGone):
            await stream.read(20)
