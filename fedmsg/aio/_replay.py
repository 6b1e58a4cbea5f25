# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gaps in what is received: missing messages are asked for in a thread, while the loop goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from itertools import islice

from fedmsg.aio._listening import Checking
from fedmsg.aio._threads import in_thread
from fedmsg.replay.gaps import GapFiller, Message
from fedmsg.session import Session
from fedmsg.transport.zmq.source import Received

__all__ = ["fill_gaps"]

# After so many seconds of messages without a break, other tasks have their turn.
_SLICE = 0.005
# How many replayed messages a thread checks at a time.
_BATCH = 100


async def fill_gaps(
    session: Session,
    names: set[str],
    topic: str,
    messages: AsyncGenerator[Received, None],
    checking: Checking,
) -> AsyncGenerator[Received, None]:
    """Yield what arrives, and before it what is missing.

    Args:
        session: The session of the listener.
        names: The services whose messages are numbered.
        topic: The beginning of the topics that are wanted.
        messages: What arrives, of these services all of it; closed with this.
        checking: How replayed messages are checked.
    """
    check = await checking.check()
    filler = GapFiller(session.config, names, validate=check, rejections=session.rejections, counts=session.gaps)
    pause = time.monotonic() + _SLICE
    async with aclosing(messages):
        async for received in messages:
            name, address, _, message = received
            if name not in names:
                yield received
                continue
            due = filler.fill(name, message)
            if isinstance(due, tuple):
                batch: list[Message] = list(due)
                rest: Iterator[Message] = iter(())
            else:
                rest = iter(due)
                batch = await in_thread(partial(_take, rest), daemon=True)
            while batch:
                for envelope in batch:
                    if envelope["topic"].startswith(topic):
                        yield name, address, envelope["topic"], envelope
                batch = [] if isinstance(due, tuple) else await in_thread(partial(_take, rest), daemon=True)
            if time.monotonic() > pause:
                await asyncio.sleep(0)
                pause = time.monotonic() + _SLICE


def _take(messages: Iterator[Message]) -> list[Message]:
    """Return the next messages, which may have to be asked for."""
    return list(islice(messages, _BATCH))
