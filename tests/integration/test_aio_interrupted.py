# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signal handlers that raise, or publish themselves, while an event loop publishes."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType

import pytest

from fedmsg.aio import FedMsgContext
from fedmsg.core import FedMsgContext as Synchronous
from fedmsg.testing import wait_until
from tests.integration.faults.ground import doubled, interrupts, surroundings


class Publishing:
    """Publishes numbers from one loop after the other.

    Attributes:
        confirmed: Those for which ``publish`` has returned.
        tried: How many there were.
    """

    def __init__(self, context: FedMsgContext) -> None:
        self.confirmed: set[int] = set()
        self.tried = 0
        self._context = context

    async def go_on(self, after: float) -> None:
        """Publish until the alarm goes off, after so many seconds or half a second later."""
        await self._context.open()
        signal.setitimer(signal.ITIMER_REAL, after, 0.5)
        while True:
            self.tried = number = self.tried + 1
            await self._context.publish("cut", {"n": number, "filler": "x" * 200}, modname="test")
            self.confirmed.add(number)


# Python swallows what a signal handler raises while a destructor runs, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["active", "bound"])
@pytest.mark.soak
def test_no_half_message_gets_out(way: str, full_size: bool) -> None:
    hits = 20_000 if full_size else 300
    with surroundings(way) as (witness, settings):
        context = FedMsgContext(**settings)
        publishing = Publishing(context)
        with interrupts() as alarm:
            for hit in range(hits):
                loop = asyncio.new_event_loop()
                try:
                    alarm.raises = True
                    loop.run_until_complete(publishing.go_on(0.0005 + 0.0000007 * (hit % 1000)))
                except KeyboardInterrupt:
                    alarm.raises = False
                finally:
                    loop.close()
        asyncio.run(context.publish("last", modname="test"))
        # Counting does not read them again and again, which takes long when there are a million.
        witness.wait_for(len(publishing.confirmed), "cut", 300)
        wait_until(lambda: publishing.confirmed <= set(witness.numbers("cut")), what="all confirmed messages arrived")
        asyncio.run(context.destroy())
        assert context.lost == 0
    assert {len(frames) for frames in witness.frames} == {2}
    arrived = witness.numbers("cut")
    assert doubled(arrived) == []
    # A message under which publish was interrupted may have got out, as a whole, or not at all.
    assert set(arrived) <= set(range(1, publishing.tried + 1))


@pytest.mark.parametrize("way", ["active", "bound"])
def test_a_signal_handler_publishes_too(way: str) -> None:
    signals = 0
    with surroundings(way) as (witness, settings), Synchronous(**settings) as other:

        def handler(_number: int, _frame: FrameType | None) -> None:
            nonlocal signals
            signals += 1
            other.publish("signal", {"n": signals}, modname="test")
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0003)

        async def publish() -> None:
            async with FedMsgContext(**settings) as context:
                await context.publish("first", modname="test")
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.0003)
                for number in range(10_000):
                    await context.publish("t", {"n": number}, modname="test")
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)

        before = signal.signal(signal.SIGVTALRM, handler)
        try:
            asyncio.run(publish())
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
        witness.wait_for(10_000, "t")
        witness.wait_for(signals, "signal")
    assert signals
    assert witness.numbers("t") == list(range(10_000))
    assert witness.numbers("signal") == list(range(1, signals + 1))
