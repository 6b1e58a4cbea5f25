# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sends the stream to its readers, each at its own pace and none at the cost of another one.

A reader near the end gets what is in the window in memory; one further back what is read from the store,
a part at a time. Readers near the end come first in each turn; the others share the rest of its time.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.stream import jobs, protocol
from fedmsg.stream.port import Full, Gone, Port
from fedmsg.stream.readers import Reader
from fedmsg.stream.records import Entry
from fedmsg.stream.window import Window
from fedmsg.stream.worker import Worker

__all__ = ["Delivering"]

log = logging.getLogger("fedmsg.stream")

# How many messages of the window a reader gets in one turn.
_SLICE = 200
# A reader that is behind by no more than so many comes first.
_NEAR = 1000
# Seconds in one turn for those that are further behind.
_TURN = 0.005
# Seconds until a reader is looked at again that has no room: they double each time.
_RETRY_MIN = 0.002
_RETRY_MAX = 0.25
# After a failure of the store.
_RETRY_STORE = 1.0
# So many positions without a match are reported to a reader.
_AT_POSITIONS = 10_000
# How many bytes may wait in this process for all clients, and for one of them in any case.
_PENDING_MAX = 128 * 1024 * 1024
_PENDING_SHARE_MAX = 4 * 1024 * 1024
_PENDING_SHARE_MIN = 64 * 1024
# How many bytes of memory may be read for all clients before they have credit for them.
_AHEAD_MAX = 16 * 1024 * 1024


class Delivering:
    """Sends messages to the readers of a port, in the thread of the port.

    Args:
        port: The port.
        window: The newest messages.
        stream: The stream.
        worker: The thread that reads it.
        events: Where failures are counted and logged.
        lose: Called with a reader that has gone.

    Attributes:
        pending_elsewhere: How many bytes wait for clients that are no longer readers.
        sent: How many messages were sent.
        sent_size: How many bytes of topics and bodies.
        lost: How many positions readers were informed to have lost.
    """

    def __init__(
        self,
        *,
        port: Port,
        window: Window,
        stream: jobs.Readable,
        worker: Worker,
        events: RateLimitedLog,
        lose: Callable[[Reader], None],
    ) -> None:
        self._port = port
        self._window = window
        self._stream = stream
        self._worker = worker
        self._events = events
        self._lose = lose
        self._near: dict[Reader, None] = {}
        self._behind: dict[Reader, None] = {}
        self._waiting: dict[Reader, float] = {}
        # How many bytes of memory are held for readers, or will be when they are read, of what is read from the store.
        self._held: dict[Reader, int] = {}
        self._readers = 1
        self.pending_elsewhere = 0
        self.sent = self.sent_size = self.lost = 0

    # ---------------------------------------------------------------- turns

    def push(self, reader: Reader) -> None:
        """Have a reader served, if there is something for it."""
        newest = self._window.newest
        if reader.can_go_on(newest) and reader not in self._waiting:
            near = not reader.has_part and newest - reader.at <= _NEAR
            (self._near if near else self._behind)[reader] = None

    def forget(self, reader: Reader) -> None:
        """Serve a reader no more."""
        for queue in (self._near, self._behind, self._waiting, self._held):
            queue.pop(reader, None)

    def turn(self, readers: int) -> bool:
        """Serve the readers for a while.

        Args:
            readers: How many there are, who share the memory.

        Returns:
            Whether something was done.
        """
        self._readers = readers
        now = time.monotonic()
        for reader in [reader for reader, when in self._waiting.items() if when <= now]:
            del self._waiting[reader]
            self.push(reader)
        worked = bool(self._near or self._behind)
        near, self._near = self._near, {}
        for reader in near:
            self._serve_safely(reader)
        until = time.monotonic() + _TURN
        for reader in list(self._behind):
            if time.monotonic() > until:
                break
            # A reader that was lost in the meantime is not there any more.
            if reader in self._behind:
                del self._behind[reader]
                self._serve_safely(reader)
        return worked

    def timeout(self) -> float | None:
        """Return in how many seconds a reader has to be looked at again; None where none has."""
        if not self._waiting:
            return None
        return max(0.0, min(self._waiting.values()) - time.monotonic())

    @property
    def share(self) -> int:
        """How many bytes may wait for one reader."""
        left = max(0, _PENDING_MAX - self.pending_elsewhere) // max(1, self._readers)
        return min(_PENDING_SHARE_MAX, max(_PENDING_SHARE_MIN, left))

    # ---------------------------------------------------------------- one reader

    def _serve_safely(self, reader: Reader) -> None:
        try:
            if self._serve(reader):
                reader.retry_delay = 0.0
                self.push(reader)
        except Full:
            self._wait(reader)
        except Gone:
            self._lose(reader)

    def _wait(self, reader: Reader, delay: float = 0.0) -> None:
        """Look at a reader again after a time: it does not read, or the store can't be read."""
        reader.retry_delay = min(_RETRY_MAX, max(_RETRY_MIN, 2 * reader.retry_delay))
        self._waiting[reader] = time.monotonic() + max(delay, reader.retry_delay)

    def _serve(self, reader: Reader) -> bool:
        """Send the next messages to a reader; whether it may be served again at once."""
        if not reader.can_go_on(self._window.newest):
            return False
        if reader.lost is not None:
            self._port.send(reader.identity, protocol.encode(protocol.LOST, *reader.lost))
            reader.lost = None
        reader.outbox.look()
        if reader.has_part:
            return self._send_part(reader)
        if reader.credit <= 0:
            return False
        entries = self._window.read(reader.at, _SLICE)
        if entries is None:
            self._read(reader)
            return False
        return self._send_window(reader, entries)

    def _send_part(self, reader: Reader) -> bool:
        entries = reader.part(_SLICE)
        sent = self._send(reader, entries)
        reader.step(sent)
        if not reader.has_part:
            self._end_part(reader)
        return self._go_on(reader, entries, sent)

    def _send_window(self, reader: Reader, entries: Sequence[Entry]) -> bool:
        prefixes = reader.prefixes
        wanted = [entry for entry in entries if entry.topic.startswith(prefixes)] if prefixes else entries
        sent = self._send(reader, wanted)
        if sent < len(wanted):
            reader.at = wanted[sent].position - 1
        elif entries:
            reader.at = entries[-1].position
        return self._go_on(reader, wanted, sent)

    def _go_on(self, reader: Reader, entries: Sequence[Entry], sent: int) -> bool:
        """Return whether a reader may be served again at once; it may not where it waits for credit.

        Raises:
            Full: It does not read.
        """
        if sent == len(entries):
            self._announce_many(reader)
            return True
        size = _size(entries[sent])
        if reader.is_too_large(size) or reader.may_take(size):
            raise Full
        return False

    def _send(self, reader: Reader, entries: Sequence[Entry]) -> int:
        """Send messages, as many as the reader may have and takes; returns how many.

        Raises:
            Gone: It has gone.
        """
        sent = 0
        while sent < len(entries):
            group = self._group(reader, entries[sent : sent + protocol.fit_into(reader.many)])
            if group:
                if not self._send_group(reader, group):
                    break
                sent += len(group)
            elif reader.is_too_large(_size(entries[sent])) and self._pass_over(reader, entries[sent]):
                sent += 1
            else:
                break
        return sent

    def _group(self, reader: Reader, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return those of the next messages that are sent as one."""
        sizes = list(accumulate(map(_size, entries)))
        fitting = bisect_right(sizes, reader.many) or 1
        if not reader.is_too_large(sizes[fitting - 1]) and self._has_room(reader, sizes[fitting - 1], fitting):
            return entries[:fitting]
        size = 0
        for count, total in enumerate(sizes[:fitting]):
            if reader.is_too_large(total - size) or not self._has_room(reader, total, count + 1):
                return entries[:count]
            size = total
        return entries[:fitting]

    def _has_room(self, reader: Reader, size: int, count: int) -> bool:
        """Return whether so many messages of that size together may be sent, and there is room for them."""
        return reader.may_take(size, count) and reader.outbox.has_room(size, self.share)

    def _send_group(self, reader: Reader, entries: Sequence[Entry]) -> bool:
        """Send messages as one; whether the client takes it.

        Raises:
            Gone: It has gone.
        """
        size = sum(map(_size, entries))
        if reader.many:
            frames = protocol.encode_many(reader.previous, entries)
        else:
            frames = protocol.encode_one(reader.previous, entries[0])
        last, count = entries[-1].position, len(entries)
        outbox = reader.outbox
        try:
            tracker = self._port.send(reader.identity, frames, track=outbox.wants_report(size))
        except Full:
            return False
        outbox.add(size, tracker)
        reader.sent(last, size, count)
        self.sent += count
        self.sent_size += size
        return True

    def _pass_over(self, reader: Reader, entry: Entry) -> bool:
        """Inform a reader of a message that it would reject, and might lose its connection by; whether it takes that.

        Raises:
            Gone: It has gone.
        """
        try:
            self._port.send(reader.identity, protocol.encode(protocol.LARGE, entry.position, _size(entry)))
        except Full:
            return False
        reader.at = reader.announced = entry.position
        return True

    def _announce_many(self, reader: Reader) -> None:
        if reader.at - reader.announced >= _AT_POSITIONS:
            self.announce(reader)

    def _announce_safely(self, reader: Reader) -> None:
        try:
            self._announce_many(reader)
        except Full:
            pass
        except Gone:
            self._lose(reader)

    def announce(self, reader: Reader) -> None:
        """Report to a reader what was looked at, unless it knows.

        Raises:
            Full: The client does not read.
            Gone: It has gone.
        """
        if reader.is_open and reader.at > reader.announced and reader.lost is None:
            self._port.send(reader.identity, protocol.encode(protocol.AT, reader.at))
            reader.announced = reader.at

    # ---------------------------------------------------------------- the store

    def _read(self, reader: Reader) -> None:
        """Have the store read on for a reader: a window, or where memory is short what it may be sent."""
        left = max(0, _AHEAD_MAX - sum(self._held.values()))
        ahead = min(reader.window_size, jobs.BYTES_MAX, left // 4)
        # Its credit is for what is not sent yet.
        credit, credit_size = (0, 0) if reader.has_part else (reader.credit, reader.credit_size)
        rows = min(jobs.ROWS_MAX, max(credit, min(reader.window, ahead // (2 * jobs.ENTRY_BYTES))))
        if rows <= 0:
            return
        size = max(1, ahead, min(jobs.BYTES_MAX, credit_size, self.share))
        self._held[reader] = reader.held + ahead
        reader.is_reading = True
        generation = reader.generation
        after, prefixes = reader.read_until, reader.prefixes

        def take(result: jobs.Part | Exception) -> None:
            if reader.generation == generation:
                reader.is_reading = False
                self._arrived(reader, result)

        self._worker.ask(lambda: jobs.read(self._stream, after, prefixes, rows, size), take)

    def _arrived(self, reader: Reader, result: jobs.Part | Exception) -> None:
        """Keep what was read for a reader until what comes before is sent."""
        if isinstance(result, jobs.Part):
            reader.held += result.memory
        self._held[reader] = reader.held
        if not reader.has_part:
            self._take(reader, result)
        elif isinstance(result, jobs.Part):
            reader.ahead = result

    def _end_part(self, reader: Reader) -> None:
        """Go on with what was read ahead for a reader."""
        ahead, reader.ahead = reader.ahead, None
        reader.held = self._held[reader] = 0 if ahead is None else ahead.memory
        if ahead is not None:
            self._take(reader, ahead)

    def _take(self, reader: Reader, result: jobs.Part | Exception) -> None:
        if isinstance(result, Exception):
            self._events.report("store", f"the stream can't be read, trying again: {result}")
            self._wait(reader, _RETRY_STORE)
            return
        before = reader.at
        if result.lost is not None:
            reader.add_lost(*result.lost)
            self.lost += result.lost[1] - result.lost[0] + 1
            first, last = result.lost
            text = f"a reader at {reader.peer} has lost positions {first} to {last}, which are no longer kept"
            self._events.report("lost", text)
        reader.set_part(result)
        if reader.has_part and reader.read_until < self._window.low:
            # What follows is there when its credit comes.
            self._read(reader)
        self._announce_safely(reader)
        if not reader.has_part and reader.at == before:
            # The store has not got yet what the window has had.
            self._wait(reader, _RETRY_MAX)
        else:
            self.push(reader)


def _size(entry: Entry) -> int:
    # By the places: by the names it would take longer, and this is done for each message.
    return len(entry[2]) + len(entry[3])
