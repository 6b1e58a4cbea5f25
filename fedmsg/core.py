# SPDX-License-Identifier: LGPL-2.1-or-later
"""The context that an application publishes and listens through."""

from __future__ import annotations

import atexit
import contextlib
import functools
import getpass
import logging
import os
import socket
import sys
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from fedmsg import _wire, crypto, encoding, utils
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, MessageError, MissingEndpoint, NotListening, ValidationError
from fedmsg.replay import client, gaps, writer
from fedmsg.transport.zmq import addresses, contexts, curve, publisher, sockets
from fedmsg.transport.zmq.source import Received, Source, tail

__all__ = ["FedMsgContext", "ValidationError"]

Hook = Callable[[dict[str, Any]], object]

#: The configuration's name for the addresses that a relay takes messages at.
RELAY = "relay_inbound"

_live: weakref.WeakSet[FedMsgContext] = weakref.WeakSet()


class FedMsgContext:
    """One user of the bus: publishes under a name, and listens.

    What it sends through is opened at once and shared by the threads of a process; a child
    of ``fork`` opens its own on first use. Use it as a context manager, or call `destroy`.

    Args:
        config: The configuration, as keywords. A key that is missing has its default.
            ``name`` says whose ``endpoints`` to publish at, ``active`` to publish through a
            relay, ``mute`` not to publish at all.

    Attributes:
        c: The context's own copy of the configuration, with the resolved ``name``.
        hostname: The short name of this machine.
        log: Its logger.
        rejections: How many received messages were refused, by kind: ``rejections.counts``.
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
        self._prepare(config)
        self._start()

    @classmethod
    def unopened(cls, config: Mapping[str, Any]) -> FedMsgContext:
        """Make one that is not open yet, for who opens it elsewhere: its `_start` may block.

        Args:
            config: The configuration.
        """
        context = cls.__new__(cls)
        context._prepare(config)
        return context

    def _prepare(self, config: Mapping[str, Any]) -> None:
        """Do what only looks at the configuration, and at who is calling."""
        self.log = logging.getLogger("fedmsg")
        self.rejections = RejectionLog(self.log)
        self.gaps: Counter[str] = Counter()
        self.hostname = socket.gethostname().split(".", 1)[0]
        self.c = self._resolve(config)
        self._i = 0
        self._lost = 0
        self._outlet: publisher.Publisher | None = None
        self._closed = True  # until it is open
        self._generation = contexts.generation
        # A context that its thread closes at the end need not complain of being forgotten.
        self._kept = False
        self._writer: writer.Writer | None = None
        self._prefix = str(settings.get(self.c, "topic_prefix"))
        self._environment = str(settings.get(self.c, "environment"))
        self._max_size: int = settings.get(self.c, "max_message_size")
        self._topics: dict[tuple[str, str], tuple[str, bytes]] = {}

    def _start(self) -> None:
        """Read the keys and open the sockets."""
        self._user = _username()
        self._quoted_user = _wire.quoted(self._user)
        self._signer = self._open_signer()
        self._open()
        _live.add(self)

    def _resolve(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Our own copy of the configuration, with the name and its endpoints filled in."""
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

    def _open(self) -> None:
        self._generation = contexts.generation
        self._context = contexts.acquire(settings.get(self.c, "io_threads"))
        try:
            self._outlet = self._open_outlet()
            self._writer = self._open_writer()
        except BaseException:
            self._close_outlet()
            contexts.release(self._generation)
            raise
        self._closed = False
        if contexts.generation and "multiprocessing.util" in sys.modules:
            # A child of multiprocessing ends without running what atexit has registered.
            sys.modules["multiprocessing.util"].Finalize(None, _close_all, exitpriority=0)

    def _open_outlet(self) -> publisher.Publisher | None:
        config, name = self.c, self.c["name"]
        if config.get("mute") or not settings.get(config, "zmq_enabled"):
            return None
        if config.get("active"):
            relays = addresses.as_list(config.get(name))
            if not relays:
                raise MissingEndpoint("Could not find endpoint for fedmsg-relay. Try installing fedmsg-relay.")
            return publisher.open_connected(config, name, relays)
        if config["endpoints"].get(name):
            return publisher.open_bound(config, name, config["endpoints"][name])
        warnings.warn(f"fedmsg is not configured to send any zmq messages for name {name!r}", UserWarning, stacklevel=5)
        return None

    def _open_writer(self) -> writer.Writer | None:
        if self._outlet is None or not settings.get(self.c, "persistent_store"):
            return None
        return writer.open_writer(self.c, signed=self._signer is not None)

    def _open_signer(self) -> crypto.Signer | None:
        config = self.c
        if config.get("mute") or not settings.get(config, "sign_messages"):
            return None
        if not config.get("active") and not config["endpoints"].get(config["name"]):
            return None  # nothing will be sent
        return crypto.Signer.for_publisher(config, self.hostname)

    def destroy(self) -> None:
        """Close the context; bounded by ``zmq_linger``. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        _live.discard(self)
        if self._generation != contexts.generation:
            return  # its sockets belong to the process that forked this one
        if self._writer is not None:
            writer.close(self._writer)
            self._writer = None
        self._close_outlet()
        contexts.release(self._generation)

    def _close_outlet(self) -> None:
        if self._outlet is not None:
            publisher.close(self._outlet)
            self._lost = self._outlet.lost
            self._outlet = None

    def __enter__(self) -> FedMsgContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def __del__(self) -> None:
        if getattr(self, "_closed", True):
            return
        try:
            if not self._kept and self._generation == contexts.generation:
                warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
        finally:
            # The warning may be an error, and closing it not the less needed.
            self.destroy()

    @property
    def context(self) -> sockets.Context:
        """The ZeroMQ context, one for the whole contexts."""
        self._follow_fork()
        return self._context

    @property
    def publisher(self) -> sockets.Socket | None:
        """The socket that messages are published on; None where there is none."""
        self._follow_fork()
        return self._outlet.socket if self._outlet is not None else None

    @property
    def lost(self) -> int:
        """About how many messages may be lost, because a connection broke under them."""
        return self._outlet.lost if self._outlet is not None else self._lost

    def _follow_fork(self) -> None:
        """In a child of ``fork``, open what the child uses instead of its parent's."""
        if self._generation != contexts.generation and not self._closed:
            self._open()

    # ---------------------------------------------------------------- publishing

    def publish(
        self,
        topic: str | None = None,
        msg: object = None,
        modname: str | None = None,
        pre_fire_hook: Hook | None = None,
        **_config: Any,
    ) -> None:
        """Send a message; nothing given is changed.

        Args:
            topic: What happened; the rest of the full topic is added.
            msg: What there is to say of it: usually a dict, anything that becomes JSON.
            modname: The application; the caller's top-level module when not given.
            pre_fire_hook: Called with the finished envelope just before it is sent.

        Raises:
            NotListening: Publishing through a relay, and none listened within ``timeout``.
            MessageError: A receiver would have to refuse the message. A ValueError.
            TypeError: ``msg`` holds something that can't become JSON.
            ConfigError: This context has no address to publish at.
        """
        if self._generation != contexts.generation:
            self._follow_fork()
        if self._outlet is None:
            raise self._why_silent()
        modname = modname or utils.guess_calling_module() or "fedmsg"
        if self._writer is not None:
            self._publish_stored(topic, msg, modname, pre_fire_hook)
            return
        number = self._i + 1
        frame, body = self._frames(number, topic, msg, modname, pre_fire_hook)
        self._outlet.send(frame, body)
        self._i = number

    def _frames(
        self, number: int, topic: str | None, msg: object, modname: str, pre_fire_hook: Hook | None
    ) -> tuple[bytes, bytes]:
        """Make the two frames of a message that is counted as ``number``."""
        name, frame = self._topics.get((modname, topic or ""), _NOT_CACHED)
        if not frame:
            name, frame = self._make_topic(modname, topic)
        now = time.time()
        if pre_fire_hook is not None:
            body = self._encode_hooked(number, now, name, msg, pre_fire_hook)
        elif self._signer is not None:
            body = _wire.encode_signed(
                i=number,
                msg=msg or {},
                msg_id=_wire.message_id(now),
                timestamp=int(now),
                topic=name,
                username=self._quoted_user,
                crypto=self._signer.form,
                sign=self._signer.credentials,
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
        _wire.check_size(len(frame) + len(body), self._max_size)
        return frame, body

    def _make_topic(self, modname: str, topic: str | None) -> tuple[str, bytes]:
        name = _wire.full_topic(self._prefix, self._environment, modname, topic or "unspecified")
        try:
            made = name, name.encode()
        except UnicodeEncodeError as error:
            raise MessageError(f"the topic {name!r} can't be written in UTF-8", "utf-8") from error
        _wire.check_topic(made[1])
        # An application that makes topics up as it goes must not fill memory with them.
        if len(self._topics) >= _TOPICS_KEPT:
            self._topics.clear()
        self._topics[modname, topic or ""] = made
        return made

    def _new_envelope(self, number: int, now: float, topic: str, msg: object) -> dict[str, Any]:
        return {
            "i": number,
            "msg": msg or {},
            "msg_id": _wire.message_id(now),
            "timestamp": int(now),
            "topic": topic,
            "username": self._user,
        }

    def _encode_hooked(self, number: int, now: float, topic: str, msg: object, hook: Hook) -> bytes:
        return _wire.encode(self._finished(self._new_envelope(number, now, topic, msg), hook), topic)

    def _finished(self, envelope: dict[str, Any], hook: Hook | None) -> dict[str, Any]:
        """Sign an envelope and show it to the hook; what that has changed is signed again."""
        if self._signer is None:
            if hook is not None:
                hook(envelope)
            return envelope
        envelope = self._signer.sign(envelope)
        if hook is None:
            return envelope
        signed = encoding.dumps(crypto.strip_credentials(envelope))
        hook(envelope)
        if encoding.dumps(crypto.strip_credentials(envelope)) != signed:
            envelope = self._signer.sign(envelope)
        return envelope

    def _publish_stored(self, topic: str | None, msg: object, modname: str, hook: Hook | None) -> None:
        """Number a message, store it, and send it when it is stored."""
        assert self._outlet is not None
        assert self._writer is not None
        outlet, body = self._outlet, b""
        name, frame = self._make_topic(modname, topic)
        envelope = self._new_envelope(self._i + 1, time.time(), name, msg)

        def finish(numbered: dict[str, Any]) -> dict[str, Any]:
            nonlocal body
            # Counted only now: a signal handler may have published in the meantime.
            finished = self._finished({**numbered, "i": self._i + 1}, hook)
            body = _wire.encode(finished, name)
            _wire.check_size(len(frame) + len(body), self._max_size)
            return finished

        def send() -> None:
            self._i += 1
            try:
                outlet.send(frame, body)
            except NotListening as error:
                # It has its number, so that whoever listens next finds it missing and asks for it.
                self.log.warning("%s; but it is stored, for those who ask for it", error)

        # Where nobody listens, nothing is to be stored either.
        outlet.wait(frame)
        self._writer.publish(envelope, finish, send)

    def _why_silent(self) -> Exception:
        if self._closed:
            return ConfigError("this context is closed; open another one to publish")
        if not settings.get(self.c, "zmq_enabled"):
            return AttributeError("Unable to publish non-zeromq msg without moksha-hub initialization.")
        name = self.c["name"]
        if self.c.get("mute"):
            return ConfigError("this context is mute: it was opened with mute=True, which is for listening only")
        return ConfigError(
            f"no address to publish at: set endpoints[{name!r}] in the configuration, "
            "or publish through a relay with active=True"
        )

    def send_message(self, topic: str | None = None, msg: object = None, modname: str | None = None) -> None:
        """The old name of `publish`."""
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
        endpoints, validate = self._endpoints(), self._checker()
        replayed = self._replayed(endpoints)
        source = functools.partial(self._source, endpoints, topic, passive, replayed)
        if replayed:
            return self._tail_replayed(source, replayed, topic, validate)
        return tail(source, validate)

    def _endpoints(self) -> list[tuple[str, str]]:
        """Return the names and addresses that are listened to, checked."""
        if not settings.get(self.c, "zmq_enabled"):
            raise ConfigError("zmq_enabled is false: there is nothing to listen to")
        endpoints = [
            (name, addresses.check(address, f"endpoints[{name!r}]"))
            for name, several in self.c["endpoints"].items()
            for address in addresses.as_list(several)
        ]
        curve.prepare(self.c, self.c["endpoints"])
        return endpoints

    def _checker(self) -> crypto.Check | None:
        """Return what checks messages; None where they are not checked."""
        return crypto.checker(self.c) if settings.get(self.c, "validate_signatures") else None

    def _replayed(self, endpoints: list[tuple[str, str]]) -> set[str]:
        """Return the names with a replay server: all their messages are received, to know which are missing."""
        replayed = {name for name, _ in endpoints if name in (settings.get(self.c, "replay_endpoints") or {})}
        for name in replayed:
            client.address_of(name, self.c)
        return replayed

    def _source(self, endpoints: list[tuple[str, str]], topic: str, passive: bool, whole: set[str]) -> Source:
        return Source(self.c, endpoints, [topic], whole=whole, passive=passive, rejections=self.rejections)

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


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # Containers run under numbers that have no name.
        return str(os.getuid())


_TOPICS_KEPT = 1000
_NOT_CACHED = ("", b"")


def _close_all() -> None:
    for context in list(_live):
        context.destroy()


atexit.register(_close_all)
