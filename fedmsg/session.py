# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the contexts of `fedmsg.core` and `fedmsg.aio` share: configuration, envelopes, signing, lifetimes.

A context is a thin driver over one `Session`: the one waits in the thread that calls it, the other in
an event loop.
"""

from __future__ import annotations

import atexit
import getpass
import logging
import os
import socket
import sys
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg import _wire, crypto, encoding, utils
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, MessageError, NotListening
from fedmsg.replay import client, writer
from fedmsg.transport import choice
from fedmsg.transport.zmq import addresses, contexts, curve, publisher
from fedmsg.transport.zmq.sink import RELAY, open_sink
from fedmsg.transport.zmq.sockets import Context, Socket

if TYPE_CHECKING:
    from fedmsg.transport.base import ConfirmingSink
    from fedmsg.transport.zmq.source import Source

__all__ = ["BaseContext", "Hook", "Session"]

Hook = Callable[[dict[str, Any]], object]

_TOPICS_CACHED = 1000
_NOT_CACHED = ("", b"")

_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


class Session:
    """A session on the bus: it publishes and listens. Making one does not block; `open`, which comes next, may.

    Attributes:
        number: How many messages it has sent.
        generation: The ``contexts.generation`` that it was opened under.
        confirmed: What it publishes confirmed messages through; opened by the first of them.
        transport: Its transport.
        confirms: Whether messages are confirmed where a call leaves it open: ``publish_confirm``, or the transport
            confirms all of them.
        writer: What stores its messages; None where they are not stored.
        signer: What signs them; None where they are not signed.
        closed: Whether it is closed, or not open yet.
        closes_by_itself: Whether it needs no `close`, and so no warning: it is closed at the end of its thread.
    """

    context: Context

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.log = logging.getLogger("fedmsg")
        self.rejections = RejectionLog(self.log)
        self.gaps: Counter[str] = Counter()
        self.hostname = socket.gethostname().split(".", 1)[0]
        self.config = self._resolve(config)
        self.number = 0
        self.publisher: publisher.Publisher | None = None
        self.confirmed: ConfirmingSink | None = None
        # Threads of asyncio may be at it at once; re-entrant for signal handlers.
        self._opening = threading.RLock()
        self.writer: writer.Writer | None = None
        self.signer: crypto.Signer | None = None
        self.closed = True
        self.closes_by_itself = False
        self.generation = contexts.generation
        self._lost = 0
        self._prefix = str(settings.get(self.config, "topic_prefix"))
        self._environment = str(settings.get(self.config, "environment"))
        self._max_size: int = settings.get(self.config, "max_message_size")
        self.transport = choice.of(self.config)
        self.confirms = self.transport.confirms or bool(settings.get(self.config, "publish_confirm"))
        self._topics: dict[tuple[str, str], tuple[str, bytes]] = {}

    def _resolve(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return our own copy of the configuration, with the name and its endpoints filled in."""
        own = settings.accept(config)
        own["endpoints"] = endpoints = dict(settings.get(own, "endpoints") or {})
        if own.get("active"):
            own["name"] = own.get("name") or RELAY
        elif not own.get("name"):
            name = f"{utils.guess_calling_module(default='fedmsg')}.{self.hostname}"
            own["name"] = None if name.startswith("fedmsg") else name
        if own["name"] in endpoints:
            endpoints[own["name"]] = addresses.as_list(endpoints[own["name"]])
        return own

    # ---------------------------------------------------------------- opening and closing

    def open(self) -> None:
        """Read the keys and open the sockets.

        Raises:
            MissingEndpoint: ``active``, and no address is configured for the relay. A KeyError.
            AddressInUse: All addresses of the name are taken by others. An IOError.
            ConfigError: The configuration can't work. A ValueError.
            RefusedAtStart: Signing is on and can't be done.
            StoreError: The ``persistent_store`` can't be used. An IOError.
        """
        self._user = _username()
        self._quoted_user = _wire.quoted(self._user)
        self.signer = self._open_signer()
        self._open_sockets()
        _open_sessions.add(self)

    def _open_sockets(self) -> None:
        self.generation = contexts.generation
        self.context = contexts.acquire(settings.get(self.config, "io_threads"))
        try:
            # What is confirmed goes to a relay, and needs no address of its own.
            self.publisher = None if self.confirms else open_sink(self.config)
            self.writer = self._open_writer()
        except BaseException:
            self._close_publisher()
            contexts.release(self.generation)
            raise
        self.closed = False
        if contexts.generation and "multiprocessing.util" in sys.modules:
            # A child of multiprocessing ends without running what atexit has registered.
            sys.modules["multiprocessing.util"].Finalize(None, _close_all, exitpriority=0)

    def _open_writer(self) -> writer.Writer | None:
        if (self.publisher is None and not self.confirms) or not settings.get(self.config, "persistent_store"):
            return None
        return writer.open_writer(self.config, signed=self.signer is not None)

    def _open_signer(self, *, confirmed: bool = False) -> crypto.Signer | None:
        config = self.config
        if config.get("mute") or not settings.get(config, "sign_messages"):
            return None
        goes_to_relay = confirmed or self.confirms or config.get("active")
        if not goes_to_relay and not config["endpoints"].get(config["name"]):
            return None  # nothing will be sent
        return crypto.Signer.for_publisher(config, self.hostname)

    def close(self) -> None:
        """Close it; bounded by ``zmq_linger``. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        _open_sessions.discard(self)
        if self.generation != contexts.generation:
            return  # its sockets belong to the process that forked this one
        if self.writer is not None:
            writer.close(self.writer)
            self.writer = None
        self._close_publisher()
        contexts.release(self.generation)

    def _close_publisher(self) -> None:
        if self.confirmed is not None:
            confirmed, self.confirmed = self.confirmed, None
            confirmed.release()
        if self.publisher is not None:
            publisher.close(self.publisher)
            self._lost = self.publisher.lost
            self.publisher = None

    def __del__(self) -> None:
        if getattr(self, "closed", True):
            return
        try:
            if not self.closes_by_itself and self.generation == contexts.generation:
                warnings.warn("unclosed FedMsgContext", ResourceWarning, source=self, stacklevel=2)
        finally:
            # The warning may be an error, and what is held has to be closed all the same.
            self.close()

    @property
    def lost(self) -> int:
        """About how many messages may be lost, because a connection broke under them."""
        return self.publisher.lost if self.publisher is not None else self._lost

    def follow_fork(self) -> None:
        """Open sockets of its own in a child of ``fork``, instead of using those of the parent."""
        if self.generation != contexts.generation and not self.closed:
            self.confirmed = None
            self._opening = threading.RLock()
            self._open_sockets()

    # ---------------------------------------------------------------- publishing

    def is_confirmed(self, confirm: bool | None) -> bool:
        """Return whether a message is confirmed, where a call says ``confirm``."""
        return self.confirms if confirm is None or self.transport.confirms else confirm

    def plain_publisher(self) -> publisher.Publisher | None:
        """Return what messages are published through that are not confirmed."""
        if self.publisher is None and not self.closed and self.confirms:
            self.publisher = open_sink(self.config)
        return self.publisher

    def confirmed_sink(self) -> ConfirmingSink:
        """Return what confirmed messages are published through; the first call opens it.

        Raises:
            MissingEndpoint: No address is configured for the relay. A KeyError.
            ConfigError: The context is closed or mute, or something is no address.
            RefusedAtStart: Signing is on and can't be done, or a key for CURVE can't be read.
        """
        if self.closed or self.config.get("mute") or self.transport.is_off:
            raise self.why_silent()
        with self._opening:
            if self.confirmed is None:
                if self.signer is None:
                    self.signer = self._open_signer(confirmed=True)
                # Here: few programs need it.
                self.confirmed = self.transport.load("confirmed")(self.config)
            return self.confirmed

    def frames(
        self, number: int, topic: str | None, msg: object, modname: str, pre_fire_hook: Hook | None
    ) -> tuple[bytes, bytes]:
        """Return the two frames of a message: its topic and its envelope.

        Raises:
            MessageError: A receiver would have to reject it.
        """
        name, frame = self._topics.get((modname, topic or ""), _NOT_CACHED)
        if not frame:
            name, frame = self.topic_and_frame(modname, topic)
        now = time.time()
        if pre_fire_hook is not None:
            body = _wire.encode(self.finished(self.new_envelope(number, now, name, msg), pre_fire_hook), name)
        elif self.signer is not None:
            body = _wire.encode_signed(
                i=number,
                msg=msg or {},
                msg_id=_wire.message_id(now),
                timestamp=int(now),
                topic=name,
                username=self._quoted_user,
                crypto=self.signer.form,
                sign=self.signer.credentials,
            )
        else:
            body = _wire.encode_new(
                i=number,
                msg=msg or {},
                msg_id=_wire.message_id(now),
                timestamp=int(now),
                topic=name,
                username=self._quoted_user,
            )
        if len(frame) + len(body) > self._max_size:
            _wire.check_size(len(frame) + len(body), self._max_size)
        return frame, body

    def topic_and_frame(self, modname: str, topic: str | None) -> tuple[str, bytes]:
        """Return a full topic as text and as a frame.

        Raises:
            MessageError: It can't be written in UTF-8, or is too long.
        """
        name = _wire.full_topic(self._prefix, self._environment, modname, topic or "unspecified")
        try:
            made = name, name.encode()
        except UnicodeEncodeError as error:
            raise MessageError(f"the topic {name!r} can't be written in UTF-8", "utf-8") from error
        _wire.check_topic(made[1])
        # An application that makes topics up as it goes must not fill memory with them.
        if len(self._topics) >= _TOPICS_CACHED:
            self._topics.clear()
        self._topics[modname, topic or ""] = made
        return made

    def new_envelope(self, number: int, now: float, topic: str, msg: object) -> dict[str, Any]:
        """Return an envelope without signature."""
        return {
            "i": number,
            "msg": msg or {},
            "msg_id": _wire.message_id(now),
            "timestamp": int(now),
            "topic": topic,
            "username": self._user,
        }

    def finished(self, envelope: dict[str, Any], hook: Hook | None) -> dict[str, Any]:
        """Sign an envelope and call the hook with it; what the hook has changed is signed again."""
        if self.signer is None:
            if hook is not None:
                hook(envelope)
            return envelope
        envelope = self.signer.sign(envelope)
        if hook is None:
            return envelope
        signed = encoding.dumps(crypto.strip_credentials(envelope))
        hook(envelope)
        if encoding.dumps(crypto.strip_credentials(envelope)) != signed:
            envelope = self.signer.sign(envelope)
        return envelope

    def publish_stored(
        self,
        topic: str | None,
        msg: object,
        modname: str,
        hook: Hook | None,
        deliver: Callable[[bytes, bytes], object] | None = None,
    ) -> None:
        """Number a message, store it, and send it when it is stored.

        Args:
            topic: What happened.
            msg: The content.
            modname: The application.
            hook: Called with the finished envelope.
            deliver: Sends the two frames; by default to all who subscribe to the publisher.
        """
        assert self.writer is not None
        publisher_, body = self.publisher, b""
        name, frame = self.topic_and_frame(modname, topic)
        envelope = self.new_envelope(self.number + 1, time.time(), name, msg)

        def finish(numbered: dict[str, Any]) -> dict[str, Any]:
            nonlocal body
            # Counted only now: a signal handler may have published in the meantime.
            finished = self.finished({**numbered, "i": self.number + 1}, hook)
            body = _wire.encode(finished, name)
            _wire.check_size(len(frame) + len(body), self._max_size)
            return finished

        def send() -> None:
            self.number += 1
            if deliver is not None:
                deliver(frame, body)
                return
            assert publisher_ is not None
            try:
                publisher_.send(frame, body)
            except NotListening as error:
                # It has its number, so that a later subscriber finds it missing and asks for it.
                self.log.warning("%s; but it is stored, and can be asked for", error)

        if deliver is None:
            # Without a subscriber nothing is to be stored either.
            assert publisher_ is not None
            publisher_.wait(frame)
        self.writer.publish(envelope, finish, send)

    def why_silent(self) -> Exception:
        """Return the error of publishing without a publisher."""
        if self.closed:
            return ConfigError("this context is closed; open another one to publish")
        if self.transport.is_off:
            return AttributeError("Unable to publish non-zeromq msg without moksha-hub initialization.")
        name = self.config["name"]
        if self.config.get("mute"):
            return ConfigError("this context is mute: it was opened with mute=True, which is for listening only")
        return ConfigError(
            f"no address to publish at: set endpoints[{name!r}] in the configuration, "
            "or publish through a relay with active=True"
        )

    # ---------------------------------------------------------------- listening

    def listened_endpoints(self) -> list[tuple[str, str]]:
        """Return the names and addresses to listen to.

        Raises:
            ConfigError: There is nothing to listen to, or something is no address.
            RefusedAtStart: A key for CURVE can't be read.
        """
        if self.transport.is_off:
            raise ConfigError("zmq_enabled is false: there is nothing to listen to")
        if self.transport.endpoint:
            return []
        endpoints = addresses.listed(self.config["endpoints"])
        curve.prepare(self.config, self.config["endpoints"])
        return endpoints

    def checker(self) -> crypto.Check | None:
        """Return what checks whether a message is valid; None where messages are not checked."""
        return crypto.checker(self.config) if settings.get(self.config, "validate_signatures") else None

    def replayed(self, endpoints: list[tuple[str, str]]) -> set[str]:
        """Return the names whose missing messages are asked for: each of their messages has to be seen.

        Raises:
            ConfigError: An address to ask at is none.
        """
        replayed = {name for name, _ in endpoints if name in (settings.get(self.config, "replay_endpoints") or {})}
        for name in replayed:
            client.address_of(name, self.config)
        return replayed

    def source(self, endpoints: list[tuple[str, str]], topic: str, passive: bool, whole: set[str]) -> Source:
        """Open what messages are received through."""
        opened: Source = self.transport.load("source")(
            self.config, endpoints, [topic], whole=whole, passive=passive, rejections=self.rejections
        )
        return opened


class BaseContext:
    """What the contexts of `fedmsg.core` and `fedmsg.aio` show of their session."""

    _session: Session

    @property
    def c(self) -> dict[str, Any]:
        """The context's own copy of the configuration, with the resolved ``name``."""
        return self._session.config

    @property
    def hostname(self) -> str:
        """The short name of this machine."""
        return self._session.hostname

    @property
    def log(self) -> logging.Logger:
        """Its logger."""
        return self._session.log

    @property
    def rejections(self) -> RejectionLog:
        """How many received messages were rejected, by reason: ``rejections.counts``."""
        return self._session.rejections

    @property
    def gaps(self) -> Counter[str]:
        """What was missed of services in ``replay_endpoints``, see `fedmsg.replay.gaps.GapFiller`."""
        return self._session.gaps

    @property
    def publisher(self) -> Socket | None:
        """The socket that messages are published on; None where there is none."""
        self._session.follow_fork()
        publisher_ = self._session.publisher
        return publisher_.socket if publisher_ is not None else None

    @property
    def lost(self) -> int:
        """About how many messages may be lost, because a connection broke under them."""
        return self._session.lost

    @property
    def _i(self) -> int:
        return self._session.number

    def closes_by_itself(self) -> None:
        """Disable the warning about an unclosed context: it is closed at the end of its thread or loop."""
        self._session.closes_by_itself = True


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # Containers run under numbers that have no name.
        return str(os.getuid())


def _close_all() -> None:
    for session in list(_open_sessions):
        session.close()


atexit.register(_close_all)
