# SPDX-License-Identifier: LGPL-2.1-or-later
"""The message bus for asyncio: the functions of `fedmsg` as coroutines, and its context.

::

    import fedmsg.aio

    await fedmsg.aio.publish(topic="update", modname="bodhi", msg={"title": "nethack-3.7"})

    async for name, endpoint, topic, msg in fedmsg.aio.tail_messages(mute=True):
        print(topic, msg["msg"])

The functions here keep a `FedMsgContext` for each event loop, which is closed with the loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fedmsg import config as configuration
from fedmsg import utils
from fedmsg.aio._confirming import Messages
from fedmsg.aio._context import FedMsgContext, like_a_coroutine_function
from fedmsg.session import Hook
from fedmsg.transport.zmq.source import Received

if TYPE_CHECKING:
    from fedmsg.aio._subscribing import AsyncMessageStream

__all__ = [
    "FedMsgContext", "destroy", "init", "publish", "publish_many", "republish", "subscribe", "tail_messages",
]  # fmt: skip

# In a child: what the loop in which its parent has forked was initialised with.
_inherited: dict[str, Any] = {}


@like_a_coroutine_function
def init(**config: Any) -> Coroutine[Any, Any, FedMsgContext]:
    """Load the configuration, apply the arguments, and open this loop's context.

    Args:
        config: Settings that win over the configuration files.

    Raises:
        ValueError: The loop has a context already; `destroy` it first.
    """
    return _init(_make(config))


async def _init(context: FedMsgContext) -> FedMsgContext:
    if _current() is not None:
        raise ValueError("fedmsg already initialized")
    _keep(context)
    await _open(context)
    return context


@like_a_coroutine_function
def publish(
    topic: str | None = None,
    msg: object = None,
    modname: str | None = None,
    pre_fire_hook: Hook | None = None,
    confirm: bool | None = None,
    **config: Any,
) -> Coroutine[Any, Any, int | None]:
    """Send a message, through a context that is opened when there is none yet.

    Cancelled while it waits for a subscriber, it sends nothing.

    Args:
        topic: What happened.
        msg: The content.
        modname: The application; the top-level module that makes the call by default.
        pre_fire_hook: A plain function, called in the loop with the finished envelope just
            before it is sent.
        confirm: Whether to wait until a relay has it on disk; by default as ``publish_confirm`` says.
        config: Settings for the context, where one has to be opened.

    Returns:
        Its position in the stream of the relay, when it was confirmed.

    Raises:
        NotListening: Publishing through a relay, and none listened within ``timeout``.
        NotConfirmed: No relay has confirmed it within ``timeout``; see `republish`.
        RejectedByRelay: The relay has rejected it.
        MessageError: The message is not fit for the wire.
    """
    # The caller can be found now, and not when a loop runs what is returned.
    modname = modname or utils.guess_calling_module() or "fedmsg"
    context = _current()
    if context is not None and context.is_open:
        return context._publish(topic, msg, modname, pre_fire_hook, confirm)
    return _publish_first(context or _make(config), (topic, msg, modname, pre_fire_hook, confirm))


async def _publish_first(
    fresh: FedMsgContext, message: tuple[str | None, object, str, Hook | None, bool | None]
) -> int | None:
    return await (await _opened(fresh))._publish(*message)


async def _opened(fresh: FedMsgContext) -> FedMsgContext:
    """Open the context of the running loop, which is this one where it has none yet."""
    context = _current()
    if context is None:
        context = fresh
        _keep(context)
    await _open(context)
    return context


async def publish_many(messages: Messages, modname: str | None = None, **config: Any) -> AsyncGenerator[int, None]:
    """Send messages ahead of their confirms, up to ``publish_window`` of them; the order is kept.

    Args:
        messages: An iterable, asynchronous or not: for each message a dict with arguments of `publish`.
        modname: The application, where a message does not name one.
        config: Settings for the context, where one has to be opened.

    Yields:
        Their positions, in order.

    Raises:
        NotConfirmed: There is no confirm within ``timeout``; its ``unconfirmed`` has all that have none.
        RejectedByRelay: The relay has rejected a message; the same.
    """
    context = await _opened(_current() or _make(config))
    async with aclosing(context.publish_many(messages, modname)) as positions:
        async for position in positions:
            yield position


async def republish(envelope: Mapping[str, Any], **config: Any) -> int:
    """Send an envelope that was not confirmed once more, exactly as it is; what is stored already is not doubled.

    Args:
        envelope: Such as that of a `fedmsg.exceptions.NotConfirmed`.
        config: Settings for the context, where one has to be opened.

    Returns:
        Its position in the stream of the relay.

    Raises:
        NotConfirmed: No relay has confirmed it within ``timeout``.
        RejectedByRelay: The relay has rejected it.
    """
    context = await _opened(_current() or _make(config))
    return await context.republish(envelope)


def tail_messages(topic: str = "", passive: bool = False, **config: Any) -> AsyncGenerator[Received, None]:
    """Listen, through a context that is made when there is none yet.

    Args:
        topic: The beginning of the topics that are wanted; empty for all.
        passive: Bind the configured addresses instead of connecting to them.
        config: Settings for the context, where one has to be made.

    Returns:
        An asynchronous generator of (name, address, topic, envelope); see
        `FedMsgContext.tail_messages`.

    Raises:
        RuntimeError: No event loop runs.
    """
    return _listening(config).tail_messages(topic, passive)


def subscribe(
    topic: str | Iterable[str] = "",
    *,
    after: int | str | None = None,
    since: float | str | None = None,
    last: int | None = None,
    durable: str | None = None,
    ack_mode: str = "auto",
    **config: Any,
) -> AsyncMessageStream:
    """Read the stream of a relay with a store, through a context that is made when there is none yet.

    ::

        async with fedmsg.aio.subscribe(since="2h", durable="mailer") as stream:
            async for message in stream:
                ...

    Args:
        topic: The beginning of the topics that are wanted, one or several; empty for all.
        after: Begin after a position, or a ``msg_id``; 0 or ``"first"`` is the first message that is kept.
        since: Begin with what was stored since then: seconds since the epoch, ISO 8601, or an age: ``2h``. What
            the relay no longer keeps comes from ``datagrepper_url``, if that is set.
        last: Begin with so many of the newest messages of these topics.
        durable: The name of a durable subscription, whose cursor the relay keeps.
        ack_mode: ``auto`` acknowledges a message when the next one is asked for; ``manual`` leaves it to the caller.
        config: Settings for the context, where one has to be made.

    Returns:
        An asynchronous context manager and iterator of messages; see `fedmsg.subscribe`.

    Raises:
        RuntimeError: No event loop runs.
    """
    return _listening(config).subscribe(topic, after=after, since=since, last=last, durable=durable, ack_mode=ack_mode)


async def destroy() -> None:
    """Close this loop's context, if it has one; a later call opens a fresh one."""
    context = _current()
    if context is not None:
        _forget(context)
        await context.destroy()


# ---------------------------------------------------------------- the context of a loop


def _current() -> FedMsgContext | None:
    """Return the context of the running loop, of which it is an attribute: so it ends with the loop."""
    try:
        return get_running_loop()._fedmsg_context  # type: ignore[attr-defined,no-any-return]
    except (AttributeError, RuntimeError):
        return None


def _make(config: dict[str, Any]) -> FedMsgContext:
    return FedMsgContext(**{**configuration.load_config(), **_inherited, **config})


def _keep(context: FedMsgContext) -> None:
    context.closes_by_itself()
    get_running_loop()._fedmsg_context = context  # type: ignore[attr-defined]


def _listening(config: dict[str, Any]) -> FedMsgContext:
    """Return the context of the running loop, which need not be open to listen."""
    get_running_loop()
    context = _current()
    if context is None:
        context = _make(config)
        _keep(context)
    return context


def _forget(context: FedMsgContext) -> None:
    if _current() is context:
        del get_running_loop()._fedmsg_context  # type: ignore[attr-defined]


async def _open(context: FedMsgContext) -> None:
    try:
        await context.close_with_loop()
        await context.open()
    except asyncio.CancelledError:
        raise  # it is opened all the same, for others may wait for it
    except BaseException:
        _forget(context)
        raise


# ---------------------------------------------------------------- forks

# Of a thread that forks: the context of the loop that it runs.
_forking = threading.local()


def _before_fork() -> None:
    _forking.context = _current()


def _in_child() -> None:
    if _forking.context is not None:
        _inherited.update(_forking.context.arguments)


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
