# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program whose blocking calls are interrupted: ``python interrupted.py CALL HITS SEED``.

A signal handler raises KeyboardInterrupt at any instruction of a call, again and again. Then the
program writes ``done`` and ends, which must not take long, whatever the interrupts have left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import fedmsg.aio
from fedmsg.consumers import FedmsgConsumer
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import TransportError
from fedmsg.hub import Hub
from fedmsg.replay import get_replay
from fedmsg.testing import free_address

# So long a call takes at most once it was interrupted, and the process to end, in seconds.
END_TIMEOUT = 5.0

# Nothing listens at these.
RELAYED = {"active": True, "name": "relay_inbound", "relay_inbound": [free_address()], "zmq_linger": 100}
LISTENING = {"mute": True, "endpoints": {"test": [free_address()]}}


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raise, as Python's own handler of SIGINT does."""
    raise KeyboardInterrupt


def run(call: Callable[[], object], longest: float) -> None:
    """Make a call and interrupt it once, at some time within so many seconds."""
    try:
        # Should one get lost in a destructor, the next comes in half a second.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, longest), 0.5)
        call()
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def bound() -> dict[str, Any]:
    """Return settings for a publisher at an address of its own."""
    return {"name": "test", "endpoints": {"test": ["tcp://127.0.0.1:*"]}, "post_init_sleep": 10, "zmq_linger": 100}


def init() -> None:
    settings = random.choice([RELAYED, bound()])
    run(lambda: FedMsgContext(**settings).destroy(), 0.004)


def publish() -> None:
    with FedMsgContext(**random.choice([RELAYED, bound()])) as context:
        run(lambda: context.publish("t", modname="m"), 0.02)


def tail() -> None:
    with FedMsgContext(**LISTENING) as context:
        run(lambda: next(context.tail_messages()), 0.02)


def destroy() -> None:
    context = FedMsgContext(**random.choice([RELAYED, bound()]))
    run(context.destroy, 0.003)


def _in_loop(call: Callable[[fedmsg.aio.FedMsgContext], Any], longest: float, settings: dict[str, Any]) -> None:
    loop = asyncio.new_event_loop()
    context = fedmsg.aio.FedMsgContext(**settings)
    context.closes_by_itself()
    try:
        run(lambda: loop.run_until_complete(call(context)), longest)
    finally:
        loop.close()


async def _open_and_publish(context: fedmsg.aio.FedMsgContext) -> None:
    await context.publish("t", modname="m")


async def _next(context: fedmsg.aio.FedMsgContext) -> None:
    async for _ in context.tail_messages():
        pass


async def _open_and_close(context: fedmsg.aio.FedMsgContext) -> None:
    await context.open()
    await context.destroy()


def aio_publish() -> None:
    _in_loop(_open_and_publish, 0.02, random.choice([RELAYED, bound()]))


def aio_tail() -> None:
    _in_loop(_next, 0.02, LISTENING)


def aio_close() -> None:
    _in_loop(_open_and_close, 0.006, random.choice([RELAYED, bound()]))


class Idle(FedmsgConsumer):
    """Handles nothing."""

    config_key = "idle.enabled"

    def consume(self, message: Any) -> None:
        """Do nothing."""


def hub() -> None:
    made = Hub({"endpoints": LISTENING["endpoints"], "idle.enabled": True, "stop_timeout": 2}, [Idle], [])

    def start_and_stop() -> None:
        with made:
            pass

    run(start_and_stop, 0.02)
    made.stop()


def replay() -> None:
    settings = {"replay_endpoints": {"test": free_address()}, "timeout": 0.05}
    # Nothing answers.
    with contextlib.suppress(TransportError):
        run(lambda: list(get_replay("test", {"seq_id": 1}, settings)), 0.06)


CALLS = {call.__name__: call for call in (init, publish, tail, destroy, aio_publish, aio_tail, aio_close, hub, replay)}


def main() -> None:
    """Make the call and interrupt it, so many times."""
    call, hits, seed = CALLS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    random.seed(seed)
    # What is interrupted leaves things behind, and is not to be blamed for that here.
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, interrupt)
    longest = 0.0
    for _ in range(hits):
        start = time.monotonic()
        # The handler may still run between two blocks.
        with contextlib.suppress(KeyboardInterrupt):
            call()
        longest = max(longest, time.monotonic() - start)
    print("done" if longest < END_TIMEOUT else f"a call took {longest:.1f} s", flush=True)


if __name__ == "__main__":
    main()
