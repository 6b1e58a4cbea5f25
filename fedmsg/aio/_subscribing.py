# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream of a relay as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.aio._listening import Checking
from fedmsg.aio._threads import Work, readable
from fedmsg.stream.messages import BaseMessageStream, Message, checked, subscribe
from fedmsg.stream.subscription import StreamDelivery, Subscription
from fedmsg.transport.zmq.source import Received

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncMessageStream", "open_stream"]

# After so many seconds of messages without a break, other tasks have their turn.
_SLICE = 0.005
# So many messages are taken at once; where a thread checks them, it checks so many.
_BATCH = 50
_BATCH_IN_THREAD = 100


class AsyncMessageStream(BaseMessageStream, AsyncIterator[Message]):
    """Yields the messages of a subscription; an asynchronous context manager.

    Args:
        subscription: What it reads, and closes at the end of the block, also when that is cancelled.
        checking: Checks the messages.
        ack_mode: ``auto`` acknowledges a message when the next one is asked for, ``manual`` leaves it to the caller.
    """

    def __init__(self, subscription: Subscription, checking: Checking, ack_mode: str) -> None:
        super().__init__(subscription, ack_mode)
        self._checking = checking
        self._closed = False
        self._closing: Work[None] | None = None
        self._under_check: Work[list[tuple[StreamDelivery, Received | None]]] | None = None
        self._waiting = asyncio.Lock()
        self._pause = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = await self.read()
        if message is None:
            raise StopAsyncIteration
        return message

    async def read(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None when there is none within ``timeout`` seconds, or it is closed.

        Cancelled, it has taken nothing: the next call returns what this one would have.

        Raises:
            PositionGone: There is no such place to begin. A ValueError and LookupError.
            QueryError: The relay has rejected the subscription. A ValueError.
            RefusedAtStart: Checking is on and can't be done.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._acknowledge()
        while not self._closed:
            if time.monotonic() > self._pause:
                # Others have their turn, whatever is waiting here.
                await asyncio.sleep(0)
                self._pause = time.monotonic() + _SLICE
            message = self._next_taken()
            if message is not None:
                return message
            if not await self._take():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                await self._wait(left)
        return None

    async def _take(self) -> bool:
        """Take what has arrived and have it checked; whether there is something."""
        subscription, in_a_thread = self._subscription, self._checking.may_block
        check = await self._checking.check()
        if self._under_check is None:
            batch = [] if self._closed else subscription.poll(_BATCH_IN_THREAD if in_a_thread else _BATCH)
            self._taken = checked(batch, check, subscription.rejections)
            if not in_a_thread or not batch:
                return bool(batch)
            self._under_check = Work(partial(list, self._taken), daemon=True)
        # When this is cancelled, the next call waits for the same work.
        self._taken = iter(await self._under_check.result())
        self._under_check = None
        return True

    async def _wait(self, timeout: float | None) -> None:
        async with self._waiting:
            if not self._closed and self._subscription.idle:
                await readable(self._subscription.fileno(), timeout)
                self._pause = time.monotonic() + _SLICE

    async def aclose(self) -> None:
        """Close the subscription; a task that reads it finds its end. It goes on when this is cancelled."""
        if not self._closed:
            self._closed = True
            self._subscription.wake()
        try:
            # The loop no longer watches a descriptor that is about to be closed.
            async with self._waiting:
                pass
        finally:
            if self._closing is None or self._closing.lost:
                self._closing = Work(self._subscription.close)
        await self._closing.result()


def open_stream(
    config: Mapping[str, Any],
    topic: str | Iterable[str],
    checking: Checking,
    rejections: RejectionLog,
    *,
    ack_mode: str,
    **begin: Any,
) -> AsyncMessageStream:
    """Subscribe, and return what yields the messages; see `fedmsg.stream.messages.subscribe`."""
    return AsyncMessageStream(subscribe(config, topic, rejections, ack_mode=ack_mode, **begin), checking, ack_mode)
