# SPDX-License-Identifier: LGPL-2.1-or-later
"""What arrives, as an asynchronous generator that leaves the loop time for everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Any

from fedmsg import crypto
from fedmsg.aio._threads import in_thread, readable
from fedmsg.config import settings
from fedmsg.replay.gaps import GapFiller, Message
from fedmsg.session import Session
from fedmsg.transport.base import Delivery
from fedmsg.transport.zmq.source import Received, Source, accepted

__all__ = ["Checking", "fill_gaps", "tail"]

# After so many seconds of messages without a break, other tasks have their turn.
_SLICE = 0.005
# So many messages are read at once; where a thread checks them, it checks so many.
_BATCH = 50
_BATCH_IN_THREAD = 100


class Checking:
    """Checks the messages of one listener, in a thread where that may block.

    GnuPG is a program, and a CA may be far away.

    Attributes:
        may_block: Whether checking may take longer than an event loop should stand still.

    Raises:
        RefusedAtStart: Checking needs something that is not there. Where finding that out
            may block, `check` raises it.
    """

    def __init__(self, config: Mapping[str, Any], make: Callable[[], crypto.Check | None]) -> None:
        locations = (str(config.get(key)) for key in ("ca_cert_location", "crl_location"))
        far_away = any(location.startswith(("http:", "https:")) for location in locations)
        checked = settings.get(config, "validate_signatures")
        self.may_block = bool(checked) and (far_away or crypto.accepts_gnupg(config))
        self._make = make
        self._check = None if self.may_block else make()
        self._made = not self.may_block

    async def check(self) -> crypto.Check | None:
        """Return what answers whether a message is valid; None lets all pass."""
        if not self._made:
            self._check = await in_thread(self._make, daemon=True)
            self._made = True
        return self._check


async def tail(open_source: Callable[[], Source], checking: Checking) -> AsyncGenerator[Received, None]:
    """Yield what arrives and is valid."""
    clock = time.monotonic
    check = await checking.check()
    with open_source() as source:

        def accept(batch: list[Delivery]) -> list[Received | None]:
            return [accepted(delivery, check, source.rejections) for delivery in batch]

        pause = clock() + _SLICE
        while True:
            batch = source.poll(_BATCH_IN_THREAD if checking.may_block else _BATCH)
            decoded: Iterable[Received | None]
            if checking.may_block and batch:
                decoded = await in_thread(lambda batch=batch: accept(batch), daemon=True)  # type: ignore[misc]
            else:
                # One after the other, so that checking many does not hold up the loop.
                decoded = (accepted(delivery, check, source.rejections) for delivery in batch)
            for received in decoded:
                if received is not None:
                    yield received
                # What was rejected has taken its time, too.
                if clock() > pause:
                    await asyncio.sleep(0)
                    pause = clock() + _SLICE
            if not batch and source.idle:
                await readable(source.fileno(), source.recheck)
                pause = clock() + _SLICE


async def fill_gaps(
    session: Session,
    names: set[str],
    topic: str,
    messages: AsyncGenerator[Received, None],
    checking: Checking,
) -> AsyncGenerator[Received, None]:
    """Yield what arrives, and before it what is missing."""
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
    return list(islice(messages, _BATCH_IN_THREAD))
