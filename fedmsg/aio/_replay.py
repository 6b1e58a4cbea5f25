# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gaps in what is received: what is missing is asked for, while the loop goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from fedmsg.aio._listening import Checking
from fedmsg.aio._threads import in_thread
from fedmsg.exceptions import FedmsgError
from fedmsg.replay import client, gaps
from fedmsg.session import Session
from fedmsg.transport.zmq.source import Received

__all__ = ["fill_gaps"]

# After so many seconds of messages without a break, others have their turn.
_SLICE = 0.005


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
    filler = gaps.GapFiller(session.config, names, validate=check, rejections=session.rejections, counts=session.gaps)
    pause = time.monotonic() + _SLICE
    async with aclosing(messages):
        async for received in messages:
            name, address, _, message = received
            if name not in names:
                yield received
                continue
            # Only what was asked for is checked here, and so may take its time.
            steps, answer, in_threads = filler.steps(name, message), None, False
            while True:
                go_on = partial(_next, steps, answer)
                step = await in_thread(go_on, daemon=True) if in_threads else go_on()
                if step is None:
                    break
                answer = None
                if isinstance(step, gaps.Ask):
                    answer = await _ask(name, session.config, step)
                    in_threads = checking.may_block
                elif step["topic"].startswith(topic):
                    yield name, address, step["topic"], step
                if time.monotonic() > pause:
                    await asyncio.sleep(0)
                    pause = time.monotonic() + _SLICE


def _next(steps: gaps.Steps, answer: gaps.Answer | None) -> gaps.Ask | gaps.Message | None:
    """Return the next step; None after the last. A thread could not raise StopIteration."""
    try:
        return steps.send(answer)
    except StopIteration:
        return None


async def _ask(name: str, config: Mapping[str, Any], question: gaps.Ask) -> gaps.Answer:
    """Ask a replay server, which takes the thread that asks as long as it takes the server."""

    def ask() -> list[bytes]:
        with client.Client(name, config) as connection:
            return connection.ask(question.query, question.timeout)

    try:
        return await in_thread(ask, daemon=True)
    except FedmsgError as error:
        return error
