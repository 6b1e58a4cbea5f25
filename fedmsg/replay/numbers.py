# SPDX-License-Identifier: LGPL-2.1-or-later
"""The numbers of one service, which only messages of that service move.

Another publisher can send a message with any number through the same endpoint. So a jump that the
replay server does not know does not count, and where signatures are checked the server has to
confirm each signer once.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import closing

from fedmsg._util.bounded import SeenIds
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.text import quoted
from fedmsg.exceptions import FedmsgError
from fedmsg.replay import protocol
from fedmsg.replay.history import ReplayHistory
from fedmsg.store.recovery import Message, message_key, recover

__all__ = ["ServiceNumbers", "number_of"]

log = logging.getLogger("fedmsg.replay")

# How many filled and unfilled gaps are remembered, to recognise late and duplicate messages.
_GAPS_MAX = 100
# Seconds between two queries whether numbers have begun again, and about the same signer.
_CHECK_INTERVAL = 10.0
_SIGNERS_MAX = 1000
_UNCOUNTED_MAX = 10_000

_Interval = tuple[int, int]


class ServiceNumbers:
    """The numbers of one service: what was passed on, what is missing, and whose messages they are."""

    def __init__(
        self,
        name: str,
        numbers: MutableMapping[str, int],
        *,
        signed: bool,
        counts: Counter[str],
        events: RateLimitedLog,
        open_history: Callable[[str, Callable[[Message], bool]], ReplayHistory],
    ) -> None:
        self._name = name
        self._numbers = numbers
        self._signed = signed
        self._counts = counts
        self._events = events
        # Intervals of numbers: replayed; passed on beyond the last number; not had; and those of
        # these that the server has not confirmed.
        self._replayed: deque[_Interval] = deque(maxlen=_GAPS_MAX)
        self._ahead: deque[_Interval] = deque(maxlen=_GAPS_MAX)
        self._holes: deque[_Interval] = deque(maxlen=_GAPS_MAX)
        self._doubtful: deque[_Interval] = deque(maxlen=_GAPS_MAX)
        # Messages that were passed on without counting: a replay may bring them again.
        self._uncounted: SeenIds[str] = SeenIds(_UNCOUNTED_MAX)
        self._signers: SeenIds[object] = SeenIds(_SIGNERS_MAX)
        self._denied: SeenIds[object] = SeenIds(_SIGNERS_MAX)
        self._first_signer: object = None
        self._check_at: dict[object, float] = {}
        self.ahead_start = math.inf
        self._history = open_history(name, self.is_live)
        # The first of all messages, until the server has confirmed it.
        self._first: Message | None = None
        # The message that is being taken, and whether the server has it under its number.
        self._live: Message = {}
        self._live_number = -1
        self._is_confirmed = False
        # How many messages of the current gap the server had.
        self._found = 0

    @property
    def _last(self) -> int:
        """The last number of the service."""
        return self._numbers[self._name]

    @_last.setter
    def _last(self, number: int) -> None:
        self._numbers[self._name] = number

    def is_unknown(self, message: Message) -> bool:
        """Return whether a message is of a signer that the server has not confirmed."""
        return self._signed and _signer(_envelope(message)) not in self._signers

    def is_live(self, message: Message) -> bool:
        """Return whether a replayed message is the one that is being taken."""
        return number_of(message) == self._live_number and _is_same(message, self._live)

    def begin(self, number: int, message: Message) -> None:
        """Count the number of the first message."""
        self._last, self._first = number, _envelope(message)

    def take(self, number: int, message: Message) -> Iterator[Message]:
        """Yield what is to be passed on now that a message has come."""
        self._live, self._live_number, self._is_confirmed = _envelope(message), number, False
        with closing(self._history):
            for one in self._due(number, message):
                is_replayed = one is not message
                yield {"topic": one.get("topic"), "body": one} if is_replayed and _is_wrapped(message) else one

    def catch_up(self) -> Iterator[Message]:
        """Yield what the server has after the last number, until it has nothing more, or does not answer."""
        error: FedmsgError | None = None
        before = -1
        self._live, self._live_number = {}, -1
        with closing(self._history):
            while before < self._last and error is None:
                before = self._last
                error = yield from recover(self._history, before + 1, before + protocol.AT_ONCE, self)
        if error is not None:
            log.warning(
                "%s is not asked for what it has sent after number %d before it sends more: %s",
                self._name, self._last, quoted(str(error)),
            )  # fmt: skip

    def _due(self, number: int, message: Message) -> Iterator[Message]:
        if self.is_unknown(message) and not self._confirm_signer():
            yield self._pass_uncounted(message)
            return
        self._move_back(number)
        self._move_on()
        if self._last >= 0 and number > self._last + 1 and not _find(self._ahead, number):
            yield from self._fill_gap(number, message)
        elif self._is_new(number):
            yield message
        else:
            self._counts["repeated"] += 1

    def _is_new(self, number: int) -> bool:
        """Return whether a message is to be passed on that is not behind a gap, and count its number."""
        if self._last < 0:
            self.begin(number, self._live)
            return True
        if number == self._last + 1:
            self._last = number
            return True
        if number == self._last or _find(self._replayed, number) or _find(self._ahead, number):
            return False
        if _find(self._holes, number):
            # It could not be had, and comes now.
            self._replayed.append((number, number))
            return True
        return self._begins_again(number)

    def _move_back(self, number: int) -> None:
        """Move back before a gap that the server could not confirm, when a number of it comes after all."""
        hole = _find(self._doubtful, number)
        if hole is None or number > self._last:
            return
        self._ahead.append((hole[1] + 1, self._last))
        self.ahead_start = min(self.ahead_start, hole[1] + 1)
        self._last = hole[0] - 1
        for holes in (self._doubtful, self._holes):
            for one in [one for one in holes if one[0] >= hole[0]]:
                holes.remove(one)

    def _move_on(self) -> None:
        """Step over numbers that were passed on already."""
        while (interval := _find(self._ahead, self._last + 1)) is not None:
            self._ahead.remove(interval)
            self._replayed.append(interval)
            self._last = interval[1]
            self.ahead_start = min((start for start, _ in self._ahead), default=math.inf)

    # ---------------------------------------------------------------- a gap

    def _fill_gap(self, number: int, message: Message) -> Iterator[Message]:
        """Ask for all numbers of a gap, and pass on what comes, and the message behind it."""
        first, self._found = self._last + 1, 0
        known: bool | None = self._is_confirmed
        error: FedmsgError | None = None
        if not known and number - first >= protocol.AT_ONCE:
            # One query, so that an invented number does not cost many.
            known, error = self._has_live()
            if known is False and error is None:
                yield self._pass_uncounted(message)
                return
        if error is None:
            # Without knowing whether the message is of the service, it is asked for as well.
            end = number - 1 if known else number
            error = yield from recover(self._history, first, end, self)
        is_counted = error is not None or self._is_confirmed or self._last == number - 1
        if is_counted:
            self._skip_to(number, is_doubtful=error is not None and not self._is_confirmed)
        self._report_lost(first, number - 1 if is_counted else self._last, error)
        yield message if is_counted else self._pass_uncounted(message)

    def claim(self, message: Message) -> bool:
        """Return whether a replayed message is to be passed on, and count its number."""
        number = message["seq_id"]
        if self.is_live(message):
            self._is_confirmed = True
            return False
        was_passed = _find(self._ahead, number) is not None or (
            len(self._uncounted) > 0 and message_key(message) in self._uncounted
        )
        self._skip_to(number)
        self._found += 1
        self._counts["replayed"] += not was_passed
        if self._replayed and self._replayed[-1][1] == number - 1:
            self._replayed[-1] = self._replayed[-1][0], number
        else:
            self._replayed.append((number, number))
        if self._signed:
            self._signers.add(_signer(message))
        return not was_passed

    def _skip_to(self, number: int, *, is_doubtful: bool = False) -> None:
        """Count a number, and remember which ones before it are missing."""
        if self._last + 1 < number:
            hole = self._last + 1, number - 1
            self._holes.append(hole)
            if is_doubtful:
                self._doubtful.append(hole)
        self._last = number

    def _report_lost(self, first: int, last: int, error: FedmsgError | None) -> None:
        lost = last - first + 1 - self._found
        if lost > 0:
            self._counts["lost"] += lost
            self._counts["failed"] += 1
            log.error(
                "%d messages of %s are lost, of the numbers %d to %d which the replay server was asked for: %s",
                lost, self._name, first, last, quoted(str(error or "it no longer has them")),
            )  # fmt: skip

    # ---------------------------------------------------------------- whose message it is

    def _has_live(self) -> tuple[bool, FedmsgError | None]:
        """Ask the server whether it has the message that is being taken, under its number."""
        frames, error = self._history.look_up(self._live_number)
        self._is_confirmed = any(map(self.is_live, frames))
        return self._is_confirmed, error

    def _confirm_signer(self) -> bool:
        """Return whether a signer's messages count; the server has to know one of them."""
        signer = _signer(self._live)
        if self._is_due(signer):
            is_known, error = self._has_live()
            if is_known:
                self._signers.add(signer)
                self._denied.discard(signer)
                return True
            if error is None:
                self._denied.add(signer)
        if signer in self._denied or len(self._signers):
            return False
        # While the server does not answer, the first signer is believed.
        if self._first_signer is None:
            self._first_signer = signer
        return signer == self._first_signer

    def _pass_uncounted(self, message: Message) -> Message:
        """Pass on a message whose number is not one of the service."""
        self._counts["uncounted"] += 1
        self._uncounted.add(message_key(self._live))
        self._events.report(
            "uncounted",
            f"the replay server of {self._name} does not have this message with number {self._live_number}: "
            "it is passed on, and its number does not count",
            self._name,
        )
        return message

    def _is_due(self, what: object) -> bool:
        """Return whether the server may be asked about something again."""
        now = time.monotonic()
        if now < self._check_at.get(what, 0.0):
            return False
        if len(self._check_at) >= _SIGNERS_MAX:
            self._check_at.clear()
        self._check_at[what] = now + _CHECK_INTERVAL
        return True

    # ---------------------------------------------------------------- a number that is not newer

    def _begins_again(self, number: int) -> bool:
        """Return whether the numbers of a service have begun again, so that a low one is a new one.

        Where a low number can't be explained, the server is asked, now and then, whether it still
        has the last one: a store that was lost and made anew has not, and receivers would drop
        all that comes from there, for ever. A number that no other one has followed, and that the server
        does not confirm, may be that of a stranger.
        """
        last, is_asked = self._last, self._is_due("again")
        if is_asked:
            frames, error = self._history.look_up(last)
            if not frames and error is None:
                log.error(
                    "the replay server of %s no longer has number %d, and number %d has come: "
                    "its numbers have started again from a lower one, and some messages may be lost",
                    self._name, last, number,
                )  # fmt: skip
                for intervals in (self._replayed, self._ahead, self._holes, self._doubtful):
                    intervals.clear()
                self.ahead_start = math.inf
                self._last = number
                return True
            if self._first is not None and any(_is_same(one, self._first) for one in frames):
                self._first = None
        if self._first is not None and number_of(self._first) == last:
            self._uncounted.add(message_key(self._first))
            self.begin(number, self._live)
            return True
        if is_asked:
            log.warning(
                "message number %d of %s has come after number %d: dropped as a duplicate", number, self._name, last
            )
        return False


def _find(intervals: Iterable[_Interval], number: int) -> _Interval | None:
    """Return the interval that a number is in."""
    return next((interval for interval in intervals if interval[0] <= number <= interval[1]), None)


def _is_wrapped(message: Message) -> bool:
    return "msg" not in message and "seq_id" not in message and isinstance(message.get("body"), dict)


def _is_same(one: Message, other: Message) -> bool:
    """Return whether two envelopes are copies of one message."""
    return all(one.get(key) == other.get(key) for key in ("msg_id", "signature", "topic"))


def _envelope(message: Message) -> Message:
    return message["body"] if _is_wrapped(message) else message


def _signer(envelope: Message) -> tuple[object, object]:
    """Return who has signed a message, as far as it shows: the certificate, or the way of signing."""
    certificate, crypto = envelope.get("certificate"), envelope.get("crypto")
    return (certificate if isinstance(certificate, str) else None, crypto if isinstance(crypto, str) else None)


def number_of(message: Message) -> int | None:
    """Return the number of a message, if it has one."""
    number = _envelope(message).get("seq_id")
    return number if type(number) is int and number >= 0 else None
