# SPDX-License-Identifier: LGPL-2.1-or-later
"""Receives many messages at a time and unread, for a loop that hands them to others."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Container, Iterable, Mapping
from typing import Any

import zmq

from fedmsg import _wire
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.exceptions import MessageError
from fedmsg.transport.zmq.source import Receiver, _miscounted, _Source

__all__ = ["BatchReceiver", "Frames"]

#: The address that a message came by, its topic frame, and its body, both unread.
Frames = tuple[str, bytes, bytes]

_NOBLOCK = int(zmq.NOBLOCK)


class BatchReceiver(Receiver):
    """A receiver that is asked for what there is, instead of being iterated over.

    Only the number of frames and their size are looked at.

    Args:
        config: The configuration.
        endpoints: Pairs of name and address; an address is connected once.
        topics: Prefixes to subscribe to.
        whole: Names whose endpoints are subscribed to as a whole.
        passive: Bind the addresses instead of connecting to them.
        rejections: Where refused messages are counted and told of.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        endpoints: Iterable[tuple[str, str]],
        topics: Iterable[str] = ("",),
        *,
        whole: Container[str] = (),
        passive: bool = False,
        rejections: RejectionLog | None = None,
    ) -> None:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Nobody may ring when it is gone: its number may be that of another file by then.
        self._ringing = threading.Lock()
        try:
            super().__init__(config, endpoints, topics, whole=whole, passive=passive, rejections=rejections)
        except BaseException:
            self._close_bell()
            raise
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._hot: list[_Source] = list(self._sources)

    def wake(self) -> None:
        """End a `wait` of the owner's; any thread may call this."""
        with self._ringing:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def subscribe(self, topic: bytes) -> None:
        """Receive one more prefix; for the owner alone."""
        self._topics.append(topic)
        for source in self._sources:
            source.socket.setsockopt(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Receive one prefix less; for the owner alone."""
        self._topics.remove(topic)
        for source in self._sources:
            source.socket.setsockopt(zmq.UNSUBSCRIBE, topic)

    def wait(self, timeout: float) -> None:
        """Wait until there is something to read, or somebody calls `wake`.

        Args:
            timeout: Seconds to wait at most.
        """
        if self._resolver.pending:
            self._hot += self._add_resolved()
            timeout = min(timeout, 0.2)
        for key, _ in self._selector.select(0.0 if self._hot else timeout):
            if key.data is None:
                os.eventfd_read(self._bell)
            elif key.data not in self._hot:
                self._hot.append(key.data)

    def rest(self, timeout: float) -> None:
        """Wait like `wait`, but leave messages where they are: only `wake` ends it before its time."""
        hot, self._hot = self._hot, []
        with selectors.DefaultSelector() as bell:
            bell.register(self._bell, selectors.EVENT_READ)
            if bell.select(timeout):
                os.eventfd_read(self._bell)
        self._hot = hot

    def read(self, most: int) -> list[Frames]:
        """Take what has arrived, without waiting.

        Args:
            most: How many messages at most.
        """
        batch: list[Frames] = []
        while self._hot and len(batch) < most:
            # Each source in its turn, so that a busy one does not keep the others waiting.
            source = self._hot.pop(0)
            if self._read_one(source, batch, most):
                self._hot.append(source)
        return batch

    def _read_one(self, source: _Source, batch: list[Frames], most: int) -> bool:
        """Read a source until it or the batch is exhausted; whether there may be more in it."""
        _, address, socket = source
        receive, limit, add = socket.recv, self._max_size, batch.append
        for _ in range(most - len(batch)):
            try:
                first = receive(_NOBLOCK, copy=False)
            except zmq.Again:
                return False
            try:
                second = receive(_NOBLOCK, copy=False) if first.more else None
                if second is None or second.more:
                    raise _miscounted(receive, second)
                topic, body = first.bytes, second.bytes
                if (size := len(topic) + len(body)) > limit:
                    _wire.check_size(size, limit)
            except MessageError as error:
                self.rejections.add(address, error)
            else:
                add((address, topic, body))
        return True

    def close(self) -> None:
        """Close all sockets; a second call does nothing."""
        super().close()
        self._close_bell()

    def _close_bell(self) -> None:
        with self._ringing:
            if self._bell >= 0:
                os.close(self._bell)
            self._bell = -1
