# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gaps in the numbers of messages: found, and filled from a replay server in order.

The numbers of a service are moved only by messages of that service. Another publisher can send a
message with any number through the same endpoint, so a jump that the replay server does not know
does not count, and where signatures are checked the server has to confirm each signer once.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from contextlib import closing
from typing import Any

from fedmsg import _wire, encoding
from fedmsg._util.bounded import SeenIds
from fedmsg._util.ratelimit import RateLimitedLog, RejectionLog
from fedmsg._util.text import quoted
from fedmsg.exceptions import FedmsgError, MessageError
from fedmsg.replay import protocol
from fedmsg.replay.history import Ask, ReplayHistory
from fedmsg.store.recovery import Message, message_key, recover
from fedmsg.transport.zmq import sockets

__all__ = ["GapFiller", "Message", "check_for_replay", "number_of"]

log = logging.getLogger("fedmsg.replay")

# How many filled and unfilled gaps are remembered, to recognise late and duplicate messages.
_GAPS_MAX = 100
# Seconds between two queries whether numbers have begun again, and about the same signer.
_CHECK_INTERVAL = 10.0
_SIGNERS_MAX = 1000
_UNCOUNTED_MAX = 10_000

_Interval = tuple[int, int]


class GapFiller:
    """Fills gaps in the numbers of services, for one receiver; used by one thread at a time.

    What is replayed comes in the order of its numbers and once. A server that does not answer,
    refuses, or has lost a part of the gap costs one error in the log, and at most ``timeout``
    seconds in which nothing is passed on.

    Args:
        config: The configuration: ``replay_endpoints``, ``timeout``.
        names: The services, by their names in ``replay_endpoints``.
        numbers: The last number of each service, -1 before the first message. It is kept up
            to date; when it is given ``names`` is not needed.
        validate: Returns whether a replayed envelope may be passed on; None lets all pass.
        signed: Whether signatures are checked, so that numbers belong to signers; when not
            given, whether there is ``validate``.
        read: Turns a frame of an answer into an envelope, or raises MessageError.
        rejections: Where replayed messages that are rejected are counted and logged.
        context: The ZeroMQ context to use; that of the process when not given.
        counts: Where to count, when not in a Counter of its own.
        ask: Sends a query to the server of a service, instead of a client of `fedmsg.replay.client`.

    Attributes:
        numbers: The last number of each service.
        counts: ``asked`` (queries), ``replayed`` (messages), ``lost`` (messages that can't be had
            any more), ``failed`` (gaps with such losses), ``repeated`` (duplicates), ``uncounted``
            (messages whose number is not one of the service).
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        names: Iterable[str] = (),
        *,
        numbers: MutableMapping[str, int] | None = None,
        validate: Callable[[dict[str, Any]], bool] | None = None,
        signed: bool | None = None,
        read: Callable[[bytes], dict[str, Any]] = _wire.parse_stored,
        rejections: RejectionLog | None = None,
        context: sockets.Context | None = None,
        counts: Counter[str] | None = None,
        ask: Ask | None = None,
    ) -> None:
        self.numbers = numbers if numbers is not None else dict.fromkeys(names, -1)
        self.counts: Counter[str] = counts if counts is not None else Counter()
        self._config = config
        self.signed = validate is not None if signed is None else signed
        self.events = RateLimitedLog(log)
        self._validate = validate
        self._read = read
        self._rejections = rejections if rejections is not None else RejectionLog(log)
        self._context = context
        self._ask = ask
        self._services: dict[str, _Service] = {}

    def fill(self, name: str, message: Message) -> Iterable[Message]:
        """Take a received message and return what is to be passed on now.

        Args:
            name: The service that it came from.
            message: The message: an envelope, or a dict of ``topic`` and ``body``.

        Returns:
            The messages that were missing, and the message itself unless it is a duplicate: a
            tuple when nothing has to be asked for, otherwise an iterator that asks, and waits.
        """
        last = self.numbers.get(name)
        number = number_of(message)
        if number is None or last is None:
            return (message,)
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = _Service(self, name)
        if (number == last + 1 or last < 0) and number < service.ahead_start and not service.is_unknown(message):
            # What nearly all messages are.
            self.numbers[name] = number
            return (message,)
        return service.take(number, message)

    def history(self, name: str, is_received: Callable[[Message], bool]) -> ReplayHistory:
        """Return the history of a service.

        Args:
            name: The service.
            is_received: Returns whether a message was received before.
        """
        return ReplayHistory(
            name, self._config, is_received, read=self._read, validate=self._validate, rejections=self._rejections,
            counts=self.counts, context=self._context, ask=self._ask,
        )  # fmt: skip


class _Service:
    """The numbers of one service: what was passed on, what is missing, and whose messages they are."""

    def __init__(self, filler: GapFiller, name: str) -> None:
        self._filler = filler
        self._name = name
        self._counts = filler.counts
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
        self._history = filler.history(name, self.is_live)
        # The message that is being taken, and whether the server has it under its number.
        self._live: Message = {}
        self._live_number = -1
        self._is_confirmed = False
        # How many messages of the gap at hand the server had.
        self._found = 0

    @property
    def last(self) -> int:
        """The last number of the service."""
        return self._filler.numbers[self._name]

    @last.setter
    def last(self, number: int) -> None:
        self._filler.numbers[self._name] = number

    def is_unknown(self, message: Message) -> bool:
        """Return whether a message is of a signer that the server has not confirmed."""
        return self._filler.signed and _signer(_envelope(message)) not in self._signers

    def is_live(self, message: Message) -> bool:
        """Return whether a replayed message is the one that is being taken."""
        live = self._live
        return number_of(message) == self._live_number and all(
            message.get(key) == live.get(key) for key in ("msg_id", "signature", "topic")
        )

    def take(self, number: int, message: Message) -> Iterator[Message]:
        """Yield what is to be passed on now that a message has come."""
        self._live, self._live_number, self._is_confirmed = _envelope(message), number, False
        with closing(self._history):
            if self.is_unknown(message) and not self._confirm_signer():
                yield self._pass_uncounted(message)
                return
            self._move_back(number)
            self._move_on()
            if self.last >= 0 and number > self.last + 1 and not _find(self._ahead, number):
                yield from self._fill_gap(number, message)
            elif self._is_new(number):
                yield message
            else:
                self._counts["repeated"] += 1

    def _is_new(self, number: int) -> bool:
        """Return whether a message is to be passed on that is not behind a gap, and count its number."""
        if self.last < 0 or number == self.last + 1:
            self.last = number
            return True
        if number == self.last or _find(self._replayed, number) or _find(self._ahead, number):
            return False
        if _find(self._holes, number):
            # It could not be had, and comes now.
            self._replayed.append((number, number))
            return True
        return self._begins_again(number)

    def _move_back(self, number: int) -> None:
        """Go back before a hole that the server could not confirm, when a number of it comes after all."""
        hole = _find(self._doubtful, number)
        if hole is None or number > self.last:
            return
        self._ahead.append((hole[1] + 1, self.last))
        self.ahead_start = min(self.ahead_start, hole[1] + 1)
        self.last = hole[0] - 1
        for holes in (self._doubtful, self._holes):
            for one in [one for one in holes if one[0] >= hole[0]]:
                holes.remove(one)

    def _move_on(self) -> None:
        """Step over numbers that were passed on already."""
        while (interval := _find(self._ahead, self.last + 1)) is not None:
            self._ahead.remove(interval)
            self._replayed.append(interval)
            self.last = interval[1]
            self.ahead_start = min((start for start, _ in self._ahead), default=math.inf)

    # ---------------------------------------------------------------- a gap

    def _fill_gap(self, number: int, message: Message) -> Iterator[Message]:
        """Ask for all numbers of a gap, and pass on what comes, and the message behind it."""
        first, self._found = self.last + 1, 0
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
            for envelope in (replayed := _Returning(recover(self._history, first, end, self))):
                yield {"topic": envelope.get("topic"), "body": envelope} if _is_wrapped(message) else envelope
            error = replayed.value
        is_counted = error is not None or self._is_confirmed or self.last == number - 1
        if is_counted:
            self._skip_to(number, is_doubtful=error is not None and not self._is_confirmed)
        self._report_lost(first, number - 1 if is_counted else self.last, error)
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
        if self._filler.signed:
            self._signers.add(_signer(message))
        return not was_passed

    def _skip_to(self, number: int, *, is_doubtful: bool = False) -> None:
        """Count a number, and remember which ones before it are missing."""
        if self.last + 1 < number:
            hole = self.last + 1, number - 1
            self._holes.append(hole)
            if is_doubtful:
                self._doubtful.append(hole)
        self.last = number

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
        self._filler.events.report(
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
        all that comes from there, for ever.
        """
        last = self.last
        if not self._is_due("again"):
            return False
        frames, error = self._history.look_up(last)
        if not frames and error is None:
            log.error(
                "the replay server of %s no longer has number %d, and number %d has come: "
                "its numbers have begun anew, and some messages may be lost", self._name, last, number,
            )  # fmt: skip
            for intervals in (self._replayed, self._ahead, self._holes, self._doubtful):
                intervals.clear()
            self.ahead_start = math.inf
            self.last = number
            return True
        log.warning(
            "message number %d of %s has come after number %d: left out as a repetition", number, self._name, last
        )
        return False


class _Returning(Iterator[Message]):
    """Iterates over a generator, and has what it returns."""

    def __init__(self, generator: Generator[Message, None, FedmsgError | None]) -> None:
        self._generator = generator
        self.value: FedmsgError | None = None

    def __next__(self) -> Message:
        try:
            return next(self._generator)
        except StopIteration as stop:
            self.value = stop.value
            raise StopIteration from None


def _find(intervals: Iterable[_Interval], number: int) -> _Interval | None:
    """Return the interval that a number is in."""
    return next((interval for interval in intervals if interval[0] <= number <= interval[1]), None)


def _is_wrapped(message: Message) -> bool:
    return "msg" not in message and "seq_id" not in message and isinstance(message.get("body"), dict)


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


def _read_anything(frame: bytes) -> dict[str, Any]:
    """Decode a replayed message for `check_for_replay`, whose caller checks it."""
    try:
        message = encoding.loads(frame)
    except ValueError as error:
        raise MessageError(f"it is not JSON: {error}", "json") from error
    if not isinstance(message, dict):
        raise MessageError("it is not a JSON object", "json")
    return message


def check_for_replay(
    name: str,
    names_to_seq_id: MutableMapping[str, int],
    msg: Message,
    config: Mapping[str, Any],
    context: sockets.Context | None = None,
    *,
    validate: Callable[[dict[str, Any]], bool] | None = None,
    counts: Counter[str] | None = None,
) -> list[Message]:
    """Return a received message together with those that are missing before it.

    Threads may call it at the same time, each with a ``names_to_seq_id`` of its own. Of many
    missing messages `GapFiller.fill` yields one after the other instead of a list.

    Args:
        name: The service that it came from.
        names_to_seq_id: The last number of each service, -1 before the first; kept up to date.
        msg: The message: an envelope, or a dict of ``topic`` and ``body``.
        config: The configuration: ``replay_endpoints``, ``timeout``.
        context: The ZeroMQ context to use; that of the process when not given.
        validate: Returns whether a replayed envelope may be passed on. Without it they come
            as the server has sent them, and the caller checks them like the message itself.
        counts: Where to count, see `GapFiller`.

    Returns:
        The messages in order; none when it is not newer than the last one. What is missing
        and can't be had is one error in the log.
    """
    number, last = number_of(msg), names_to_seq_id.get(name)
    if number is None or last is None:
        return [msg]
    if 0 <= number <= last:
        if counts is not None:
            counts["repeated"] += 1
        return []
    read = _read_anything if validate is None else _wire.parse_stored
    filler = GapFiller(
        config, numbers=names_to_seq_id, validate=validate, signed=False, read=read, context=context, counts=counts
    )  # fmt: skip
    return list(filler.fill(name, msg))
