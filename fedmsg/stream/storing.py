# SPDX-License-Identifier: LGPL-2.1-or-later
"""What makes a relay one with a stream: it stores each message before it passes it on, and confirms it then.

Messages are stored in groups: while one is written to disk, the next one gathers. An idle relay so stores a
message at once, and a busy one hundreds together. While nothing can be stored the gathering ends with a full
group, and nothing more is read.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.exceptions import FedmsgError, MessageError
from fedmsg.stream.committing import Committer, Result
from fedmsg.stream.confirmed import Check, ConfirmedPort, Submission
from fedmsg.stream.records import Entry, Incoming
from fedmsg.stream.upstream import Upstreams
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["BATCH_BYTES", "BATCH_MESSAGES", "Server", "Storing"]

log = logging.getLogger("fedmsg.stream")

#: How large a group may become: how many messages, and after how many bytes no more is read.
BATCH_MESSAGES = 1000
BATCH_BYTES = 16 * 1024 * 1024

# Milliseconds after which signs of life are due.
_TICK_MS = 250
# For so many seconds a commit is waited for, which usually takes less: nothing else could be done meanwhile.
_AT_ONCE = 0.02
# The rate is that of so many seconds.
_SAMPLES = 10


class Server(Protocol):
    """What serves the stream to its readers."""

    addresses: list[str]

    def start(self) -> None:
        """Start it."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Pass on what was stored."""

    def statistics(self) -> dict[str, Any]:
        """Return figures for status reports and metrics."""

    @property
    def first(self) -> int:
        """The oldest position, as far as it is known."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    def close(self) -> None:
        """Close it."""


class Storing:
    """Keeps the messages of a relay in its stream: a `fedmsg.transport.zmq.keeping.Keeper`.

    Args:
        config: The configuration.
        committer: What writes to the stream; it is started, and has the lock.
        server: What serves it.
        confirmed: The addresses of the confirmed port.
        upstreams: What hands the stream on to other relays.
        check: Looks at the two frames and returns the body that is stored, or raises MessageError.

    Attributes:
        stored: How many messages were stored.
        duplicates: How many were there already.
        confirmed: How many confirms were sent.
        newest: The newest position.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        committer: Committer,
        server: Server,
        confirmed: Sequence[str],
        upstreams: Upstreams,
        *,
        check: Check | None = None,
    ) -> None:
        self._config = config
        self._committer = committer
        self._server = server
        self._upstreams = upstreams
        self._addresses = list(confirmed)
        self._rejections: RejectionLog | None = None
        self._check = check
        self._port: ConfirmedPort | None = None
        self._is_finishing = False
        # What gathers: the messages, and who waits for the confirm of each.
        self._batch: list[Incoming] = []
        self._askers: list[Submission | None] = []
        self._size = 0
        # The same of the group that is being written.
        self._under_way: list[Submission | None] | None = None
        # What was stored and is being passed on.
        self._answers: list[tuple[Submission, int]] = []
        self._entries: list[Entry] = []
        self.stored = self.duplicates = self.confirmed = self.newest = 0
        # How many were stored at some times, the last of which are recent.
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    # ---------------------------------------------------------------- for other threads

    def addresses(self) -> dict[str, list[str]]:
        """Return the addresses of the two ports."""
        return {"confirmed": list(self._addresses), "stream": list(self._server.addresses)}

    def statistics(self) -> dict[str, Any]:
        """Return figures for status reports and metrics."""
        return {**self.figures(), **self._server.statistics()}

    def figures(self) -> dict[str, Any]:
        """Return those that are not of the server."""
        committer, port = self._committer, self._port
        then, before = self._samples[0] if self._samples else (time.monotonic(), self.stored)
        return {
            "newest": self.newest,
            "stored": self.stored,
            "per_second": (self.stored - before) / max(1.0, time.monotonic() - then),
            "duplicates": self.duplicates,
            "confirmed": self.confirmed,
            "publishers": 0 if port is None else port.clients,
            "waiting": self.held,
            "store_failures": committer.failures,
            "store_away": committer.away,
            "removed": committer.removed,
            "retention": committer.retention,
            "upstreams": self._upstreams.statistics(),
            **({} if port is None else {f"publishers_{kind}": count for kind, count in list(port.counts.items())}),
        }

    # ---------------------------------------------------------------- the loop

    def open(self, rejections: RejectionLog) -> None:
        """Open the confirmed port, and serve the stream.

        Args:
            rejections: Where rejected messages are counted.

        Raises:
            AddressInUse: An address is taken.
            ConfigError: Something is no address, or can't be bound.
            RefusedAtStart: The keys for CURVE can't be read.
            StoreError: The stream can't be read.
        """
        log, self._rejections = self._committer.log, rejections
        self.newest = log.newest()
        self._port = ConfirmedPort(
            self._config,
            self._addresses,
            stream=log.stream,
            span=lambda: (self._server.first, self.newest),
            rejections=rejections,
            check=self._check,
        )
        self._addresses = self._port.addresses
        self._server.start()
        self._upstreams.start()

    def polled(self) -> list[Socket | int]:
        """Return what is to be polled."""
        assert self._port is not None
        news = self._committer.news.fileno()
        return [news] if self._is_finishing or not self.room else [news, self._port.socket]

    @property
    def timeout_ms(self) -> int:
        """After how many milliseconds something is due."""
        return _TICK_MS

    @property
    def room(self) -> int:
        """How many messages can be taken."""
        return 0 if self._size >= BATCH_BYTES else max(0, BATCH_MESSAGES - len(self._batch))

    @property
    def held(self) -> int:
        """How many messages are not stored yet."""
        return len(self._batch) + len(self._under_way or ())

    def take(self, messages: Sequence[list[bytes]]) -> None:
        """Take messages from the unconfirmed port; those that are rejected are counted."""
        for frames in messages:
            try:
                if len(frames) != 2:
                    raise MessageError(f"it has {len(frames)} frames instead of 2", "frames")
                topic, body = frames
                if self._check is not None:
                    body = self._check(topic, body)
            except MessageError as error:
                assert self._rejections is not None
                self._rejections.add("the publishers", error)
            else:
                self._add(Incoming(topic, body), None)

    def _add(self, incoming: Incoming, asker: Submission | None) -> None:
        self._batch.append(incoming)
        self._askers.append(asker)
        self._size += len(incoming.topic) + len(incoming.body)

    def advance(self, ready: Collection[Socket | int]) -> Sequence[tuple[bytes, bytes]]:
        """Read the confirmed port, have a group stored; return what was stored and is new.

        Raises:
            FedmsgError: Nothing can be stored or served any more, for a reason that does not pass.
        """
        port, news = self._port, self._committer.news
        assert port is not None
        if news.fileno() in ready:
            news.clear()
        is_due = port.is_due
        if is_due or port.socket in ready:
            self._receive(port, is_due=is_due)
        if is_due:
            self._tick(port)
        self._store()
        result = None if self._under_way is None else self._committer.result(_AT_ONCE)
        if result is None:
            return ()
        passing = self._stored(result, self._under_way or ())
        self._under_way = None
        self._store()
        return passing

    def _receive(self, port: ConfirmedPort, *, is_due: bool) -> None:
        if self._is_finishing:
            return
        room, size = self.room, BATCH_BYTES - self._size
        submissions = port.receive(room, size)
        for submission in submissions:
            self._add(submission.incoming, submission)
        if is_due and len(submissions) < room and self.room:
            port.forget_silent()

    def _tick(self, port: ConfirmedPort) -> None:
        port.tick()
        self._committer.look()
        now = time.monotonic()
        if not self._samples or now - self._samples[-1][0] >= 1:
            self._samples.append((now, self.stored))
        if not (self._committer.alive and self._server.alive and self._upstreams.alive):
            raise FedmsgError("stopped, because a thread that stores, serves or hands on the stream has ended")

    def _stored(self, result: Result, askers: Sequence[Submission | None]) -> list[tuple[bytes, bytes]]:
        """Note what was stored; return what is new of it."""
        passing: list[tuple[bytes, bytes]] = []
        for incoming, asker, (position, is_new) in zip(result.batch, askers, result.stored, strict=True):
            if is_new:
                self._entries.append(Entry(position, result.time, incoming.topic, incoming.body, incoming.via))
                passing.append((incoming.topic, incoming.body))
            if asker is not None:
                self._answers.append((asker, position))
        self.stored += len(passing)
        self.duplicates += len(result.stored) - len(passing)
        if self._entries:
            self.newest = self._entries[-1].position
        return passing

    def _store(self) -> None:
        if self._under_way is None and self._batch:
            self._committer.store(self._batch)
            self._under_way = self._askers
            self._batch, self._askers, self._size = [], [], 0

    def passed_on(self) -> None:
        """Confirm what was passed on, and inform those who read the stream."""
        assert self._port is not None
        if self._answers:
            self._port.confirm(self._answers)
            self.confirmed += len(self._answers)
            self._answers.clear()
        if self._entries:
            entries, self._entries = self._entries, []
            self._server.append(entries)
            self._upstreams.notify()

    def finish(self) -> None:
        """Read no more from the confirmed port: who has no confirm sends again, to the next relay."""
        self._is_finishing = True

    def close(self, timeout: float) -> None:
        """Close the ports and the stream; what can't be stored in time is lost."""
        with contextlib.ExitStack() as stack:
            stack.callback(_end, self._committer, timeout)
            stack.callback(self._server.close)
            if self._port is not None:
                stack.callback(self._port.close)
            stack.callback(self._upstreams.close)


def _end(committer: Committer, timeout: float) -> None:
    """End the thread that stores, which may hang in a database."""
    committer.stop()
    if committer.join(max(timeout, 0.5)):
        committer.close()
    else:
        log.error("the store does not answer; it is left as it is")
        committer.news.close()
        committer.abandon()
