# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message bus: `publish` what happened, `tail_messages` what others publish.

::

    import fedmsg

    fedmsg.publish(topic="update", modname="bodhi", msg={"title": "nethack-3.7"})

    for name, endpoint, topic, msg in fedmsg.tail_messages(mute=True):
        print(topic, msg["msg"])

The functions here keep a `fedmsg.core.FedMsgContext` for each thread. The arguments of `init` in one
thread hold for all threads that call it without any.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fedmsg import aio, config, core, encoding, exceptions, meta, utils  # noqa: F401 - what __getattr__ finds
    from fedmsg.stream.messages import MessageStream
    from fedmsg.transport.zmq.source import Received

__all__ = ["destroy", "init", "publish", "publish_many", "republish", "subscribe", "tail_messages"]

#: What belongs to one thread; its ``__context`` is the context in use.
__local = threading.local()
# The last arguments, and the configuration that they belong to: one that is loaded afresh begins afresh.
_last: tuple[object, dict[str, Any]] = (None, {})


def init(**config: Any) -> core.FedMsgContext:
    """Load the configuration, apply the arguments, and open this thread's context.

    Args:
        config: Settings that win over the configuration files. Without any, those of another thread
            hold.

    Raises:
        ValueError: The thread has a context already; `destroy` it first.
    """
    if getattr(__local, "__context", None) is not None:
        raise ValueError("fedmsg already initialized")
    return _open(config, add=not config)


def _open(config: dict[str, Any], *, add: bool) -> core.FedMsgContext:
    """Open this thread's context with settings that win over the files; ``add`` keeps the last arguments too."""
    global _last
    loaded = _submodule("config").load_config()
    before, last = _last
    if add and before is loaded:
        config = {**last, **config}
    context: core.FedMsgContext = _submodule("core").FedMsgContext(**{**loaded, **config})
    context.closes_by_itself()
    __local.__context = context
    # Not to publish is a wish for one context, which may only listen.
    _last = (loaded, {key: value for key, value in config.items() if key != "mute"})
    return context


def publish(
    topic: str | None = None,
    msg: object = None,
    modname: str | None = None,
    pre_fire_hook: Callable[[dict[str, Any]], object] | None = None,
    confirm: bool | None = None,
    **config: Any,
) -> int | None:
    """Send a message, through a context that is opened when there is none yet.

    Args:
        topic: What happened.
        msg: The content.
        modname: The application; the caller's top-level module by default.
        pre_fire_hook: Called with the finished envelope just before it is sent.
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
    context = getattr(__local, "__context", None)
    if context is None:
        context = _open(config, add=True)
    # A context that a test has put in its place need not know of confirms.
    if confirm is None:
        position: int | None = context.publish(topic, msg, modname, pre_fire_hook)
    else:
        position = context.publish(topic, msg, modname, pre_fire_hook, confirm)
    return position


def publish_many(messages: Iterable[Mapping[str, Any]], modname: str | None = None, **config: Any) -> Iterator[int]:
    """Send messages ahead of their confirms, up to ``publish_window`` of them; the order is kept.

    Args:
        messages: For each message a dict with arguments of `publish`.
        modname: The application, where a message does not name one; the caller's top-level module by default.
        config: Settings for the context, where one has to be opened.

    Returns:
        A generator of their positions, in order; it sends as it is read.

    Raises:
        NotConfirmed: There is no confirm within ``timeout``; its ``unconfirmed`` has all that have none.
        RejectedByRelay: The relay has rejected a message; the same.
    """
    context = getattr(__local, "__context", None)
    if context is None:
        context = _open(config, add=True)
    positions: Iterator[int] = context.publish_many(messages, modname)
    return positions


def republish(envelope: Mapping[str, Any], **config: Any) -> int:
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
    context = getattr(__local, "__context", None)
    if context is None:
        context = _open(config, add=True)
    position: int = context.republish(envelope)
    return position


def subscribe(
    topic: str | Iterable[str] = "",
    *,
    after: int | str | None = None,
    since: float | str | None = None,
    last: int | None = None,
    durable: str | None = None,
    ack_mode: str = "auto",
    **config: Any,
) -> MessageStream:
    """Read the stream of a relay with a store, history and live messages by one path.

    Args:
        topic: The beginning of the topics that are wanted, one or several; empty for all.
        after: Begin after a position, or a ``msg_id``; 0 or ``"first"`` is the first message that is kept.
        since: Begin with what was stored since then: seconds since the epoch, ISO 8601, or an age: ``2h``.
        last: Begin with so many of the newest messages of these topics. Without any of these: new messages only.
        durable: The name of a durable subscription, whose cursor the relay keeps.
        ack_mode: ``auto`` acknowledges a message when the next one is asked for, ``manual`` leaves it to the caller.
        config: Settings for the context, where one has to be opened.

    Returns:
        A context manager and iterator of messages, see `fedmsg.core.FedMsgContext.subscribe`.

    Raises:
        UsageError: The arguments make no sense. A ValueError.
        ConfigError: ``relay_stream`` has no address. A ValueError.
    """
    context = getattr(__local, "__context", None)
    if context is None:
        context = _open({"mute": True, **config}, add=True)
    opened: MessageStream = context.subscribe(
        topic, after=after, since=since, last=last, durable=durable, ack_mode=ack_mode
    )
    return opened


def tail_messages(topic: str = "", passive: bool = False, **config: Any) -> Iterator[Received]:
    """Listen, through a context that is opened when there is none yet.

    Args:
        topic: The beginning of the topics that are wanted; empty for all.
        passive: Bind the configured addresses instead of connecting to them.
        config: Settings for the context, where one has to be opened.

    Returns:
        A generator of (name, address, topic, envelope).
    """
    context = getattr(__local, "__context", None)
    if context is None:
        context = _open(config, add=True)
    received: Iterator[Received] = context.tail_messages(topic, passive)
    return received


def destroy() -> None:
    """Close this thread's context, if it has one; a later call opens a fresh one."""
    context = getattr(__local, "__context", None)
    if context is not None:
        __local.__context = None
        context.destroy()


# `import fedmsg` is in every application: what it does not use yet is loaded at the first touch.
_SUBMODULES = frozenset({"aio", "config", "core", "crypto", "encoding", "exceptions", "meta", "utils"})


def _submodule(name: str) -> Any:
    return importlib.import_module(f"fedmsg.{name}")


if TYPE_CHECKING:
    # For type checkers, which then know a misspelt name.
    send_message = publish
else:

    def __getattr__(name: str) -> Any:
        if name == "send_message":
            # The very same function under its old name, and a word about it.
            warnings.warn("fedmsg.send_message is deprecated, use fedmsg.publish", DeprecationWarning, stacklevel=2)
            return publish
        if name in _SUBMODULES:
            return _submodule(name)
        raise AttributeError(f"module 'fedmsg' has no attribute {name!r}")
