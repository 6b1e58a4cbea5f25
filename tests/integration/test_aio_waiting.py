# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing in asyncio waits until somebody listens, as promised, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from fedmsg.aio import FedMsgContext
from fedmsg.core import FedMsgContext as Synchronous
from fedmsg.exceptions import ConfigError, NotListening
from fedmsg.testing import Bus, free_address
from tests.integration.faults.ground import Witness
from tests.integration.loops import begin, ticking, wait_until

pytestmark = pytest.mark.anyio

FOR_EVER = 10_000


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def settings(address: str) -> dict[str, Any]:
    return {"name": "me.here", "endpoints": {"me.here": address}, "post_init_sleep": FOR_EVER}


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus() as made:
        yield made


def through(bus: Bus, **settings: Any) -> FedMsgContext:
    """Give a context that publishes through the relay."""
    return FedMsgContext(**{**bus.config, "active": True, "name": "relay_inbound", "timeout": FOR_EVER, **settings})


def waiters(context: FedMsgContext) -> int:
    """Count those who wait for news of a context's publisher."""
    outlet = context._session.publisher
    assert outlet is not None
    return len(outlet.changed._waiters)


# ------------------------------------------------------------------ bound


async def test_opening_and_closing_wait_for_nobody(settings: dict[str, Any]) -> None:
    async with FedMsgContext(**settings) as context:
        assert context.publisher is not None
    async with FedMsgContext(active=True, relay_inbound=free_address(), timeout=FOR_EVER):
        pass


async def test_the_first_message_waits_for_a_subscriber(address: str, settings: dict[str, Any]) -> None:
    async with FedMsgContext(**settings) as context:
        tasks = [asyncio.create_task(context.publish("t", {"n": n}, modname="m")) for n in range(100)]
        async with ticking() as ticks:
            await wait_until(lambda: ticks() > 20)
        assert not any(task.done() for task in tasks)
        with Witness(address) as witness:
            await asyncio.gather(*tasks)
            await wait_until(lambda: len(witness.frames) == 100)
            assert witness.numbers("t") == list(range(100))
            assert [body["i"] for body in witness.bodies("t")] == list(range(1, 101))
            # From here on nobody waits.
            assert begin(context.publish("t", {"n": 100}, modname="m"))


async def test_no_subscriber_is_no_error(settings: dict[str, Any]) -> None:
    async with FedMsgContext(**{**settings, "post_init_sleep": 0.05}) as context:
        first = context.publish("t", modname="m")
        assert not begin(first)
        first.close()
        await context.publish("t", modname="m")
        assert begin(context.publish("t", modname="m"))
        assert context._i == 2


async def test_threads_and_tasks_share_the_wait(address: str, settings: dict[str, Any]) -> None:
    """A synchronous context of another thread waits for the same subscriber."""

    def publish() -> None:
        with Synchronous(**settings) as context:
            context.publish("t", {"n": 1}, modname="m")

    async with FedMsgContext(**settings) as context:
        tasks = [
            asyncio.create_task(context.publish("t", {"n": 0}, modname="m")),
            asyncio.create_task(asyncio.to_thread(publish)),
        ]
        await wait_until(lambda: waiters(context) == 2)
        with Witness(address) as witness:
            await asyncio.gather(*tasks)
            await wait_until(lambda: sorted(witness.numbers("t")) == [0, 1])


# ------------------------------------------------------------------ through a relay


async def test_publishing_waits_for_the_relay(bus: Bus) -> None:
    with Witness(*bus.config["endpoints"]["relay_outbound"]) as witness:
        async with through(bus) as context:
            task = asyncio.create_task(context.publish("t", {"n": 1}, modname="m"))
            async with ticking() as ticks:
                await wait_until(lambda: ticks() > 20)
                assert not task.done()
                before = ticks()
                await asyncio.to_thread(bus.start_relay)
                await task
                assert ticks() > before
            await asyncio.to_thread(witness.greet, bus)
            # Stopped cleanly, it withdraws its subscription: the next message waits.
            await asyncio.to_thread(bus.stop_relay)
            outlet = context._session.publisher
            assert outlet is not None
            await wait_until(lambda: not outlet.sockets[0].subscriptions)
            tasks = [asyncio.create_task(context.publish("t", {"n": n}, modname="m")) for n in range(2, 50)]
            await wait_until(lambda: waiters(context))
            await asyncio.to_thread(bus.start_relay)
            await asyncio.gather(*tasks)
            assert context.lost == 0
            assert context._i == 49


async def test_no_relay_is_an_error_after_a_while_and_then_at_once(bus: Bus) -> None:
    async with through(bus, timeout=0.2) as context:
        results = await asyncio.gather(*(context.publish("t", modname="m") for _ in range(10)), return_exceptions=True)
        assert [type(result) for result in results] == [NotListening] * 10
        assert str(results[0]).startswith(f"nothing listens at {bus.config['relay_inbound'][0]} within 0.2 s")
        # A web request must not hang again and again.
        for _ in range(3):
            with pytest.raises(NotListening, match="the message was not sent"):
                begin(context.publish("t", modname="m"))
        assert context._i == 0
        # Until the relay is back.
        with Witness(*bus.config["endpoints"]["relay_outbound"]) as witness:
            await asyncio.to_thread(bus.start_relay)
            await asyncio.to_thread(witness.greet, bus)
            outlet = context._session.publisher
            assert outlet is not None
            await wait_until(lambda: outlet.sockets[0].subscriptions)
            await context.publish("t", {"n": 1}, modname="m")
            await wait_until(lambda: witness.bodies("t"))
            assert witness.bodies("t")[0]["i"] == 1


async def test_a_lost_connection_is_told(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    relay = await asyncio.to_thread(bus.start_relay)
    async with through(bus) as context:
        for _ in range(5):
            await context.publish("t", modname="m")
        relay.popen.kill()
        await wait_until(lambda: context.lost)
        assert context.lost == 5
        assert "about 5 messages may be lost" in caplog.text
    assert context.lost == 5


# ------------------------------------------------------------------ closing meanwhile


@pytest.mark.parametrize("way", ["bound", "active"])
async def test_closing_ends_the_wait(way: str, bus: Bus, settings: dict[str, Any]) -> None:
    context = FedMsgContext(**settings) if way == "bound" else through(bus)
    # Another one keeps the publisher open, so that it is not its end that ends the wait.
    async with FedMsgContext(**context.arguments):
        tasks = [asyncio.create_task(context.publish("t", modname="m")) for _ in range(3)]
        await wait_until(lambda: context.is_open and waiters(context))
        await context.destroy()
        for task in tasks:
            with pytest.raises(ConfigError, match="this context is closed"):
                await task


async def test_closing_takes_its_linger_time_and_the_loop_goes_on(address: str, settings: dict[str, Any]) -> None:
    """A subscriber that reads nothing holds up closing, for ``zmq_linger``, and nothing else."""
    async with FedMsgContext(**{**settings, "zmq_linger": 300}) as context:
        with zmq.Context() as plain, plain.socket(zmq.SUB) as stuck:
            stuck.set(zmq.RCVHWM, 1)
            stuck.set(zmq.RCVBUF, 4096)
            stuck.subscribe(b"")
            stuck.connect(address)
            for _ in range(200):
                await context.publish("t", "x" * 100_000, modname="m")
            async with ticking() as ticks:
                before = ticks()
                await context.destroy()
                assert ticks() > before + 3
            stuck.close(0)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("0.0.0.0", int(address.rpartition(":")[2])))
