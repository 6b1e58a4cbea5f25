# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server that gives out stored messages to those who missed them.

To those who ask it is a REP socket. Inside it is a ROUTER: a REP that owes an answer to
one who has gone, or who does not read, would keep everybody else waiting.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any

import zmq

from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError, FedmsgError, QueryError
from fedmsg.replay import protocol, writer
from fedmsg.replay.client import address_of
from fedmsg.transport.zmq import addresses, contexts, sockets

__all__ = ["ReplayContext"]

log = logging.getLogger("fedmsg.replay")

# How long one turn waits for a question, in seconds.
_TURN = 1.0
# The frames before a question: who asks, perhaps an id, and an empty one. Nobody needs more than a few.
_MOST_FRAMES = 16
# Answers that have not been taken yet may have so many times the size of one in all.
_ANSWERS_KEPT = 8
# Seconds between two lines in the log about the same kind of trouble.
_SELDOM = 10.0


class ReplayContext:
    """Answers questions for stored messages at ``replay_endpoints[name]``.

    Use it as a context manager, or call `close`.

    Args:
        config: The configuration, as keywords: ``name``, ``persistent_store``,
            ``replay_endpoints``, ``replay_max``, ``replay_max_bytes``.

    Attributes:
        config: The configuration.
        store: The store: anything with ``add`` and ``get``.
        hostname: The short name of this machine.
        context: The ZeroMQ context of the contexts.
        publisher: The socket that questions come in at.
        counts: ``answered`` and ``messages`` that were given out; ``refused`` questions that got
            an error; ``malformed`` ones that could not be answered at all, ``dropped`` answers
            whose asker had gone or did not read.
        address: What was bound.

    Raises:
        ConfigError: There is no store that could be asked. A ValueError.
        MissingReplayEndpoint: No address is configured for the name. A KeyError.
        AddressInUse: Somebody else has the address. An IOError.
        StoreError: The database can't be used. An IOError.
    """

    def __init__(self, **config: Any) -> None:
        self._closed = True
        self.config = config = settings.accept(config)
        if not settings.get(config, "persistent_store"):
            raise ConfigError("No valid persistent_store config value found.")
        self.hostname = socket.gethostname().split(".", 1)[0]
        self.name = str(config.get("name") or "")
        address = address_of(self.name, config)
        self.store = writer.open_store(config)
        if not callable(getattr(self.store, "get", None)):
            raise ConfigError(f"No valid persistent_store config value found: {self.store!r} has no get(query)")
        self.counts: Counter[str] = Counter()
        self._max: int = settings.get(config, "replay_max")
        self._max_bytes: int = settings.get(config, "replay_max_bytes")
        self._under_way: list[tuple[zmq.MessageTracker, int]] = []
        self._quiet_until: dict[str, float] = {}
        self._stopping = threading.Event()
        self.last_turn = time.monotonic()
        self._open(address)

    def _open(self, address: str) -> None:
        self._generation = contexts.generation
        self.context = contexts.acquire(settings.get(self.config, "io_threads"))
        self._waker, self._wake = os.pipe()
        self._closed = False
        try:
            self.publisher = sockets.answerer(self.context, self.config)
            try:
                key = f"replay_endpoints[{self.name!r}]"
                self.address = sockets.bind(self.publisher, addresses.bindable(address), key)
            except AddressInUse as error:
                raise AddressInUse(f"The replay endpoint cannot be bound. {error}") from error
        except BaseException:
            self.close()
            raise
        self._poll = select.poll()
        self._poll.register(int(self.publisher.FD), select.POLLIN)
        self._poll.register(self._waker, select.POLLIN)

    # ---------------------------------------------------------------- serving

    def listen(self) -> None:
        """Answer questions until `stop` is called."""
        while not self._stopping.is_set():
            self._req_rep_cycle()

    def stop(self) -> None:
        """Let `listen` return soon; may be called from another thread or a signal handler."""
        self._stopping.set()
        if not self._closed:
            os.write(self._wake, b"x")

    def _req_rep_cycle(self) -> None:
        """Wait up to a second for one question, and answer it."""
        deadline = time.monotonic() + _TURN
        while not self._stopping.is_set():
            head, question = self._receive()
            if question is not None:
                self._reply(head, functools.partial(self._answer, question))
                return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            # The descriptor tells of news once, and was read from until there was nothing.
            self._poll.poll(int(left * 1000) + 1)

    def _receive(self) -> tuple[list[bytes], bytes | None]:
        """Read one question with what stands before it; no question when there is none."""
        receive = self.publisher.recv
        while not self._stopping.is_set():
            self.last_turn = time.monotonic()
            try:
                # As a Frame it brings along whether another one follows; to ask takes longer than to receive.
                frame = receive(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            frames = [frame.bytes]
            while frame.more:
                frame = receive(copy=False)
                if len(frames) < _MOST_FRAMES:
                    frames.append(frame.bytes)
            with contextlib.suppress(ValueError):
                end = frames.index(b"", 1) + 1
                if len(frames) == end + 1:
                    return frames[:end], frames[end]
                if end < len(frames) < _MOST_FRAMES:
                    self._tell("malformed", "a question has several frames")
                    self._reply(frames[:end], lambda: self._refuse("A question has one frame"))
                    continue
            # Not what a REQ sends, so that nobody would understand the answer.
            self._tell("malformed", "something that is no question came in")
        return [], None

    # ---------------------------------------------------------------- answering

    def _answer(self, question: bytes) -> list[bytes]:
        """Give the frames of the answer, whatever the question is."""
        try:
            query = encoding.loads(question)
        except ValueError:
            return self._refuse("The query is not JSON")
        if not isinstance(query, dict):
            return self._refuse("The query is not a JSON object")
        try:
            frames = self._found(query)
        except ValueError as error:
            return self._refuse(str(error))
        except Exception as error:
            if self._is_time("store"):
                log.error("a question could not be answered: %s", error, exc_info=not isinstance(error, FedmsgError))
            return self._refuse("The store of messages cannot be read")
        self.counts["answered"] += 1
        self.counts["messages"] += len(frames)
        return frames

    def _found(self, query: Mapping[str, Any]) -> list[bytes]:
        frames: list[bytes] = []
        size, limit = 0, self._size_limit()
        texts = self._texts(query)
        with contextlib.closing(texts):
            for text in texts:
                frames.append(text.encode())
                size += len(frames[-1])
                if len(frames) > self._max:
                    raise QueryError(f"More than {self._max} messages: {protocol.ASK_FOR_LESS}")
                # A single one is given out whatever its size: there is no asking for less.
                if size > limit and len(frames) > 1:
                    raise QueryError(f"More than {limit} bytes: {protocol.ASK_FOR_LESS}")
        if not frames:
            raise QueryError(protocol.NO_MATCH)
        return frames

    def _texts(self, query: Mapping[str, Any]) -> Generator[str, None, None]:
        """Give the messages that a store has, as JSON."""
        if hasattr(self.store, "texts"):
            # Ours keeps them so; the bytes that were signed go out again.
            yield from self.store.texts(query)
            return
        for message in self.store.get(query):
            yield encoding.dumps(message)

    def _refuse(self, reason: str) -> list[bytes]:
        self.counts["refused"] += 1
        return [protocol.error_frame(reason)]

    def _reply(self, head: list[bytes], answer: Callable[[], list[bytes]]) -> None:
        """Look for an answer and hand it over, unless its asker has gone or does not read what it asks for."""
        if not self._can_send_to(head):
            self._tell("dropped", "an answer could not be handed over: who asked has gone or does not read")
            return
        # From here on ZeroMQ waits for the rest of this message, whatever happens.
        try:
            frames = answer()
            size = sum(map(len, frames))
            if self._under_way and size > self._room():
                frames, size = self._refuse("The server has too many answers under way: ask again"), 0
        except BaseException:
            self.publisher.send(protocol.error_frame("The server is stopping"))
            raise
        # ZeroMQ tells when it is done with the last frame, and with that it is with all of them.
        last = zmq.Frame(frames[-1], track=True, copy_threshold=0)
        self.publisher.send_multipart([*frames[:-1], last], copy=False)
        if size and last.tracker is not None and not last.tracker.done:
            self._under_way.append((last.tracker, size))

    def _can_send_to(self, head: list[bytes]) -> bool:
        """Hand over the beginning of an answer, which costs nothing and shows whether there is anybody to take it."""
        for _ in range(2):
            try:
                self.publisher.send(head[0], zmq.SNDMORE | zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno == zmq.EHOSTUNREACH:
                    return False
                if error.errno != zmq.EAGAIN:
                    raise
                # The news that there is room again may not have been read yet; this reads it.
                self.publisher.getsockopt(zmq.EVENTS)
            else:
                for frame in head[1:]:
                    self.publisher.send(frame, zmq.SNDMORE)
                return True
        return False

    def _room(self) -> int:
        """How many bytes of answers may be kept, beside those that have not been taken yet."""
        self._under_way = [entry for entry in self._under_way if not entry[0].done]
        return _ANSWERS_KEPT * self._max_bytes - sum(size for _, size in self._under_way)

    def _size_limit(self) -> int:
        """How big the next answer may be.

        The less room there is, the smaller: those who ask and do not read get hold of most of it, but never of
        all, and who asks for less still gets an answer.
        """
        return min(self._max_bytes, max(0, self._room()) // 4)

    def _tell(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        if self._is_time(kind):
            log.warning("%s: %s (%d so far)", self.address, text, self.counts[kind])

    def _is_time(self, kind: str) -> bool:
        """Whether trouble of a kind may be told of again."""
        now = time.monotonic()
        if now < self._quiet_until.get(kind, 0.0):
            return False
        self._quiet_until[kind] = now + _SELDOM
        return True

    # ---------------------------------------------------------------- closing

    def close(self) -> None:
        """Close the socket; answers under way have ``zmq_linger`` milliseconds left. A second call does nothing."""
        if self._closed or self._generation != contexts.generation:
            return
        self._stopping.set()
        self._closed = True
        if hasattr(self, "publisher"):
            self.publisher.close()
        os.close(self._wake)
        os.close(self._waker)
        contexts.release(self._generation)
        if isinstance(settings.get(self.config, "persistent_store"), str):
            self.store.close()

    def __enter__(self) -> ReplayContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()
