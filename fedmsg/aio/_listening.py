# SPDX-License-Identifier: LGPL-2.1-or-later
"""What arrives, as an asynchronous generator that leaves the loop time for everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from fedmsg import crypto
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.aio._checking import Checking
from fedmsg.aio._threads import in_thread
from fedmsg.aio._waiting import readable
from fedmsg.exceptions import ValidationError
from fedmsg.transport.zmq.source import Received, Receiver

__all__ = ["tail", "tail_checked_in_threads"]

# After so many seconds of messages without a break, others have their turn.
_SLICE = 0.005
# So many messages at most are checked by one thread.
_BATCH = 100


async def tail(
    open_receiver: Callable[[crypto.Check | None], Receiver], checking: Checking
) -> AsyncGenerator[Received, None]:
    """Yield what arrives.

    Args:
        open_receiver: Opens what it is received through, checked by what it is given; it is
            closed with the generator.
        checking: How messages are checked.
    """
    clock = time.monotonic
    with open_receiver(await checking.check()) as receiver:
        pause = clock() + _SLICE
        for received in receiver.arriving():
            if received is not None:
                yield received
                if clock() < pause:
                    continue
                await asyncio.sleep(0)
            elif receiver.idle:
                await readable(receiver.fileno(), receiver.recheck)
            else:
                await asyncio.sleep(0)
            pause = clock() + _SLICE


async def tail_checked_in_threads(
    open_receiver: Callable[[crypto.Check | None], Receiver], checking: Checking
) -> AsyncGenerator[Received, None]:
    """Yield what arrives, where checking may block: a thread does it, for many at once.

    Args:
        open_receiver: Opens what it is received through; it is closed with the generator.
        checking: How messages are checked.
    """
    check = await checking.check()
    with open_receiver(None) as receiver:
        batch: list[Received] = []
        for received in receiver.arriving():
            if received is not None:
                batch.append(received)
                if len(batch) < _BATCH:
                    continue
            for one in await _checked(batch, check, receiver.rejections):
                yield one
            batch = []
            if received is None and receiver.idle:
                await readable(receiver.fileno(), receiver.recheck)
            else:
                await asyncio.sleep(0)


async def _checked(batch: list[Received], check: crypto.Check | None, rejections: RejectionLog) -> list[Received]:
    """Give those of a batch that are valid."""
    if not batch or check is None:
        return batch
    answers = await in_thread(lambda: [check(envelope) for _, _, _, envelope in batch], daemon=True)
    for (_, address, _, envelope), valid in zip(batch, answers, strict=True):
        if not valid:
            rejections.add(address, ValidationError(envelope))
    return [one for one, valid in zip(batch, answers, strict=True) if valid]
