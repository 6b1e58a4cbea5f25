# SPDX-License-Identifier: LGPL-2.1-or-later
"""The context that an asyncio application publishes and listens through."""

from __future__ import annotations

import asyncio.coroutines
import inspect
import time
import warnings
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fedmsg import _confirmed, crypto, utils
from fedmsg.aio._confirming import Messages, publish_frames, publish_many
from fedmsg.aio._listening import Checking, fill_gaps, tail
from fedmsg.aio._threads import Waiter, Work, call_in_loop, in_thread
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, UsageError
from fedmsg.session import BaseContext, Hook, Session
from fedmsg.transport.zmq import contexts, sockets
from fedmsg.transport.zmq.publisher import Hindrance, Publisher
from fedmsg.transport.zmq.source import Received

if TYPE_CHECKING:
    from fedmsg.aio._subscribing import AsyncMessageStream
    from fedmsg.transport.base import ConfirmingSink

__all__ = ["FedMsgContext", "like_a_coroutine_function"]

F = TypeVar("F", bound=Callable[..., Any])

# What may be in the way of a message: a wait, and for how many seconds at most; or worse.
_Obstacle = tuple[Waiter, float] | Hindrance
# A task that publishes without a break lets others have their turn after so many seconds.
_SLICE = 0.005
# What takes longer than so many seconds to sign is signed in a thread.
_LONG = 0.001


def like_a_coroutine_function(function: F) -> F:
    """Mark a plain function that returns a coroutine, so that it counts as a coroutine function.

    Such a function does its first steps at the call itself, for example to find its caller. Without the mark, a web
    framework would take it for a blocking function and run it in a thread.
    """
    if hasattr(inspect, "markcoroutinefunction"):
        marked: F = inspect.markcoroutinefunction(function)
        return marked
    # Python 3.10 and 3.11 know but asyncio's own mark.
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


class _Turn:
    """Lets tasks wait in turn: messages go out in the order of the calls.

    Attributes:
        waiting: How many wait, or do what takes long.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for as long as the block lasts."""
        self.waiting += 1
        try:
            async with self._lock:
                yield
        finally:
            self.waiting -= 1


class FedMsgContext(BaseContext):
    """The twin of `fedmsg.core.FedMsgContext` for asyncio.

    It belongs to the event loop that it is first used in. Use it by ``async with``, or open
    it by the first `publish` and close it by `destroy`. Whatever may block is done in a thread.

    Args:
        config: The configuration, as keywords, as for `fedmsg.core.FedMsgContext`.

    Attributes:
        arguments: The configuration as passed.
        is_open: Whether it can be published through.
        hostname: The short name of this machine.
        rejections: How many received messages were rejected, by reason: ``rejections.counts``.
        gaps: What was missed by those that listen to services in ``replay_endpoints``.

    Raises:
        ConfigError: The configuration can't work. A ValueError.
    """

    def __init__(self, **config: Any) -> None:
        self.arguments = config
        self._session = Session(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: Work[None] | None = None
        self._closing: Work[None] | None = None
        self._under_way: Work[None] | None = None
        self.is_open = False
        self._slow = False
        self._waiting: set[Waiter] = set()
        self._turn = _Turn()
        self._busy_since: float | None = None
        self._companion: AsyncGenerator[None, None] | None = None

    # ---------------------------------------------------------------- opening and closing

    async def open(self) -> None:
        """Open what is published through, unless it is open.

        Raises:
            MissingEndpoint: ``active``, and no address is configured for the relay. A KeyError.
            AddressInUse: All addresses of the name are taken by others. An IOError.
            RefusedAtStart: Signing is on and can't be done.
            ConfigError: The context is closed.
            UsageError: It belongs to another event loop.
        """
        self._belong_to(get_running_loop())
        if self._closing is None and not self.is_open:
            if self._opening is None or self._opening.lost:
                self._opening = Work(self._start)
            opening = self._opening
            try:
                await opening.result()
            except asyncio.CancelledError:
                raise
            except BaseException:
                if self._opening is opening:
                    self._opening = None
                raise
            self.is_open = self._closing is None
        self._raise_if_closed()

    def _start(self) -> None:
        session = self._session
        session.open()
        signer = session.signer
        self._slow = session.writer is not None or (
            signer is not None and (crypto.uses_gnupg(session.config) or _takes_long(signer))
        )

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            return
        forked = self._session.generation != contexts.generation
        if self._loop is not None and not self._loop.is_closed() and not forked:
            raise UsageError("this context is used in another event loop: open one in each")
        self._loop = loop
        self._turn = _Turn()
        self._waiting.clear()
        self._busy_since = None

    async def destroy(self) -> None:
        """Close the context; bounded by ``zmq_linger``, during which the loop goes on.

        A second call waits for the first. Closing goes on when this is cancelled.
        """
        if self._closing is None or self._closing.lost:
            self.is_open = False
            self._closing = Work(self._close)
            for waiter in list(self._waiting):
                waiter.release()
        await self._closing.result()
        if self._companion is not None:
            await self._companion.aclose()

    def _close(self) -> None:
        if self._opening is not None:
            # It may be opened this very moment; an error is raised where it is waited for.
            self._opening.wait()
        if self._under_way is not None:
            self._under_way.wait(settings.get(self._session.config, "zmq_linger") / 1000)
        self._session.close()

    async def close_with_loop(self) -> None:
        """Arrange that the context is closed at the end of the running loop."""
        if self._companion is None:
            # What closes asynchronous generators, as asyncio.run does, closes this one too.
            self._companion = self._until_the_end()
            await anext(self._companion)

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._companion = None
            await self.destroy()

    def _raise_if_closed(self) -> None:
        if self._closing is not None:
            raise ConfigError("this context is closed; open another one to publish")

    async def __aenter__(self) -> FedMsgContext:
        try:
            await self.open()
        except BaseException:
            await self.destroy()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.destroy()

    @property
    def context(self) -> sockets.Context | None:
        """The ZeroMQ context, one for the whole process; None before it is opened."""
        return self._session.context if self.is_open else None

    # ---------------------------------------------------------------- publishing

    @like_a_coroutine_function
    def publish(
        self,
        topic: str | None = None,
        msg: object = None,
        modname: str | None = None,
        pre_fire_hook: Hook | None = None,
        confirm: bool | None = None,
        **_config: Any,
    ) -> Coroutine[Any, Any, int | None]:
        """Send a message; the arguments are not changed.

        Cancelled while it waits for a subscriber, it sends nothing; while it waits for a confirm, it may have sent it.

        Args:
            topic: What happened; the rest of the full topic is added.
            msg: The content: usually a dict, anything that becomes JSON.
            modname: The application; the top-level module that makes the call by default.
            pre_fire_hook: A plain function, called in the loop with the finished envelope
                just before it is sent.
            confirm: Whether to wait until a relay has it on disk; by default as ``publish_confirm`` says.

        Returns:
            Its position in the stream of the relay, when it was confirmed.

        Raises:
            NotListening: Publishing through a relay, and none listened within ``timeout``.
            NotConfirmed: No relay has confirmed it within ``timeout``; see `republish`.
            RejectedByRelay: The relay has rejected it. A MessageError.
            MessageError: A receiver would have to reject the message. A ValueError.
            TypeError: ``msg`` holds something that can't become JSON.
            ConfigError: This context has no address to publish at.
        """
        # Now, for the coroutine may be run by a loop whose call stack knows nothing of the caller.
        modname = modname or utils.guess_calling_module() or "fedmsg"
        return self._publish(topic, msg, modname, pre_fire_hook, confirm)

    async def _publish(
        self, topic: str | None, msg: object, modname: str, hook: Hook | None, confirm: bool | None = None
    ) -> int | None:
        if self._session.is_confirmed(confirm):
            position = await self._publish_confirmed(topic, msg, modname, hook)
            return position if self._session.transport.has_positions else None
        await self._publish_plain(topic, msg, modname, hook)
        return None

    async def _publish_plain(self, topic: str | None, msg: object, modname: str, hook: Hook | None) -> None:
        loop, session = get_running_loop(), self._session
        now = time.monotonic()
        if self._busy_since is None:
            self._busy_since = now
            loop.call_soon(self._rest)
        elif now - self._busy_since > _SLICE:
            await asyncio.sleep(0)
            now = time.monotonic()
        if not self.is_open or self._loop is not loop:
            await self.open()
        if session.generation != contexts.generation:
            session.follow_fork()
        publisher = session.publisher or session.plain_publisher()
        if publisher is None:
            raise session.why_silent()
        if hook is not None and inspect.iscoroutinefunction(hook):
            raise UsageError("pre_fire_hook is a coroutine function; it has to be a plain one")
        if self._slow or self._turn.waiting:
            if hook is not None and self._slow:
                hook = partial(call_in_loop, loop, hook)
            async with self._turn.taken():
                self._raise_if_closed()
                await self._publish_in_turn(publisher, now, (topic, msg, modname, hook))
            return
        number = session.number + 1
        frame, body = session.frames(number, topic, msg, modname, hook)
        hindrance = publisher.attempt(frame, body, now, self._expect)
        if hindrance is not None or publisher.deferred:
            async with self._turn.taken():
                await self._insist(publisher, frame, body, now, hindrance)
        session.number = number

    def _rest(self) -> None:
        self._busy_since = None

    # ---------------------------------------------------------------- publishing with a confirm

    def publish_many(self, messages: Messages, modname: str | None = None) -> AsyncGenerator[int, None]:
        """Send messages ahead of their confirms, up to ``publish_window``; the order is kept.

        Args:
            messages: An iterable, asynchronous or not: for each message a dict with arguments of `publish`.
            modname: The application, where a message does not name one; the caller's top-level module by default.

        Returns:
            An asynchronous generator of their positions, in order; it sends as it is read.

        Raises:
            NotConfirmed: There is no confirm within ``timeout``; its ``unconfirmed`` has all that have none.
            RejectedByRelay: The relay has rejected a message; the same. A MessageError.
            MessageError: A receiver would have to reject a message. A ValueError.
        """
        return self._publish_many(messages, modname or utils.guess_calling_module() or "fedmsg")

    async def _publish_many(self, messages: Messages, modname: str) -> AsyncGenerator[int, None]:
        sink = await self._confirmed_sink()
        async with aclosing(publish_many(self._session, sink, self._frames, messages, modname)) as positions:
            async for position in positions:
                yield position

    async def republish(self, envelope: Mapping[str, Any]) -> int:
        """Send an envelope that was not confirmed once more, exactly as it is; what is stored already is not doubled.

        Returns:
            Its position in the stream of the relay.

        Raises:
            NotConfirmed: No relay has confirmed it within ``timeout``.
            RejectedByRelay: The relay has rejected it. A MessageError.
            MessageError: It is no envelope. A ValueError.
        """
        sink = await self._confirmed_sink()
        frames = _confirmed.envelope_frames(self._session, envelope)
        return await publish_frames(self._session, sink, frames, again=True)

    async def _publish_confirmed(self, topic: str | None, msg: object, modname: str, hook: Hook | None) -> int | None:
        session = self._session
        if session.writer is not None:
            await self._confirmed_sink()
            found: list[int | None] = []
            async with self._turn.taken():
                self._raise_if_closed()
                work = partial(_confirmed.publish, session, topic, msg, modname, self._in_loop(hook))
                await self._finish(lambda: found.append(work()))
            return found[0]
        ready = session.confirmed is not None and self.is_open and session.generation == contexts.generation
        if not ready or self._turn.waiting:
            await self._confirmed_sink()
        frames = await self._frames(topic, msg, modname, hook)
        sink = session.confirmed
        if sink is None:
            raise session.why_silent()
        return await publish_frames(session, sink, frames)

    async def _frames(self, topic: str | None, msg: object, modname: str, hook: Hook | None) -> tuple[bytes, bytes]:
        """Make the frames of a message, in the order of the calls; its number is taken even without a confirm."""
        session = self._session
        if hook is not None and inspect.iscoroutinefunction(hook):
            raise UsageError("pre_fire_hook is a coroutine function; it has to be a plain one")
        if not self._slow and not self._turn.waiting:
            session.number += 1
            return session.frames(session.number, topic, msg, modname, hook)
        async with self._turn.taken():
            self._raise_if_closed()
            session.number += 1
            work = partial(session.frames, session.number, topic, msg, modname, self._in_loop(hook))
            return await in_thread(work, daemon=True) if self._slow else work()

    def _in_loop(self, hook: Hook | None) -> Hook | None:
        """Return a hook that a thread may call; that of the application is called in the loop."""
        assert self._loop is not None
        return None if hook is None or not self._slow else partial(call_in_loop, self._loop, hook)

    async def _confirmed_sink(self) -> ConfirmingSink:
        if not self.is_open or self._loop is not get_running_loop():
            await self.open()
        session = self._session
        if session.generation != contexts.generation:
            session.follow_fork()
        if session.confirmed is None or self._turn.waiting:
            async with self._turn.taken():
                self._raise_if_closed()
                if session.confirmed is None:
                    await in_thread(session.confirmed_sink)
        sink = session.confirmed
        assert sink is not None
        return sink

    async def _publish_in_turn(
        self, publisher: Publisher, start: float, message: tuple[str | None, object, str, Hook | None]
    ) -> None:
        session, number = self._session, self._session.number + 1
        if session.writer is not None:
            # Without a subscriber nothing is to be stored either.
            frame = session.topic_and_frame(message[2], message[0])[1]
            await self._insist(publisher, frame, None, start, publisher.attempt(frame, None, start, self._expect))
            await self._finish(partial(session.publish_stored, *message))
            return
        if self._slow:
            frame, body = await in_thread(partial(session.frames, number, *message), daemon=True)
            self._raise_if_closed()
            start = time.monotonic()
        else:
            frame, body = session.frames(number, *message)
        await self._insist(publisher, frame, body, start, publisher.attempt(frame, body, start, self._expect))
        session.number = number

    async def _finish(self, function: Callable[[], None]) -> None:
        """Run a function in a thread, to its end even when this is cancelled, and before the next one starts."""
        if self._under_way is not None and not self._under_way.done:
            # Its caller was cancelled, and its error has no receiver.
            with suppress(Exception):
                await self._under_way.result()
        self._under_way = Work(function)
        await self._under_way.result()

    async def _insist(
        self, publisher: Publisher, frame: bytes, body: bytes | None, start: float, hindrance: _Obstacle | None
    ) -> None:
        """Send a message after all, as soon as nothing is in its way any more."""
        while hindrance is not None and hindrance is not Hindrance.INSIDE:
            await self._overcome(publisher, hindrance)
            self._raise_if_closed()
            hindrance = publisher.attempt(frame, body, start, self._expect)
        if publisher.deferred:
            await in_thread(publisher.send_deferred)

    def _expect(self) -> Waiter:
        publisher = self._session.publisher
        assert self._loop is not None
        assert publisher is not None
        waiter = Waiter(self._loop)
        publisher.changed.add(waiter)
        return waiter

    async def _overcome(self, publisher: Publisher, hindrance: _Obstacle) -> None:
        """Wait until it is worth to try again."""
        if isinstance(hindrance, Hindrance):
            error = await in_thread(publisher.replace_broken)
            if error is not None:
                raise error
        else:
            waiter, seconds = hindrance
            self._waiting.add(waiter)
            try:
                await waiter.wait(seconds)
            finally:
                self._waiting.discard(waiter)
                publisher.changed.discard(waiter)

    @like_a_coroutine_function
    def send_message(
        self, topic: str | None = None, msg: object = None, modname: str | None = None
    ) -> Coroutine[Any, Any, int | None]:
        """Publish a message; the old name of `publish`."""
        warnings.warn(".send_message is deprecated. Use .publish", DeprecationWarning, stacklevel=2)
        return self.publish(topic, msg, modname)

    # ---------------------------------------------------------------- listening

    def tail_messages(self, topic: str = "", passive: bool = False, **_config: Any) -> AsyncGenerator[Received, None]:
        """Listen to every address in ``endpoints``.

        Args:
            topic: The beginning of the topics that are wanted; empty for all.
            passive: Bind the addresses instead of connecting to them.

        Returns:
            An asynchronous generator of (name, address, topic, envelope). Sockets are opened
            at its first ``anext()`` and closed with it, also when it is cancelled. Messages that
            are invalid are rejected: counted, logged now and then, and dropped.

        Raises:
            ConfigError: At the call: the configuration can't work.
            RefusedAtStart: At the call: checking is on and can't be done. Where that takes
                more than reading files, at the first ``anext()``.
        """
        session = self._session
        endpoints = session.listened_endpoints()
        replayed = session.replayed(endpoints)
        checking = Checking(session.config, session.checker)
        messages = tail(partial(session.source, endpoints, topic, passive, replayed), checking)
        return fill_gaps(session, replayed, topic, messages, checking) if replayed else messages

    def subscribe(
        self,
        topic: str | Iterable[str] = "",
        *,
        after: int | str | None = None,
        since: float | str | None = None,
        last: int | None = None,
        durable: str | None = None,
        ack_mode: str = "auto",
    ) -> AsyncMessageStream:
        """Read the stream of a relay with a store, history and live messages by one path.

        The arguments, and the errors at the call, are those of `fedmsg.core.FedMsgContext.subscribe`.

        Returns:
            An asynchronous context manager and iterator of messages; ``ack()`` of a message is a plain function.
        """
        session = self._session
        if session.generation != contexts.generation:
            session.follow_fork()
        # Here: it takes a library of its own to load, and most programs only publish or listen.
        opened: AsyncMessageStream = utils.load_class("fedmsg.aio._subscribing:open_stream")(
            session.config, topic, Checking(session.config, session.checker), session.rejections,
            after=after, since=since, last=last, durable=durable, ack_mode=ack_mode,
        )  # fmt: skip
        return opened


def _takes_long(signer: crypto.Signer) -> bool:
    """Try how long a signature takes; on a busy machine some are interrupted, so it is the least of a few."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        signer.credentials(b"", b"")
        times.append(time.perf_counter() - begin)
    return min(times) > _LONG
