# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing with a confirm, for the contexts of `fedmsg.core` and `fedmsg.aio`: one message, many, or one again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg import _wire, utils
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.session import Hook, Session

if TYPE_CHECKING:
    from fedmsg.stream.publishing import Window

__all__ = ["arguments", "envelope_frames", "open_window", "publish", "publish_many", "push", "republish"]

# What one of many messages may say about itself: the arguments of ``publish``.
_ARGUMENTS = frozenset({"topic", "msg", "modname", "pre_fire_hook"})


def publish(session: Session, topic: str | None, msg: object, modname: str, hook: Hook | None) -> int | None:
    """Send a message, and return its position when it is confirmed; None where the transport has none.

    Raises:
        NotConfirmed: There is no confirm within ``timeout``.
        RejectedByRelay: The relay has rejected it.
        MessageError: A receiver would have to reject the message. A ValueError.
    """
    sink, timeout = session.confirmed_sink(), float(settings.get(session.config, "timeout"))
    position: int | None = None

    def deliver(frame: bytes, body: bytes) -> None:
        nonlocal position
        position = sink.send(frame, body, timeout=timeout)
        if not session.transport.has_positions:
            position = None

    if session.writer is not None:
        session.publish_stored(topic, msg, modname, hook, deliver)
        return position
    # Whether or not it is confirmed, the number is taken: the message may have been stored.
    session.number += 1
    deliver(*session.frames(session.number, topic, msg, modname, hook))
    return position


def republish(session: Session, envelope: Mapping[str, Any]) -> int:
    """Send an envelope once more, exactly as it is; return its position.

    Raises:
        NotConfirmed: There is no confirm within ``timeout``.
        RejectedByRelay: The relay has rejected it.
        MessageError: It is no envelope. A ValueError.
    """
    sink = session.confirmed_sink()
    frame, body = envelope_frames(session, envelope)
    return sink.send(frame, body, timeout=float(settings.get(session.config, "timeout")), again=True)


def envelope_frames(session: Session, envelope: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return the two frames of an envelope that was published before.

    Raises:
        MessageError: It is no envelope. A ValueError.
    """
    if not isinstance(envelope, Mapping):
        raise MessageError(f"an envelope is a dict, not {type(envelope).__name__}", "envelope")
    topic = envelope.get("topic")
    if not isinstance(topic, str):
        raise MessageError("its 'topic' is not text", "topic")
    frame, body = topic.encode(), _wire.encode(envelope, topic)
    _wire.check_topic(frame)
    _wire.check_size(len(frame) + len(body), settings.get(session.config, "max_message_size"))
    return frame, body


@contextlib.contextmanager
def open_window(session: Session) -> Iterator[Window]:
    """Open what sends messages ahead of their confirms, as many as ``publish_window`` allows."""
    sink = session.confirmed_sink()
    window: Window = utils.load_class("fedmsg.stream.publishing:Window")(
        sink, settings.get(session.config, "publish_window"), float(settings.get(session.config, "timeout"))
    )
    with window:
        yield window


def publish_many(session: Session, messages: Iterable[Mapping[str, Any]], modname: str) -> Iterator[int]:
    """Send messages ahead of their confirms; yield their positions, in order.

    Args:
        session: The session.
        messages: For each message a dict with arguments of ``publish``.
        modname: The application, where a message does not name one.

    Raises:
        NotConfirmed: There is no confirm within ``timeout``; its ``unconfirmed`` has all that have none.
        RejectedByRelay: The relay has rejected a message; the same.
        MessageError: A receiver would have to reject a message. A ValueError.
        TypeError: A message has an argument that ``publish`` does not have.
    """
    with open_window(session) as window:
        try:
            for message in messages:
                topic, msg, named, hook = arguments(message, modname)
                yield from push(session, window, topic, msg, modname=named, hook=hook)
        except Exception:
            # What came before is to be confirmed all the same; after an error of the relay nothing is left.
            yield from window.finish()
            raise
        yield from window.finish()


def arguments(message: Mapping[str, Any], modname: str) -> tuple[str | None, object, str, Hook | None]:
    """Return topic, content, application and hook of one of many messages.

    Raises:
        TypeError: It is no dict, or has an argument that ``publish`` does not have.
    """
    if not isinstance(message, Mapping):
        raise TypeError(f"publish_many: a message is a dict with arguments of publish, not {type(message).__name__}")
    if unknown := message.keys() - _ARGUMENTS:
        raise TypeError(f"publish_many: a message has no {', '.join(sorted(map(str, unknown)))}")
    return message.get("topic"), message.get("msg"), message.get("modname") or modname, message.get("pre_fire_hook")


def push(
    session: Session, window: Window, topic: str | None, msg: object, *, modname: str, hook: Hook | None
) -> Iterator[int]:
    """Send a message ahead of its confirm; yield the positions that are known by now.

    Raises:
        NotConfirmed: There is no confirm within ``timeout``; its ``unconfirmed`` has all that have none.
        RejectedByRelay: The relay has rejected a message; the same.
        MessageError: A receiver would have to reject this one. A ValueError.
    """
    session.number += 1
    yield from window.send(*session.frames(session.number, topic, msg, modname, hook))
