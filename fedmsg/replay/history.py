# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history of a service: what its replay server has."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError, MessageError, QueryError, ValidationError
from fedmsg.replay import client, protocol
from fedmsg.store.recovery import Message
from fedmsg.transport.zmq import sockets

__all__ = ["Ask", "ReplayHistory"]

# A server that did not answer several times is waited for by this fraction of ``timeout``.
_TIMEOUT_FRACTION = 16

#: Sends a query about a service and returns the frames of the answer, or raises a FedmsgError.
Ask = Callable[[str, dict[str, Any], float], list[bytes]]


class ReplayHistory:
    """The history of one service at its replay server; connected while it is used.

    The arguments are those of `fedmsg.replay.gaps.GapFiller`; ``is_received`` returns whether a message was received
    before, and so needs no second check.
    """

    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        is_received: Callable[[Message], bool],
        *,
        read: Callable[[bytes], Message],
        validate: Callable[[Message], bool] | None,
        rejections: RejectionLog,
        counts: Counter[str],
        context: sockets.Context | None = None,
        ask: Ask | None = None,
    ) -> None:
        self._name = name
        self._config = config
        self._is_received = is_received
        self._read = read
        self._validate = validate
        self._rejections = rejections
        self._counts = counts
        self._context = context
        self._ask_instead = ask
        self._client: client.Client | None = None
        self._configured_timeout = float(settings.get(config, "timeout"))
        # A server that does not answer is waited for less each time, so that it does not hold up
        # a stream with many gaps.
        self._timeout = self._configured_timeout

    def close(self) -> None:
        """Disconnect; it connects again when it is used again."""
        connection, self._client = self._client, None
        if connection is not None:
            connection.close()

    def look_up(self, number: int) -> tuple[list[Message], FedmsgError | None]:
        """Return the messages that the server has under a number, or why that is not known."""
        try:
            frames = protocol.check(self._ask({"seq_id": number}, self._timeout))
        except QueryError as error:
            return [], None if protocol.NO_MATCH in str(error) else error
        except FedmsgError as error:
            return [], error
        found = []
        for frame in frames:
            try:
                found.append(self._read(frame))
            except MessageError as error:
                self._rejections.add(f"the replay server of {self._name}", error)
        return found, None

    def read(self, first: int, last: int) -> Iterator[Message]:
        """Yield the messages of an interval that are valid.

        Raises:
            FedmsgError: The server does not answer, or rejects the query.
        """
        deadline = time.monotonic() + self._timeout

        def ask(start: int, end: int) -> list[bytes]:
            query = {"seq_ids": [*range(start, end + 1)]} if listed else {"seq_id_range": [start, end]}
            return self._ask(query, deadline - time.monotonic())

        for listed in (False, True):
            walk = protocol.Walk(first, last, grows=not listed)
            try:
                for part, frames in walk.answers(ask):
                    yield from self._accept(part, frames)
                    # Only time in which nothing was passed on counts.
                    deadline = time.monotonic() + self._timeout
            except QueryError as error:
                if listed or protocol.ASK_FOR_LESS in str(error):
                    raise
                # fedmsg 1.x rejects ranges, and answers the same query as a list.
                first = walk.first
            else:
                return

    def _accept(self, part: tuple[int, int], frames: Iterable[bytes]) -> Iterator[Message]:
        validate, before = self._validate, part[0] - 1
        for frame in frames:
            try:
                envelope = self._read(frame)
                number = envelope.get("seq_id")
                if type(number) is not int or not before < number <= part[1]:
                    raise MessageError(f"it has the number {number!r}, which was not asked for", "replay")
                if validate is not None and not self._is_received(envelope) and not validate(envelope):
                    raise ValidationError(envelope)
            except MessageError as error:
                self._rejections.add(f"the replay server of {self._name}", error)
            else:
                before = number
                yield envelope

    def _ask(self, query: dict[str, Any], timeout: float) -> list[bytes]:
        self._counts["asked"] += 1
        timeout = max(0.0, timeout)
        try:
            if self._ask_instead is not None:
                frames = self._ask_instead(self._name, query, timeout)
            else:
                if self._client is None:
                    self._client = client.Client(self._name, self._config, self._context)
                frames = self._client.ask(query, timeout)
        except FedmsgError:
            self._timeout = max(self._timeout / 2, self._configured_timeout / _TIMEOUT_FRACTION)
            raise
        self._timeout = self._configured_timeout
        return frames
