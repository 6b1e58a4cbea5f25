# SPDX-License-Identifier: LGPL-2.1-or-later
"""The context that an application publishes and listens through."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg import _confirmed, crypto, utils
from fedmsg.exceptions import ValidationError
from fedmsg.replay import gaps
from fedmsg.session import BaseContext, Hook, Session
from fedmsg.transport.zmq import contexts, sockets
from fedmsg.transport.zmq.source import Received, Source, tail

if TYPE_CHECKING:
    from fedmsg.stream.messages import MessageStream

__all__ = ["FedMsgContext", "ValidationError"]


class FedMsgContext(BaseContext):
    """A context on the bus: publishes under a name, and listens.

    What it sends through is opened at once and shared by the threads of a process; a child
    of ``fork`` opens its own on first use. Use it as a context manager, or call `destroy`.

    Args:
        config: The configuration, as keywords. A key that is missing has its default.
            ``name`` selects the ``endpoints`` to publish at, ``active`` to publish through a
            relay, ``mute`` not to publish at all.

    Attributes:
        c: The context's own copy of the configuration, with the resolved ``name``.
        hostname: The short name of this machine.
        rejections: How many received messages were rejected, by reason: ``rejections.counts``.
        gaps: What was missed by those that listen to services in ``replay_endpoints``:
            ``gaps["lost"]`` messages for good, see `fedmsg.replay.gaps.GapFiller`.

    Raises:
        MissingEndpoint: ``active``, and no address is configured for the relay. A KeyError.
        AddressInUse: All addresses of the name are taken by others. An IOError.
        ConfigError: The configuration can't work. A ValueError.
        RefusedAtStart: Signing is on and can't be done.
        StoreError: The ``persistent_store`` can't be used. An IOError.
    """

    def __init__(self, **config: Any) -> None:
        self._session = Session(config)
        self._session.open()

    # ---------------------------------------------------------------- opening and closing

    def destroy(self) -> None:
        """Close the context; bounded by ``zmq_linger``. A second call does nothing."""
        self._session.close()

    def __enter__(self) -> FedMsgContext:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    @property
    def context(self) -> sockets.Context:
        """The ZeroMQ context, one for the whole process."""
        self._session.follow_fork()
        return self._session.context

    # ---------------------------------------------------------------- publishing

    def publish(
        self,
        topic: str | None = None,
        msg: object = None,
        modname: str | None = None,
        pre_fire_hook: Hook | None = None,
        confirm: bool | None = None,
        **_config: Any,
    ) -> int | None:
        """Send a message; the arguments are not changed.

        Args:
            topic: What happened; the rest of the full topic is added.
            msg: The content: usually a dict, anything that becomes JSON.
            modname: The application; the caller's top-level module by default.
            pre_fire_hook: Called with the finished envelope just before it is sent.
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
        session = self._session
        if session.generation != contexts.generation:
            session.follow_fork()
        modname = modname or utils.guess_calling_module() or "fedmsg"
        if session.is_confirmed(confirm):
            return _confirmed.publish(session, topic, msg, modname, pre_fire_hook)
        publisher = session.publisher or session.plain_publisher()
        if publisher is None:
            raise session.why_silent()
        if session.writer is not None:
            session.publish_stored(topic, msg, modname, pre_fire_hook)
            return None
        number = session.number + 1
        frame, body = session.frames(number, topic, msg, modname, pre_fire_hook)
        publisher.send(frame, body)
        session.number = number
        return None

    def publish_many(self, messages: Iterable[Mapping[str, Any]], modname: str | None = None) -> Iterator[int]:
        """Send messages ahead of their confirms, up to ``publish_window``; the order is kept.

        Args:
            messages: For each message a dict with arguments of `publish`: ``topic``, ``msg``, ``modname``,
                ``pre_fire_hook``.
            modname: The application, where a message does not name one; the caller's top-level module by default.

        Returns:
            A generator of their positions, in order; it sends as it is read.

        Raises:
            NotConfirmed: There is no confirm within ``timeout``. Its ``unconfirmed`` has the envelopes of all
                that have none, for `republish`.
            RejectedByRelay: The relay has rejected a message; the same. A MessageError.
            MessageError: A receiver would have to reject a message. A ValueError.
        """
        self._session.follow_fork()
        modname = modname or utils.guess_calling_module() or "fedmsg"
        return _confirmed.publish_many(self._session, messages, modname)

    def republish(self, envelope: Mapping[str, Any]) -> int:
        """Send an envelope that was not confirmed once more, exactly as it is; what is stored already is not doubled.

        Returns:
            Its position in the stream of the relay.

        Raises:
            NotConfirmed: No relay has confirmed it within ``timeout``.
            RejectedByRelay: The relay has rejected it. A MessageError.
            MessageError: It is no envelope. A ValueError.
        """
        self._session.follow_fork()
        return _confirmed.republish(self._session, envelope)

    def send_message(self, topic: str | None = None, msg: object = None, modname: str | None = None) -> None:
        """Publish a message; the old name of `publish`."""
        warnings.warn(".send_message is deprecated. Use .publish", DeprecationWarning, stacklevel=2)
        self.publish(topic, msg, modname)

    # ---------------------------------------------------------------- listening

    def tail_messages(self, topic: str = "", passive: bool = False, **_config: Any) -> Iterator[Received]:
        """Listen to every address in ``endpoints``.

        Args:
            topic: The beginning of the topics that are wanted; empty for all.
            passive: Bind the addresses instead of connecting to them.

        Returns:
            A generator of (name, address, topic, envelope). Sockets are opened at its first
            ``next()`` and closed with it. Messages that are invalid are rejected: counted,
            logged now and then, and dropped.

        Raises:
            ConfigError: At the call: the configuration can't work.
            RefusedAtStart: At the call: checking is on and can't be done.
        """
        session = self._session
        endpoints, validate = session.listened_endpoints(), session.checker()
        replayed = session.replayed(endpoints)
        source = functools.partial(session.source, endpoints, topic, passive, replayed)
        if replayed:
            return self._tail_replayed(source, replayed, topic, validate)
        return tail(source, validate)

    def subscribe(
        self,
        topic: str | Iterable[str] = "",
        *,
        after: int | str | None = None,
        since: float | str | None = None,
        last: int | None = None,
        durable: str | None = None,
        ack_mode: str = "auto",
    ) -> MessageStream:
        """Read the stream of a relay with a store, history and live messages by one path.

        Args:
            topic: The beginning of the topics that are wanted, one or several; empty for all.
            after: Begin after a position, or a ``msg_id``; 0 or ``"first"`` is the first message that is kept.
            since: Begin with what was stored since then: seconds since the epoch, ISO 8601, or an age: ``2h``. What
                the relay no longer keeps comes from ``datagrepper_url``, if that is set.
            last: Begin with so many of the newest messages of these topics. Without any of these: new messages only.
            durable: The name of a durable subscription, whose cursor the relay keeps: the next reader of that name
                goes on there. Where to begin counts only when the name is new.
            ack_mode: ``auto`` acknowledges a message when the next one is asked for; with ``manual`` the caller
                does it with the ``ack()`` of the message.

        Returns:
            A context manager and iterator of messages, which are tuples as `tail_messages` yields them, with
            ``position`` (None for one of a datagrepper), ``stored`` and ``ack()``. It reconnects by itself, and
            goes on after its last message.

        Raises:
            UsageError: The arguments make no sense. A ValueError.
            ConfigError: ``relay_stream`` has no address. A ValueError.
            RefusedAtStart: Checking is on and can't be done.
        """
        session = self._session
        session.follow_fork()
        # Here: it takes a library of its own to load, and most programs only publish or listen.
        opened: MessageStream = utils.load_class("fedmsg.stream.messages:open_stream")(
            session.config, topic, session.checker(), self.rejections,
            after=after, since=since, last=last, durable=durable, ack_mode=ack_mode,
        )  # fmt: skip
        return opened

    def _tail_replayed(
        self, open_source: Callable[[], Source], replayed: set[str], topic: str, validate: crypto.Check | None
    ) -> Iterator[Received]:
        """Listen, and ask for what is missing of these services."""
        filler = gaps.GapFiller(self.c, replayed, validate=validate, rejections=self.rejections, counts=self.gaps)
        with contextlib.closing(tail(open_source, validate)) as messages:
            for received in messages:
                name, address, _, message = received
                if name not in replayed:
                    yield received
                    continue
                for envelope in filler.fill(name, message):
                    if envelope["topic"].startswith(topic):
                        yield name, address, envelope["topic"], envelope
