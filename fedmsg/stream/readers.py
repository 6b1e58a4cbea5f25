# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client of the stream port: where its subscription is, what it may be sent, and what waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import zmq

from fedmsg.stream.begin import Begin
from fedmsg.stream.jobs import Part
from fedmsg.stream.records import Entry

__all__ = ["Outbox", "Reader"]

# ZeroMQ reports for one message in so many, and in so many bytes, that it has left: a report costs more than a
# small message does.
_TRACKED_MESSAGES = 100
_TRACKED_BYTES = 64 * 1024
#: How many messages may wait in this process for one client.
OUTBOX_MESSAGES_MAX = 4000
_NUMBER_MAX = 2**63 - 1


class Outbox:
    """Counts what was given to ZeroMQ for one client and has not left this process."""

    __slots__ = ("_fresh_messages", "_fresh_size", "_messages", "_size", "_tracked")

    def __init__(self) -> None:
        # What ZeroMQ reports on, the oldest first; then what it does not report on yet.
        self._tracked: deque[tuple[zmq.MessageTracker, int, int]] = deque()
        self._messages = self._size = 0
        self._fresh_messages = self._fresh_size = 0

    def wants_report(self, size: int) -> bool:
        """Return whether the next message, of this size, is to be tracked."""
        return self._fresh_messages >= _TRACKED_MESSAGES or self._fresh_size + size >= _TRACKED_BYTES

    def add(self, size: int, tracker: zmq.MessageTracker | None) -> None:
        """Count a message that was sent."""
        self._fresh_messages += 1
        self._fresh_size += size
        if tracker is not None:
            self._tracked.append((tracker, self._fresh_messages, self._fresh_size))
            self._messages += self._fresh_messages
            self._size += self._fresh_size
            self._fresh_messages = self._fresh_size = 0

    def look(self) -> None:
        """Find out what has left since."""
        tracked = self._tracked
        while tracked and tracked[0][0].done:
            _, messages, size = tracked.popleft()
            self._messages -= messages
            self._size -= size

    @property
    def size(self) -> int:
        """How many bytes wait, of which it is known."""
        return self._size

    def has_room(self, size: int, limit: int) -> bool:
        """Return whether a message may be added; one fits in any case."""
        waiting = self._size + self._fresh_size
        return self._messages < OUTBOX_MESSAGES_MAX and (not self._size or waiting + size <= limit)


class Reader:
    """One client and its subscription.

    Attributes:
        identity: What ZeroMQ calls its connection.
        client: The random id that it has.
        peer: Its IP address.
        heard: When it was heard last, by the monotonic clock.
        pinged: When it was asked for a sign of life.
        many: How many bytes of topics and bodies it takes in one; 0 where it takes single messages.
        size_max: Larger messages it would reject; 0 where it has not said.
        outbox: What waits for it.
        generation: Grows with each ``OPEN`` and ``CLOSE``: what belongs to an earlier one is dropped.
        is_open: Whether it has a subscription that is being served.
        is_reading: Whether the store is being read for it.
        is_asking: Whether a request of it is in work.
        begin: Where its subscription begins.
        prefixes: The topics that it wants; none stands for all.
        name: The name of its durable subscription.
        at: Everything up to this position was looked at.
        previous: The position of the message that was sent last.
        announced: The position that the client knows to have been looked at.
        lost: Positions that it has to be informed of.
        ahead: What was read from the store to follow what is not sent yet.
        held: About how many bytes of memory both of them take.
        missing_since: Since when the stream has not all that comes before what it is sent; None where it has.
    """

    __slots__ = (
        "_index", "_look_end", "_part", "ahead", "announced", "at", "begin", "client", "credit", "credit_size",
        "generation", "heard", "held", "identity", "is_asking", "is_open", "is_reading", "lost", "many",
        "missing_since", "name", "outbox", "peer", "pinged", "prefixes", "previous", "retry_delay", "size_max",
        "window", "window_size",
    )  # fmt: skip

    def __init__(
        self, identity: bytes, client: str, peer: str, now: float, *, many: int = 0, size_max: int = 0
    ) -> None:
        self.identity, self.client, self.peer = identity, client, peer
        self.many, self.size_max = many, size_max
        self.heard = self.pinged = now
        self.outbox = Outbox()
        self.generation = 0
        self.is_reading = self.is_asking = False
        self.retry_delay = 0.0
        self.close()

    def close(self) -> None:
        """End the subscription, if there is one."""
        self.generation += 1
        self.is_open = False
        # A read in work belongs to the generation before this one.
        self.is_reading = False
        self.begin = Begin()
        self.prefixes: tuple[bytes, ...] = ()
        self.name = ""
        self.at = self.previous = self.announced = 0
        self.lost: tuple[int, int] | None = None
        self.missing_since: float | None = None
        self.credit = self.credit_size = 0
        self.window = self.window_size = 0
        self._part: list[Entry] = []
        self._index = self._look_end = 0
        self.ahead: Part | None = None
        self.held = 0

    def open(self, position: int) -> None:
        """Begin to be served after a position."""
        self.is_open = True
        self.at = self.previous = self.announced = position

    # ---------------------------------------------------------------- credit

    def add_credit(self, messages: int, size: int) -> None:
        """Add credit; the first is the window, and an unused one is the most that there can be."""
        self.credit = min(_NUMBER_MAX, self.credit + messages)
        self.credit_size = min(_NUMBER_MAX, self.credit_size + size)
        self.window = max(self.window, self.credit)
        self.window_size = max(self.window_size, self.credit_size)

    def is_too_large(self, size: int) -> bool:
        """Return whether it would reject a message of this size."""
        return 0 < self.size_max < size

    def may_take(self, size: int, count: int = 1) -> bool:
        """Return whether the credit allows so many messages of that size together; one fits whatever its size."""
        is_first = count == 1 and self.credit == self.window
        return self.credit >= count and (self.credit_size >= size or is_first)

    def sent(self, position: int, size: int, count: int = 1) -> None:
        """Count messages that were sent, up to a position."""
        self.credit -= count
        self.credit_size -= size
        self.at = self.previous = self.announced = position

    # ---------------------------------------------------------------- what was read for it

    def set_part(self, part: Part) -> None:
        """Keep what was read from the store, until it is sent."""
        self._part, self._index, self._look_end = part.entries, 0, part.looked_at
        self._end_part()

    @property
    def has_part(self) -> bool:
        """Whether something that was read is not sent yet."""
        return self._index < len(self._part)

    @property
    def read_until(self) -> int:
        """Everything up to this position was read for it."""
        return self._look_end if self.has_part else self.at

    def part(self, limit: int) -> Sequence[Entry]:
        """Return the next of what was read."""
        return self._part[self._index : self._index + limit]

    def step(self, count: int) -> None:
        """Go on by so many messages of what was read."""
        self._index += count
        self._end_part()

    def _end_part(self) -> None:
        if not self.has_part:
            self.at = max(self.at, self._look_end)
            self._part = []
            self._index = 0

    def add_lost(self, first: int, last: int) -> None:
        """Remember positions that are gone; the next ones are joined to them."""
        self.lost = (first if self.lost is None else min(first, self.lost[0]), last)
        self.at = max(self.at, last)

    def can_go_on(self, newest: int) -> bool:
        """Return whether there may be something to send to it."""
        return self.is_open and (
            self.lost is not None or (self.credit > 0 and (self.has_part or (self.at < newest and not self.is_reading)))
        )
