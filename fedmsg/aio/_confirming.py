# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing with a confirm from an event loop: what `fedmsg._confirmed` does, but no call waits in the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg import _confirmed
from fedmsg.aio._threads import Waiter
from fedmsg.config import settings
from fedmsg.exceptions import NotConfirmed, RejectedByRelay
from fedmsg.session import Hook, Session

if TYPE_CHECKING:
    from fedmsg.transport.base import ConfirmingSink
    from fedmsg.transport.pending import Pending

__all__ = ["Frames", "Messages", "publish_frames", "publish_many"]

#: What many messages are: for each a dict with arguments of ``publish``.
Messages = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
#: Makes the two frames of a message, in a thread where that takes long.
Frames = Callable[[str | None, object, str, Hook | None], Awaitable[tuple[bytes, bytes]]]


class _Sent:
    """A message that is on its way, and the task that will wait for its confirm."""

    def __init__(self, session: Session, sink: ConfirmingSink, frames: tuple[bytes, bytes], *, again: bool) -> None:
        self._sink = sink
        self._timeout = float(settings.get(session.config, "timeout"))
        self._waiter = Waiter(asyncio.get_running_loop())
        self.pending: Pending = sink.begin(*frames, timeout=self._timeout, again=again, notify=self._waiter.release)

    async def position(self) -> int:
        """Wait for the confirm; return the position."""
        try:
            if not self.pending.is_settled:
                await self._waiter.wait(self._timeout)
        finally:
            # Also when it was cancelled.
            self.abandon()
        return self._sink.result(self.pending)

    def abandon(self) -> None:
        """Wait for it no longer."""
        if not self.pending.is_settled:
            self.pending.abandon()


async def publish_frames(
    session: Session, sink: ConfirmingSink, frames: tuple[bytes, bytes], *, again: bool = False
) -> int:
    """Send a message, which is on its way when this first waits; return its position.

    Raises:
        NotConfirmed: There is no confirm within ``timeout``.
        RejectedByRelay: The relay has rejected it.
    """
    return await _Sent(session, sink, frames, again=again).position()


async def publish_many(
    session: Session, sink: ConfirmingSink, make: Frames, messages: Messages, modname: str
) -> AsyncGenerator[int, None]:
    """Send messages ahead of their confirms; yield their positions, in order; see `fedmsg._confirmed.publish_many`."""
    waiting: deque[_Sent] = deque()
    size: int = settings.get(session.config, "publish_window")

    async def first() -> int:
        try:
            position = await waiting[0].position()
        except (NotConfirmed, RejectedByRelay) as error:
            error.unconfirmed = [one.pending.envelope for one in waiting]
            while waiting:
                waiting.popleft().abandon()
            raise
        waiting.popleft()
        return position

    try:
        try:
            async for message in _each(messages):
                while waiting and (len(waiting) >= size or waiting[0].pending.is_settled):
                    yield await first()
                frames = await make(*_confirmed.arguments(message, modname))
                waiting.append(_Sent(session, sink, frames, again=False))
        except Exception:
            while waiting:
                yield await first()
            raise
        while waiting:
            yield await first()
    finally:
        for one in waiting:
            one.abandon()


async def _each(messages: Messages) -> AsyncIterator[Mapping[str, Any]]:
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield message
        return
    for message in messages:
        yield message
