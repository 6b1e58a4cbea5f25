# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server that sends stored messages to those who missed them."""

from __future__ import annotations

import contextlib
import logging
import socket
import weakref
from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any

import zmq

from fedmsg import encoding
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, ConfigError, FedmsgError, QueryError
from fedmsg.replay import protocol, writer
from fedmsg.replay.client import address_of
from fedmsg.transport.zmq import contexts, rpc

__all__ = ["ReplayContext"]

log = logging.getLogger("fedmsg.replay")

# How long one turn waits for a query, in seconds.
_TURN = 1.0


class ReplayContext(Closeable):
    """Answers queries for stored messages at ``replay_endpoints[name]``.

    Use it as a context manager, or call `close`.

    Args:
        config: The configuration, as keywords: ``name``, ``persistent_store``,
            ``replay_endpoints``, ``replay_max``, ``replay_max_bytes``. With
            ``curve_subscribers`` only clients whose keys are in that folder can connect.

    Attributes:
        store: The store: anything with ``add`` and ``get``.
        publisher: The socket that queries are received on.
        counts: ``answered`` queries and the ``messages`` in the answers; ``rejected`` queries,
            which got an error; ``malformed`` ones, which could not be answered at all;
            ``dropped`` answers, whose client had gone or did not read.

    Raises:
        ConfigError: There is no store that can be queried. A ValueError.
        MissingReplayEndpoint: No address is configured for the name. A KeyError.
        AddressInUse: The address is taken. An IOError.
        StoreError: The database can't be used. An IOError.
    """

    def __init__(self, **config: Any) -> None:
        self._closed = True  # until there is something to close
        self.config = config = settings.accept(config)
        if not settings.get(config, "persistent_store"):
            raise ConfigError("No valid persistent_store config value found.")
        self.hostname = socket.gethostname().split(".", 1)[0]
        self.name = str(config.get("name") or "")
        address = address_of(self.name, config)
        self.store = writer.open_store(config)
        if not callable(getattr(self.store, "get", None)):
            raise ConfigError(f"No valid persistent_store config value found: {self.store!r} has no get(query)")
        self._max: int = settings.get(config, "replay_max")
        self._errors = RateLimitedLog(log, level=logging.ERROR)
        self._generation = contexts.generation
        # A guard for CURVE is the only one of its context.
        self._is_guarded = bool(config.get("curve_subscribers"))
        threads = settings.get(config, "io_threads")
        self.context = zmq.Context(io_threads=threads) if self._is_guarded else contexts.acquire(threads)
        # Not a strong reference, so that a context that is leaked is noticed.
        own = weakref.ref(self)

        def answer(question: bytes, limit: int) -> list[bytes]:
            context = own()
            assert context is not None
            return context._answer(question, limit)

        try:
            self._server = rpc.Server(
                self.context,
                config,
                address,
                key=f"replay_endpoints[{self.name!r}]",
                handle=answer,
                reject=protocol.error_frame,
                reply_max_bytes=settings.get(config, "replay_max_bytes"),
            )
        except BaseException as error:
            self._end_context()
            self._close_store()
            if isinstance(error, AddressInUse):
                raise AddressInUse(f"The replay endpoint cannot be bound. {error}") from error
            raise
        self.publisher: zmq.Socket[bytes] = self._server.socket
        self.counts: Counter[str] = self._server.counts
        self.address = self._server.address
        self._closed = False

    @property
    def last_turn(self) -> float:
        """When it last looked for a query, by the monotonic clock."""
        return self._server.last_turn

    # ---------------------------------------------------------------- serving

    def listen(self) -> None:
        """Answer queries until `stop` is called.

        Raises:
            FedmsgError: The guard that admits clients has ended.
        """
        while not self._server.stopping:
            self._req_rep_cycle()
            self._server.check()

    def stop(self) -> None:
        """Make `listen` return soon; any thread and any signal handler may call it."""
        self._server.stop()

    def _req_rep_cycle(self) -> None:
        """Wait up to a second for one query, and answer it."""
        self._server.serve(_TURN)

    # ---------------------------------------------------------------- answering

    def _answer(self, question: bytes, limit: int) -> list[bytes]:
        """Return the frames of the answer, whatever the query is."""
        try:
            query = encoding.loads(question)
        except ValueError:
            return self._reject("The query is not JSON")
        if not isinstance(query, dict):
            return self._reject("The query is not a JSON object")
        try:
            frames = self._find(query, limit)
        except ValueError as error:
            return self._reject(str(error))
        except Exception as error:
            if self._errors.report("store", f"a query could not be answered: {error}") and not isinstance(
                error, FedmsgError
            ):
                log.debug("a query could not be answered", exc_info=True)
            return self._reject("The store of messages cannot be read")
        self.counts["answered"] += 1
        self.counts["messages"] += len(frames)
        return frames

    def _find(self, query: Mapping[str, Any], limit: int) -> list[bytes]:
        frames: list[bytes] = []
        size = 0
        texts = self._texts(query)
        with contextlib.closing(texts):
            for text in texts:
                frames.append(text.encode())
                size += len(frames[-1])
                if len(frames) > self._max:
                    raise QueryError(f"More than {self._max} messages: {protocol.ASK_FOR_LESS}")
                # A single message is sent whatever its size: no client can ask for less.
                if size > limit and len(frames) > 1:
                    raise QueryError(f"More than {limit} bytes: {protocol.ASK_FOR_LESS}")
        if not frames:
            raise QueryError(protocol.NO_MATCH)
        return frames

    def _texts(self, query: Mapping[str, Any]) -> Generator[str, None, None]:
        """Yield the messages that the store has, as JSON."""
        if hasattr(self.store, "texts"):
            # Our store keeps them as JSON: the bytes that were signed are sent again.
            yield from self.store.texts(query)
            return
        for message in self.store.get(query):
            yield encoding.dumps(message)

    def _reject(self, reason: str) -> list[bytes]:
        self.counts["rejected"] += 1
        return [protocol.error_frame(reason)]

    # ---------------------------------------------------------------- closing

    def _close(self) -> None:
        """Close the socket; answers that are being sent have ``zmq_linger`` milliseconds left."""
        if self._generation != contexts.generation:
            return
        self._server.close()
        self._end_context()
        self._close_store()

    def _end_context(self) -> None:
        if self._is_guarded:
            self.context.term()
        else:
            contexts.release(self._generation)

    def _close_store(self) -> None:
        if isinstance(settings.get(self.config, "persistent_store"), str):
            self.store.close()
