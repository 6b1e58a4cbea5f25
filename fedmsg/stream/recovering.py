# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a relay no longer keeps comes from a datagrepper, before what the relay still has.

The stream counts by when a message was stored, and history by when it was published. So some more is asked for
on both sides of what is missing, and what the reader has had or will have from the stream is left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fedmsg import _wire, crypto
from fedmsg._util.bounded import SEEN_MESSAGES, SeenIds
from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import ServiceThread
from fedmsg._util.text import shown_url
from fedmsg.config import settings
from fedmsg.crypto.utils import fix_datagrepper_message
from fedmsg.exceptions import FedmsgError, MessageError, PositionGone, QueryError
from fedmsg.store.history import Datagrepper, Topics
from fedmsg.store.recovery import Message, is_time, message_key, recover, time_text
from fedmsg.stream import asking
from fedmsg.stream.gap import Gap
from fedmsg.stream.inbox import Inbox, StreamDelivery

__all__ = ["Recovery", "recovery_of"]

log = logging.getLogger("fedmsg.stream")

# Seconds that a message may take from its publisher to the relay, and that the clock of a publisher may be ahead.
_LATE = 60.0
_AHEAD = 5.0
# The same at the start of a reader that does not know what was handled before: it gets these twice.
_LATE_UNKNOWN = 2.0
# What is remembered of what was received: so many messages and bytes.
_RECENT_MAX = 20_000
_RECENT_BYTES_MAX = 8 * 1024 * 1024
# Seconds for a page of history: what comes live waits meanwhile.
_TIMEOUT = 20.0
# How often a page that fails is asked for again, each time after twice as long: half a minute, in which a datagrepper
# that is started anew is back.
_RETRIES = 5
# Seconds until a relay that does not answer is not asked any more where its stream begins.
_ASKING_MAX = 10.0
# Seconds that the relay, or the owner, is waited for before it is looked at whether this is to end.
_TICK = 1.0


class Recovery(ServiceThread):
    """Gets from a datagrepper what is missing in a stream; the thread is started when something is.

    Args:
        config: The configuration.
        topics: Returns the prefixes of the topics that are wanted.
        inbox: Where messages go.
        counts: Where ``lost`` and ``recovered`` are counted.
        rejections: Where messages that are too large are counted and logged.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topics: Callable[[], list[str]],
        inbox: Inbox,
        counts: Counter[str],
        rejections: RejectionLog,
    ) -> None:
        super().__init__("fedmsg-history")
        self._config = config
        self._address = shown_url(settings.get(config, "datagrepper_url"))
        self._lock = threading.RLock()
        self._topics = topics
        self._inbox = inbox
        self._counts = counts
        self._rejections = rejections
        self._max_size: int = settings.get(config, "max_message_size")
        signed = settings.get(config, "validate_signatures")
        self._clean = partial(crypto.as_signed, config=config) if signed else fix_datagrepper_message
        self._history: Datagrepper | None = None
        self._gaps: deque[Gap] = deque()
        # The newest, and the one that is in work or was it last.
        self._last: Gap | None = None
        self._current: Gap | None = None
        # Stored, topic and body of the newest messages that were received.
        self._recent: deque[tuple[float, bytes, bytes]] = deque()
        self._recent_size = 0
        self._has_evicted = False
        # As long as nothing was received: from when on it is wanted, and how much earlier it may have been published.
        self._from: tuple[float, float] | None = None
        # Of the gap in work: what was received before. Of all: what came from history, and may come from the stream.
        self._had: frozenset[str] = frozenset()
        self._given: SeenIds[str] = SeenIds(SEEN_MESSAGES)
        self._look_until = 0.0
        self._overlap_from = 0.0

    # ---------------------------------------------------------------- the thread that receives

    def received(self, deliveries: list[StreamDelivery]) -> None:
        """Note what is passed on."""
        recent, self._from = self._recent, None
        for delivery in deliveries:
            recent.append((delivery.stored, delivery.frame, delivery.data))
            self._recent_size += len(delivery.frame) + len(delivery.data)
        while len(recent) > _RECENT_MAX or self._recent_size > _RECENT_BYTES_MAX:
            _, topic, body = recent.popleft()
            self._recent_size -= len(topic) + len(body)
            self._has_evicted = True

    def is_new(self, delivery: StreamDelivery) -> bool:
        """Return whether a message of the stream did not come from history."""
        if delivery.stored > self._look_until:
            return True
        try:
            key = message_key(_wire.parse(delivery.frame, delivery.data))
        except MessageError:
            return True  # it is rejected later
        if key in self._given:
            self._counts["duplicates"] += 1
            if (gap := self._current) is not None:
                with self._lock:
                    # So it was not in the gap.
                    gap.found -= 1
                    if gap.is_over:
                        self._settle(gap)
            return False
        return True

    @property
    def looks(self) -> bool:
        """Whether a message of the stream may have come from history."""
        return self._look_until > 0

    def looked(self, stored: float) -> None:
        """Note that the stream has come to messages of a time; it is not gone back to."""
        if not self._inbox.is_holding and stored > self._look_until:
            self._look_until = 0.0
            self._given = SeenIds(SEEN_MESSAGES)

    def begin_now(self) -> None:
        """Note that what is wanted begins now."""
        self._from = self._from or (time.time(), _LATE_UNKNOWN)

    def begin(self, address: str, since: float, after: int, *, is_known: bool) -> None:
        """Get what was stored since a time and comes before what is after a position, unless the relay has it all.

        Args:
            address: The address of the relay.
            since: The time.
            after: The position.
            is_known: Whether nothing before that time was handled.
        """
        self._add(Gap(address, since, 0.0 if is_known else _LATE_UNKNOWN, after))

    def lost(self, address: str, first: int, last: int) -> bool:
        """Get what was at positions that the relay no longer keeps; whether it is known from when that is."""
        gap, count = self._last, last - first + 1
        with self._lock:
            if gap is not None and first <= gap.last + 1 and (gap.end is None or last < gap.until):
                gap.last = max(gap.last, last)
                gap.lost += count
                if gap.is_over:
                    self._settle(gap)
                return True
        recent = list(self._recent)
        if self._from is not None:
            start, late = self._from
            if gap is not None and gap.end is not None and gap.until != gap.after:
                start, late = gap.end, _LATE
            made = Gap(address, start, late, first - 1, recent)
        elif recent:
            start = recent[-1][0]
            late = min(_LATE, max(0.0, start - recent[0][0])) if self._has_evicted else _LATE
            made = Gap(address, start, late, first - 1, recent)
        else:
            return False
        made.last, made.lost = last, count
        self._add(made)
        return True

    def _add(self, gap: Gap) -> None:
        self._last, self._from = gap, (gap.start, gap.late)
        self._inbox.hold(gap.last)
        self._gaps.append(gap)
        if not self.alive:
            self.start()
        self.waker.wake()

    # ---------------------------------------------------------------- the thread of its own

    def run(self) -> None:
        """Recover one gap after the other."""
        self.ready()
        while not self.stopping:
            self.waker.clear()
            if not self._gaps:
                self.waker.wait()
                continue
            gap = self._current = self._gaps.popleft()
            if not self._recover(gap):
                # What was held back is not passed on after a part of what comes before it.
                return
            self._inbox.release(self.is_new)
            with self._lock:
                gap.is_over = True
                if gap.until != gap.after:
                    self._settle(gap, is_first=True)

    def _recover(self, gap: Gap) -> bool:
        """Get what is missing, as far as it can be had; False at a stop."""
        try:
            if not self._find_end(gap) or gap.end is None:
                return not self.stopping
            start, end = max(0.0, gap.start - gap.late), gap.end + _AHEAD
            had = (_key_of(topic, body) for stored, topic, body in gap.had if stored >= start - _AHEAD)
            self._had = frozenset(filter(None, had))
            self._overlap_from = gap.end - _LATE if gap.is_known else 0.0
            self._look_until = max(self._look_until, end + _LATE)
            self._read(gap, start, min(end, time.time()))
        except FedmsgError as error:
            gap.error = error
        except Exception as error:
            # Whatever it is, what the relay still has is passed on.
            log.exception("what the relay no longer keeps can't be had")
            gap.error = QueryError(f"{type(error).__name__}: {error}")
        finally:
            self._had, gap.had = frozenset(), []
        return not self.stopping

    def _find_end(self, gap: Gap) -> bool:
        """Find out when the first message after a gap was stored; whether anything is missing before it."""
        deadline = time.monotonic() + _ASKING_MAX
        while not self.stopping:
            wanted = max(1, gap.last)
            try:
                found = asking.get(self._config, gap.address, wanted, _TICK, is_first=True).options
                position, stored = found.get("position"), found.get("stored")
            except PositionGone:
                position, stored = gap.last + 1, time.time()
            except (FedmsgError, OSError) as error:
                if time.monotonic() < deadline:
                    continue
                # It may have gone for good, and the reader be at another relay: all may come from both.
                log.info("it is not known where the stream at %s begins: %s", gap.address, error)
                position, stored, gap.is_known = gap.last + 1, time.time(), False
            if type(position) is not int or not is_time(stored):
                raise MessageError(f"{gap.address} does not answer with a position and a time", "envelope")
            with self._lock:
                if gap.last > wanted:
                    continue  # more was lost meanwhile
                gap.until, gap.end = position, stored
            # Where the message before what is sent is kept, all before it is, back to the time.
            return not (gap.after and position == gap.after)
        return False

    def _read(self, gap: Gap, start: float, end: float) -> None:
        self._history = history = Datagrepper(
            settings.get(self._config, "datagrepper_url"),
            Topics(self._topics()),
            timeout=_TIMEOUT,
            retries=_RETRIES,
            log=log,
            clean=self._clean,
        )
        span = f"from {time_text(start)} to {time_text(end)}"
        log.info("%s: getting from %s what the relay no longer keeps, %s", gap.address, self._address, span)
        if self.stopping:
            history.stop()
        messages = recover(history, start, end, self)
        while not self.stopping:
            try:
                envelope = next(messages)
            except StopIteration as ending:
                gap.error = ending.value
                return
            self._pass_on(gap, envelope)

    def claim(self, message: Message) -> bool:
        """Take a message of history, unless it was received before, or has come from there."""
        key = message_key(message)
        if key in self._had or key in self._given:
            return False
        when = message.get("timestamp")
        if not is_time(when) or when >= self._overlap_from:
            self._given.add(key)
        return True

    def _pass_on(self, gap: Gap, envelope: Message) -> None:
        topic = envelope["topic"]
        try:
            body = _wire.encode(envelope, topic)
            _wire.check_size(len(topic.encode()) + len(body), self._max_size)
        except MessageError as error:
            self._rejections.add(self._address, error)
            return
        while not self._inbox.wait_for_room(_TICK):
            if self.stopping:
                return
        when = envelope.get("timestamp")
        published = float(when) if is_time(when) else gap.start
        self._inbox.put_recovered(self._address, published, topic.encode(), body)
        with self._lock:
            gap.found += 1
        self._counts["recovered"] += 1

    # ---------------------------------------------------------------- what is lost all the same

    def _settle(self, gap: Gap, *, is_first: bool = False) -> None:
        """Count what is lost all the same, and log it the first time; the lock is held."""
        # Of some topics it is not known how many of the positions were theirs.
        can_be_counted = gap.error is not None or "" in self._topics()
        missing = max(0, gap.lost - gap.found) if can_be_counted else 0
        more, gap.counted = missing - gap.counted, missing
        if more > 0:
            self._counts["lost"] += more
        if is_first and (more > 0 or gap.error is not None):
            why = f": {gap.error}" if gap.error is not None else ""
            log.warning(
                "%s: lost what was stored since %s and the relay no longer keeps, positions %d to %d, of which %s has "
                "%d%s",
                gap.address, time_text(gap.start), gap.after + 1, max(gap.last, gap.until - 1), self._address,
                gap.found, why,
            )  # fmt: skip

    def stop(self) -> None:
        """Recover no more, without waiting for what is asked for."""
        super().stop()
        if self._history is not None:
            self._history.stop()


def recovery_of(
    config: Mapping[str, Any],
    topics: Callable[[], list[str]],
    inbox: Inbox,
    counts: Counter[str],
    rejections: RejectionLog,
) -> Recovery | None:
    """Return what gets messages from ``datagrepper_url``, if one is set; the arguments are those of `Recovery`."""
    if not settings.get(config, "datagrepper_url"):
        return None
    return Recovery(config, topics, inbox, counts, rejections)


def _key_of(topic: bytes, body: bytes) -> str | None:
    try:
        return message_key(_wire.parse(topic, body))
    except MessageError:
        return None
