# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handing the stream of a relay on to other relays: all of it, in order, confirmed, from where it stopped.

Each address of ``relay_upstream`` has a thread. Up to where messages were handed on is kept in the relay's own
store, under the id of the stream at the other side and not under its address: a relay that has moved goes on
where it was, and one whose store is new, or was brought back from a copy, gets everything that is kept here.
Of several addresses that lead to the same stream one is used at a time; one that leads back to this relay is
never used.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.exceptions import StoreError
from fedmsg.stream import jobs, protocol
from fedmsg.stream.confirming import Confirming, curve_name
from fedmsg.stream.records import Entry, HandedOn
from fedmsg.stream.window import Window
from fedmsg.transport.pending import Pending
from fedmsg.transport.zmq import addresses, curve

__all__ = ["KEY", "Kept", "Upstreams"]

log = logging.getLogger("fedmsg.stream")

#: Where the addresses are configured.
KEY = "relay_upstream"

# After so many bytes that are not confirmed yet no more is read.
_IN_FLIGHT_BYTES = 8 * 1024 * 1024
# Seconds between two times that the cursor is stored, and until the store is tried again.
_SAVE_INTERVAL = 1.0
_RETRY = 1.0
# Seconds for which an address is left that leads to where another one leads.
_PAUSE = 10.0
# Seconds between two lines about a relay that is away.
_AWAY_INTERVAL = 60.0


class Kept(jobs.Readable, Protocol):
    """What is needed of a stream to hand it on."""

    def handed_on(self) -> list[HandedOn]:
        """Return up to where messages were handed on."""

    def save_handed_on(self, done: HandedOn) -> None:
        """Store it for one other relay."""


class _Claims:
    """Which address hands on to which stream."""

    def __init__(self, own: str) -> None:
        self._lock = threading.Lock()
        self._holders = {own: ""}

    def take(self, stream: str, address: str) -> str | None:
        """Return which address has the stream, empty for this relay itself; None when this one has it now."""
        with self._lock:
            holder = self._holders.setdefault(stream, address)
            return None if holder == address else holder

    def release(self, address: str) -> None:
        with self._lock:
            for stream in [stream for stream, holder in self._holders.items() if holder == address]:
                del self._holders[stream]


class _Upstream:
    """One address: what is sent there next, and how far that has come. A `fedmsg.stream.confirming.Feed`.

    Attributes:
        counts: ``handed_on``; ``skipped``, which that relay had already; ``rejected`` by it; ``lost`` to retention.
        is_connected: Whether messages can be handed on at present.
    """

    def __init__(
        self, address: str, *, timeout: float, stream: Kept, window: Window, claims: _Claims, cursor: int
    ) -> None:
        self.address = address
        self._own = stream
        self._window = window
        self._claims = claims
        self._timeout = timeout
        self._events = RateLimitedLog(log)
        self._away = RateLimitedLog(log, every=_AWAY_INTERVAL)
        self._news = RateLimitedLog(log, level=logging.INFO)
        self.counts: Counter[str] = Counter()
        self.is_connected = False
        # Of the stream there.
        self._stream = ""
        self._there = self._max_size = 0
        # What was read last and is not sent yet; what is not settled, with its position and that before the next one.
        self._read: deque[Entry] = deque()
        self._in_flight: deque[tuple[Pending, int, int]] = deque()
        self._size = 0
        # Everything up to these was read, handed on, and stored as that; up to the last it may have been sent before.
        self._at = self._done = self._saved = cursor
        self._unsure = 0
        self._next_save = self._next_read = 0.0
        # Which address was in the way when that was logged.
        self._holder: str | None = None

    def statistics(self) -> dict[str, Any]:
        """Return figures for status reports and metrics."""
        return {
            "address": self.address,
            "used": self._holder is None,
            "connected": self.is_connected,
            "cursor": self._done,
            "lag": 0 if self._holder is not None else max(0, self._window.newest - self._done),
            **{kind: self.counts[kind] for kind in ("handed_on", "skipped", "rejected", "lost")},
        }

    # ---------------------------------------------------------------- connections

    def opened(self, relay: Mapping[str, Any]) -> float:
        """Go on where that stream has come to; 0, or for how many seconds to leave that relay."""
        stream, size = relay.get("stream"), relay.get("max_message_size")
        if not isinstance(stream, str) or not protocol.is_stream(stream):
            text = f"the relay at {self.address} sends no valid id of a stream; nothing is handed on to it"
            self._events.report("malformed", text)
            return _PAUSE
        holder = self._claims.take(stream, self.address)
        if holder is not None:
            self._note_holder(holder)
            return _PAUSE
        try:
            self._at = self._begin(stream, relay.get("newest"))
        except StoreError as error:
            self._claims.release(self.address)
            self._events.report("store", f"the stream can't be read to hand it on: {error}")
            return _RETRY
        self._stream, self._holder = stream, None
        self._max_size = size if isinstance(size, int) and size > 0 else 0
        # The cursor stays where it is until something was handed on.
        self._done = self._saved = self._at
        self._unsure = self._window.newest
        self._next_save = self._next_read = 0.0
        self.is_connected = True
        text = f"handing on to the relay at {self.address}, after position {self._at} of {self._unsure}"
        self._news.report("connected", text)
        return 0.0

    def _begin(self, stream: str, newest: object) -> int:
        """Return the position after which a stream is to be handed on.

        Raises:
            StoreError: The store can't be read.
        """
        known = next((done for done in self._own.handed_on() if done.stream == stream), None)
        self._there = 0
        if known is not None:
            if not isinstance(newest, int) or newest >= known.there:
                self._there = known.there
                return known.position
            text = f"the relay at {self.address} has lost what it had after position {newest}; handing on all there is"
            self._events.report("restored", text)
        return self._own.first() - 1

    def _note_holder(self, holder: str) -> None:
        if holder != self._holder:
            self._holder = holder
            where = f"the relay that {holder} leads to" if holder else "this relay itself"
            log.info("%s: %s leads to %s, and is not used", KEY, self.address, where)

    def closed(self, reason: str) -> None:
        """Forget what is not confirmed: it is read again with the next connection."""
        self._settle()
        self._read.clear()
        self._in_flight.clear()
        self._size = 0
        self._at = self._done
        if self.is_connected:
            self.is_connected = False
            self._save()
            self._claims.release(self.address)
        if reason:
            lag = max(0, self._window.newest - self._done)
            text = f"nothing can be handed on to the relay at {self.address}, {lag} messages wait: {reason}"
            self._away.report("away", text)

    # ---------------------------------------------------------------- messages

    @property
    def waits(self) -> bool:
        """Whether there is more that can be sent at once."""
        if self._size >= _IN_FLIGHT_BYTES or time.monotonic() < self._next_read:
            return False
        return bool(self._read) or self._at < self._window.newest

    def more(self, room: int) -> list[Pending]:
        """Return what is to be sent next, and note what was confirmed."""
        self._settle()
        if self._saved != self._done and time.monotonic() >= self._next_save:
            self._save()
        found: list[Pending] = []
        while len(found) < room and self.waits:
            if not self._read and not self._fill():
                break
            while self._read and len(found) < room and self._size < _IN_FLIGHT_BYTES:
                self._add(self._read.popleft(), found)
        return found

    def _fill(self) -> bool:
        """Read on: from memory near the end of the stream, else from the store; whether that has worked."""
        entries = self._window.read(self._at, jobs.ROWS_MAX)
        if entries is None:
            try:
                part = jobs.read(self._own, self._at, (), jobs.ROWS_MAX, jobs.BYTES_MAX)
            except StoreError as error:
                self._next_read = time.monotonic() + _RETRY
                self._events.report("store", f"the stream can't be read to hand it on: {error}")
                return False
            if part.lost is not None:
                self._note_lost(*part.lost)
            entries = part.entries
        self._read.extend(entries)
        if entries:
            self._at = entries[-1].position
        return bool(entries)

    def _note_lost(self, first: int, last: int) -> None:
        self.counts["lost"] += last + 1 - first
        text = f"retention has removed the positions {first} to {last} before they were handed on to {self.address}"
        self._events.report("lost", text)
        self._at = last
        self._pass(last)

    def _add(self, entry: Entry, found: list[Pending]) -> None:
        size = len(entry.topic) + len(entry.body)
        if self._stream in entry.via:
            self.counts["skipped"] += 1
            self._pass(entry.position)
            return
        via, again = (*entry.via, self._own.stream), entry.position <= self._unsure
        pending = Pending(entry.topic, entry.body, self._timeout, via=via, again=again)
        self._in_flight.append((pending, entry.position, entry.position))
        self._size += size
        if self._max_size and size > self._max_size:
            # One that is far too large would end the connection, again and again.
            reason = f"it has {size} bytes, and the limit there is {self._max_size}"
            pending.settle(None, (reason, protocol.CODE_REJECTED))
        else:
            found.append(pending)

    def _pass(self, position: int) -> None:
        """Note that nothing is to be sent of what comes next, up to a position."""
        if self._in_flight:
            self._in_flight[-1] = (*self._in_flight[-1][:2], position)
        else:
            self._done = position

    def _settle(self) -> None:
        in_flight = self._in_flight
        while in_flight and in_flight[0][0].is_settled:
            pending, position, until = in_flight[0]
            if pending.rejection is not None:
                self._note_rejected(position, pending.rejection[0])
            elif pending.position is None:
                # The thread ends.
                return
            else:
                self.counts["handed_on"] += 1
                self._there = max(self._there, pending.position)
            in_flight.popleft()
            self._size -= len(pending.topic) + len(pending.body)
            self._done = until

    def _note_rejected(self, position: int, reason: str) -> None:
        self.counts["rejected"] += 1
        text = f"the relay at {self.address} rejects the message at position {position}, going on after it: {reason}"
        self._events.report("rejected", text)

    def _save(self) -> None:
        done = self._done
        self._next_save = time.monotonic() + _SAVE_INTERVAL
        if done == self._saved:
            return
        try:
            self._own.save_handed_on(HandedOn(self._stream, done, self._there, time.time(), self.address))
        except StoreError as error:
            self._events.report("store", f"it can't be stored how far messages were handed on, trying again: {error}")
        else:
            self._saved = done


class Upstreams(Closeable):
    """Hands the stream on to all relays of ``relay_upstream``.

    Args:
        config: The configuration.
        stream: The stream.
        window: Its newest messages.

    Raises:
        ConfigError: Something is no address.
        RefusedAtStart: A key for CURVE can't be read.
    """

    def __init__(self, config: Mapping[str, Any], stream: Kept, window: Window) -> None:
        self._closed = True  # until there is something to close
        found = dict.fromkeys(addresses.checked(settings.get(config, KEY), KEY))
        if found:
            curve.prepare(config, [curve_name(config)])
        claims = _Claims(stream.stream)
        last = {done.address: done.position for done in stream.handed_on()} if found else {}
        start = stream.first() - 1 if found else 0
        timeout: float = settings.get(config, "timeout")
        self._all = [
            _Upstream(one, timeout=timeout, stream=stream, window=window, claims=claims, cursor=last.get(one, start))
            for one in found
        ]
        self._threads = [Confirming(config, [upstream.address], upstream) for upstream in self._all]
        self._closed = False

    def start(self) -> None:
        """Start to hand on."""
        for thread in self._threads:
            thread.start()

    def notify(self) -> None:
        """Look for what was stored; called after it is in the window."""
        for upstream, thread in zip(self._all, self._threads, strict=True):
            if upstream.is_connected:
                thread.notify()

    @property
    def alive(self) -> bool:
        """Whether all of them can work."""
        return all(thread.alive for thread in self._threads)

    def statistics(self) -> Sequence[dict[str, Any]]:
        """Return figures of each."""
        return [upstream.statistics() for upstream in self._all]

    def _close(self) -> None:
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.close()
