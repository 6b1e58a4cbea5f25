# SPDX-License-Identifier: LGPL-2.1-or-later
"""A subscription: reads the stream of a relay, history and live messages by one path.

A thread of its own keeps the connection, so that heartbeats do not depend on what the owner does; it receives
no more than the credit that the owner has returned by taking messages.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import Closeable, Waker
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, UsageError
from fedmsg.stream import protocol
from fedmsg.stream.begin import Begin, prefixes_of, requested
from fedmsg.stream.inbox import StreamDelivery
from fedmsg.stream.progress import Progress, StoredPosition
from fedmsg.stream.receiving import Receiving
from fedmsg.stream.session import curve_name
from fedmsg.transport.zmq import addresses as zmq_addresses
from fedmsg.transport.zmq import contexts, curve

__all__ = ["StreamDelivery", "Subscription", "checked_name", "open_reader", "open_subscription"]

log = logging.getLogger("fedmsg.stream")


class Subscription(Closeable):
    """Reads the stream of a relay; satisfies `fedmsg.transport.base.Source`.

    The connection is made anew by itself, and the subscription goes on after its last message. A plain one
    moves on to the next address when a relay has gone; a durable one waits for the relay at the first address.

    Args:
        config: The configuration, for the options of the socket, for CURVE and for ``stream_credit``; and for
            ``datagrepper_url``, which has what the relay no longer keeps.
        addresses: Where the relay is; those after the first are other relays with the same messages.
        topics: Prefixes of topics, one or several.
        after: Begin after a position, or a ``msg_id``; 0 or ``"first"`` is the first message that is kept.
        since: Begin with what was stored since then: seconds since the epoch, ISO 8601, or an age such as ``2h``.
        last: Begin with so many of the newest messages of these topics. Without any of these: new messages only.
        durable: The name of a durable subscription, whose cursor the relay keeps. Where to begin counts only
            when the name is new.
        rejections: Where rejected messages are counted and logged; one of its own when not given.
        stored: Returns how far the owner has stored, or where it wants to begin, or None; called before the
            subscription begins, and again while it raises Unavailable.

    Raises:
        UsageError: The arguments make no sense. A ValueError.
        ConfigError: Something is no address, or there is none.
        RefusedAtStart: The keys for CURVE can't be read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        addresses: str | Sequence[str],
        topics: str | Iterable[str] = "",
        *,
        after: int | str | None = None,
        since: float | str | None = None,
        last: int | None = None,
        durable: str | None = None,
        rejections: RejectionLog | None = None,
        stored: Callable[[], StoredPosition | Begin | None] = lambda: None,
    ) -> None:
        self._closed = True  # until there is something to close
        wanted = zmq_addresses.checked(addresses, "relay_stream")
        if not wanted:
            raise ConfigError("relay_stream: no address is configured")
        self.rejections = rejections or RejectionLog(log)
        self._topics = prefixes_of(topics)
        name = checked_name(durable)
        curve.prepare(config, [curve_name(config)])
        self._generation = contexts.generation
        self._progress = Progress(requested(after=after, since=since, last=last))
        self._receiving = Receiving(
            config,
            wanted,
            self._progress,
            topics=lambda: list(self._topics),
            durable=name,
            rejections=self.rejections,
            stored=stored,
        )
        self._inbox = self._receiving.inbox
        #: Whether it has a name, so that acknowledging has an effect.
        self.is_durable = bool(name)
        self._waker = Waker()
        self._closed = False
        try:
            self._receiving.start()
        except BaseException:
            self.close()
            raise

    # ---------------------------------------------------------------- receiving

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to `poll`."""
        return self._inbox.ready.fileno()

    def poll(self, limit: int) -> list[StreamDelivery]:
        """Return what has arrived, at most so many, without waiting.

        Raises:
            PositionGone: There is no such place to begin. A ValueError and LookupError.
            QueryError: The relay has rejected the subscription. A ValueError.
            RefusedAtStart: A key for CURVE can't be read any more.
        """
        taken = self._inbox.take(limit)
        if not taken and (ending := self._receiving.ending or self._receiving.failure) is not None:
            # For the next wait, too.
            self._inbox.notify()
            raise ending
        return taken

    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is something to `poll`, or `wake` is called; it may return earlier."""
        if self._inbox.is_empty:
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            poll.poll(None if timeout is None else max(0.0, timeout) * 1000)

    def wait_for_wake(self, timeout: float) -> None:
        """Wait until `wake` is called, and leave messages where they are."""
        self._waker.wait(timeout)

    def wake(self) -> None:
        """End a wait of the owner; any thread may call this."""
        self._waker.wake()
        self._inbox.notify()

    @property
    def idle(self) -> bool:
        """Whether everything that has arrived is read, so that `fileno` may be waited for."""
        return self._inbox.is_empty

    @property
    def recheck(self) -> None:
        """Seconds after which `poll` is to be called again: it need not be, the thread looks after everything."""

    def subscribe(self, prefixes: Iterable[str]) -> None:
        """Receive topics that begin with these, too, from where the subscription has come to.

        Raises:
            UsageError: They are no texts, or too many, or too long.
        """
        self._topics = prefixes_of([*self._topics, *prefixes])
        self._receiving.opens_again = True
        self._receiving.waker.wake()

    def unsubscribe(self, prefixes: Iterable[str]) -> None:
        """Receive topics that begin with these no more; one at least has to stay.

        Raises:
            UsageError: None stays.
        """
        gone = [*prefixes]
        left = [topic for topic in self._topics if topic not in gone]
        if not left:
            raise UsageError("a subscription has at least one topic")
        self._topics = left
        self._receiving.opens_again = True
        self._receiving.waker.wake()

    # ---------------------------------------------------------------- state

    @property
    def stream(self) -> str:
        """The id of the stream; empty before it is known."""
        return self._progress.stream

    @property
    def position(self) -> int | None:
        """The position up to which the stream was received; None before the subscription has begun."""
        progress = self._progress
        return progress.looked_at if progress.stream else None

    @property
    def is_recovering(self) -> bool:
        """Whether what the relay no longer keeps is being read from a datagrepper, and what follows is held back."""
        return self._receiving.is_recovering

    @property
    def cursor(self) -> int | None:
        """The position up to which everything is acknowledged; None before the subscription has begun."""
        progress = self._progress
        return self._inbox.cursor(progress.looked_at) if progress.stream else None

    @property
    def newest(self) -> int:
        """The newest position of the stream that is known."""
        return max(self._receiving.newest, self._progress.looked_at)

    @property
    def connected(self) -> list[str]:
        """The address of the relay that serves at the moment, if one does."""
        address = self._receiving.address
        return [address] if address else []

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        counts = self._receiving.counts
        position = self.position
        return {
            "endpoints": 1,
            "connected": len(self.connected),
            "rejected": self.rejections.counts.total(),
            "stream": self.stream,
            "position": position,
            "lag": 0 if position is None else max(0, self.newest - position),
            **{name: counts[name] for name in ("received", "recovered", "duplicates", "lost", "gaps", "connections")},
        }

    def pace(self, seconds: float) -> None:
        """Do nothing: a relay waits for an acknowledgement as long as it takes."""

    def totals(self) -> dict[str, int]:
        """Return counts for those of a consumer."""
        counts = self.statistics()
        cursor = self.cursor or 0
        return {
            "position": cursor,
            "lag": max(0, self.newest - cursor) if self.stream else 0,
            **{name: counts[name] for name in ("recovered", "lost", "duplicates", "gaps", "connected", "connections")},
        }

    def _close(self) -> None:
        # In a forked child the thread is not there, and the socket is that of the parent.
        if self._generation != contexts.generation:
            self._receiving.forget()
        else:
            self._receiving.close()
        self._inbox.close()
        self._waker.close()


def open_subscription(
    config: Mapping[str, Any], topics: str | Iterable[str], *, rejections: RejectionLog, **begin: Any
) -> Subscription:
    """Subscribe to the stream at ``relay_stream``; ``begin`` says where, as for `Subscription`.

    Raises:
        UsageError: The arguments make no sense. A ValueError.
        ConfigError: Something is no address, or there is none.
        RefusedAtStart: The keys for CURVE can't be read.
    """
    return Subscription(config, settings.get(config, "relay_stream"), topics, rejections=rejections, **begin)


def open_reader(
    config: Mapping[str, Any],
    prefixes: Sequence[str],
    name: str,
    *,
    is_ordered: bool,
    rejections: RejectionLog,
    stored: Callable[[], StoredPosition | None],
    begin: Mapping[str, Any],
) -> Subscription:
    """Open what reads for a durable consumer, under its name; the stream is in order, whatever ``is_ordered`` says.

    Raises:
        UsageError: ``begin`` makes no sense. A ValueError.
        ConfigError: ``relay_stream`` has no address, or what is none.
        RefusedAtStart: The keys for CURVE can't be read.
    """
    del is_ordered
    where = zmq_addresses.as_list(settings.get(config, "relay_stream"))
    if not where:
        raise ConfigError(f"relay_stream has no address, and {name} is durable: set it to that of a relay with a store")
    return Subscription(config, where, prefixes, durable=name, rejections=rejections, stored=stored, **begin)


def checked_name(durable: object) -> str:
    """Return the name of a durable subscription; an empty one for a plain subscription.

    Raises:
        UsageError: It can't be a name. A ValueError.
    """
    if durable is None:
        return ""
    if not isinstance(durable, str) or not durable or not durable.isprintable():
        raise UsageError(f"durable={durable!r} is no name")
    if len(durable.encode()) > protocol.NAME_BYTES_MAX:
        raise UsageError(f"durable={durable!r} has more than {protocol.NAME_BYTES_MAX} bytes")
    return durable
