# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens to each message of a consumer: decode, check, `consume`, retries, dead letter, acknowledgement."""

from __future__ import annotations

import copy
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg._util.service import Waker
from fedmsg.config import settings
from fedmsg.exceptions import MessageError, Unavailable
from fedmsg.hub import forking
from fedmsg.hub.forking import ForkGuard
from fedmsg.hub.hooks import Received, RunnerHooks, ZMQMessage, name_of
from fedmsg.store.spool import DeadLetters, SpooledMessage
from fedmsg.transport.base import Delivery

if TYPE_CHECKING:
    from fedmsg.hub.runner import Acknowledgements

__all__ = ["MANY", "Batch", "MessageHandler", "is_of_stream"]

MAX_RETRY_DELAY_S = 60.0
# Between two looks whether what a consumer needs is back.
_AWAY_DELAY_MIN_S = 0.05
_AWAY_DELAY_MAX_S = 2.0
#: How many messages `consume_many` gets at most: what replay brings may be very much.
MANY = 2000


class Interrupted(BaseException):
    """The hub stops before a message has had all its tries: it is to be spooled, after those in ``args``."""


def is_of_stream(item: Any) -> bool:
    """Return whether a message comes from a stream or queue, which has it until it is acknowledged."""
    return isinstance(item, Delivery) and item.is_kept


class _Count:
    """Counts in several threads without a lock, which would cost more than all else that is counted with it.

    `itertools.count` takes a step in C, so that no other thread comes in between.
    """

    def __init__(self) -> None:
        steps = itertools.count()
        self.add: Callable[[], int] = steps.__next__
        # To look takes a step too. Those who look have a lock.
        self._looks = 0

    def value(self) -> int:
        """Return the count."""
        self._looks += 1
        return self.add() + 1 - self._looks


class MessageHandler:
    """Takes messages of one consumer through `consume`; all its workers share it.

    Args:
        consumer: The consumer.
        config: The configuration.
        holds: Whether a message of a stream is tried until it is handled or is a dead letter.

    Attributes:
        own_work: The consumer's own `_do_work`, where it is not that of the base class.
        cut: Whether the hub does not wait any more for what is left.
        lock: Held to change a counter.
    """

    def __init__(self, consumer: Any, config: Mapping[str, Any], *, holds: bool = False) -> None:
        self.hooks = RunnerHooks()
        self.own_work: Callable[[Any], object] | None = None
        self.dead = DeadLetters(settings.get(config, "dead_letter_directory"), type(consumer))
        self.retries: int = settings.get(config, "consume_retries")
        self.cut = False
        self.lock = threading.Lock()
        self._handled, self._failed = _Count(), _Count()
        # Of the first two those that were handled many at a time.
        self._counts = dict.fromkeys(("handled", "failed", "rejected", "retried", "dead"), 0)
        self.times: deque[float] = deque(maxlen=1024)
        self._consumer = consumer
        self._holds = holds
        self._delay: float = settings.get(config, "consume_retry_delay")
        self._stop_waker: Waker | None = None
        self._fork_guard = ForkGuard()
        self._is_plain = False
        self._before = consumer.pre_consume
        self._after = consumer.post_consume

    def start(self, stop_waker: Waker) -> None:
        """Wait between retries for this waker, which is woken when the hub stops."""
        self._stop_waker = stop_waker
        self._fork_guard = ForkGuard()
        self._is_plain = not self.hooks.selects and self.own_work is None
        # Looked up once: a test that replaces a method does that before the start.
        self._before = self._unless_idle(self._consumer.pre_consume)
        self._after = self._unless_idle(self._consumer.post_consume)

    def _unless_idle(self, method: Any) -> Any:
        return None if getattr(method, "__func__", None) in self.hooks.idle else method

    def count(self, kind: str) -> None:
        """Count a message."""
        with self.lock:
            self._counts[kind] += 1

    def totals(self) -> dict[str, int]:
        """Return what has become of the messages, by kind."""
        with self.lock:
            counts = dict(self._counts)
            counts["handled"] += self._handled.value()
            counts["failed"] += self._failed.value()
        return counts

    # ---------------------------------------------------------------- before consume

    def handle(self, item: Any) -> BaseException | None:
        """Handle a message from the queue: check it, and process it and those due before it; returns as `process`."""
        try:
            message = self.accept(item)
        except MessageError as error:
            return error
        if self._is_plain:
            return self.process(message, item)
        outcome = None
        for one in self.due(message, item):
            if one is message:
                outcome = self._work(one, item)
                continue
            if self.cut:
                raise Interrupted(one)
            try:
                self._work(one)
            except Interrupted:
                raise Interrupted(one) from None
        return outcome

    def due(self, message: Any, item: Any) -> Iterable[Any]:
        """Return the messages to handle now that one has arrived."""
        return self.hooks.due(message, item) if self.hooks.selects else (message,)

    def accept(self, item: Any) -> Any:
        """Return what `consume` gets for a message from the queue; one that must not be handled is counted."""
        try:
            message = self.open(item)
            if self.hooks.admits and isinstance(item, Delivery):
                self.hooks.admit(message)
        except MessageError as error:
            self.count("rejected")
            rejections = getattr(self._consumer.hub, "rejections", None)
            if rejections is not None:
                rejections.add(item.address, error)
            raise
        return message

    def open(self, item: Any) -> Any:
        """Return what `consume` gets for a message; raise MessageError if it must not be handled."""
        if not isinstance(item, Delivery):
            # It was put there by a program, or by `_consume`, which has checked it.
            return item
        # A malformed message is rejected also where the consumer would decode it.
        body = item.envelope()
        spooled = None if type(item) is Delivery else item if isinstance(item, SpooledMessage) else None
        if self._consumer.jsonify:
            topic = body["topic"] if spooled is None else spooled.topic()
            is_plain = not self.hooks.wants_origin
            message: Any = {"topic": topic, "body": body} if is_plain else Received.of(item, topic, body)
        else:
            message = ZMQMessage.of(item)
        try:
            if item.is_trusted:
                self.hooks.validate_trusted(self._consumer, message)
            elif spooled is None:
                self._consumer.validate(message)
            elif not spooled.checked:
                self.hooks.validate_as_of(self._consumer, message, spooled.since)
        except RuntimeWarning as warning:
            raise MessageError(str(warning), "invalid") from warning
        except BaseException as error:
            self._fork_guard.check(error)
            if not isinstance(error, Exception):
                raise
            # A consumer may have a validate() of its own.
            self._consumer.log.exception("validate() failed")
            raise MessageError(f"validate() failed: {type(error).__name__}", "invalid") from error
        if forking.forks != self._fork_guard.forks:
            self._fork_guard.check()
        return message

    # ---------------------------------------------------------------- consume

    def _work(self, message: Any, item: Any = None) -> BaseException | None:
        """Call the consumer's own `_do_work` where it has one."""
        return self.process(message, item) if self.own_work is None else self._call(self.own_work, message)

    def process(self, message: Any, item: Any = None) -> BaseException | None:
        """Take a valid message through the hooks and `consume`, with retries.

        Return why it is not done, None when it was handled or is a dead letter. ``item`` is what it was made from, and
        can be made from again.
        """
        start = time.perf_counter()
        consumer = self._consumer
        if self.hooks.notes_start:
            self.hooks.started((message,))
        if self._before is not None:
            self._call(self._before, message)
        original = item
        if not isinstance(item, Delivery):
            # What a try changes in the message must reach neither the next try nor a file.
            original = _copy(message) if self.retries or self.dead else message
        error, is_dead = self._call(consumer.consume, message), False
        if error is not None:
            error, is_dead = self._try_again(original, error)
        if self._after is not None:
            self._call(self._after, message)
        if self.hooks.notes_end:
            self.hooks.finished((message,))
        if error is None:
            self._handled.add()
        else:
            self._failed.add()
        self.times.append(time.perf_counter() - start)
        return None if is_dead else error

    def process_many(self, messages: list[Any]) -> bool:
        """Pass valid messages to `consume_many`; whether it has returned."""
        start = time.perf_counter()
        consumer = self._consumer
        self.hooks.started(messages)
        if self._call(consumer.consume_many, messages) is not None:
            return False
        self.hooks.finished(messages)
        with self.lock:
            self._counts["handled"] += len(messages)
        self.times.append((time.perf_counter() - start) / len(messages))
        return True

    def _call(self, method: Any, argument: Any) -> BaseException | None:
        """Call a method of the consumer; return its exception, which is logged and counted.

        Raises:
            Interrupted: The hub stops, and what the consumer needs is away.
        """
        try:
            try:
                method(argument)
            except Unavailable as away:
                self.wait_until_back(lambda: method(argument), away)
        # A cancelled coroutine is no Exception, and no reason to lose a message either.
        except BaseException as error:
            self._fork_guard.check(error)
            if isinstance(error, (KeyboardInterrupt, Interrupted)):
                raise
            with self.lock:
                self._consumer._exception_count += 1
            name = getattr(method, "__name__", "consume")
            self._consumer.log.error(
                "%s failed in %s() on message %s",
                type(self._consumer).__name__, name, name_of(argument), exc_info=error,
            )  # fmt: skip
            return error
        if forking.forks != self._fork_guard.forks:
            self._fork_guard.check()
        return None

    def wait_until_back(self, work: Callable[[], object], away: Unavailable) -> None:
        """Try again what the consumer could not do, until what it needs is back.

        Raises:
            Interrupted: The hub stops before that.
        """
        name, tries, start = type(self._consumer).__name__, 0, time.monotonic()
        self._consumer.log.warning("%s waits, and tries again until it can go on: %s", name, away)
        while True:
            self._pause(min(_AWAY_DELAY_MIN_S * 2.0 ** min(tries, 30), _AWAY_DELAY_MAX_S))
            tries += 1
            try:
                work()
            except Unavailable:
                continue
            self._consumer.log.info("%s goes on, after %.1f s", name, time.monotonic() - start)
            return

    def _try_again(self, original: Any, error: BaseException) -> tuple[BaseException | None, bool]:
        """Try a message again that has failed once, or make a dead letter of it.

        Return what the last try failed with, None where it did not, and whether it is a dead letter.
        """
        tries = 1
        while tries <= self.retries or not (is_dead := self._bury(original, error, tries)):
            if tries > self.retries and not self._must_hold(original, tries):
                return error, False
            self._wait_for_try(tries)
            self.count("retried")
            try:
                message = self.open(original) if isinstance(original, Delivery) else _copy(original)
            except MessageError as invalid:
                self._consumer.log.warning("a message is not tried again: %s", invalid)
                return error, self._bury(original, error, tries)
            problem = self._call(self._consumer.consume, message)
            if problem is None:
                return None, False
            error = problem
            tries += 1
        return error, is_dead

    def _bury(self, original: Any, error: BaseException, tries: int) -> bool:
        """Make a dead letter of a message; whether that was possible."""
        is_dead = bool(self.dead) and self.dead.add(original, error, tries)
        if is_dead:
            self.count("dead")
        return is_dead

    def _must_hold(self, original: Any, tries: int) -> bool:
        """Return whether a message that has failed for good has to be tried all the same, and log it once."""
        if not (self._holds and is_of_stream(original)):
            return False
        if tries == self.retries + 1:
            self._consumer.log.warning(
                "%s has failed on the message %s, and there is no file of dead letters to keep it: it is tried again "
                "until it is handled, and is not acknowledged; set dead_letter_directory to go on",
                type(self._consumer).__name__, original.describe(),
            )  # fmt: skip
        return True

    def _wait_for_try(self, tries: int) -> None:
        # The wait reaches its maximum long before doubling leaves the range of numbers.
        self._pause(min(self._delay * 2.0 ** min(tries - 1, 30), MAX_RETRY_DELAY_S))

    def _pause(self, seconds: float) -> None:
        if self._stop_waker is None:
            time.sleep(seconds)
        elif self._stop_waker.poll(seconds):
            raise Interrupted


def _copy(message: Any) -> Any:
    """Copy a message that a program has put on the queue, which may be anything."""
    try:
        return copy.deepcopy(message)
    except Exception:  # noqa: BLE001 - not everything can be copied
        return message


class Batch:
    """The messages that one worker has taken, and how far it is with them.

    Attributes:
        at: Which of them it handles.
        since: Since when, on the clock of `time.monotonic`.
        aside: Messages whose handling was broken off, for the next start.
    """

    def __init__(self, consumer: Any, handler: MessageHandler, acknowledgements: Acknowledgements) -> None:
        self.items: list[Any] = []
        self.at = 0
        self.since = 0.0
        self.aside: list[Any] = []
        self._consumer = consumer
        self._handler = handler
        self._acknowledgements = acknowledgements
        self._fork_guard = ForkGuard()

    def handle_each(self) -> int:
        """Handle the messages one by one, until the hub does not wait any more; return how many are finished."""
        handler = self._handler
        handle = handler.handle
        for number, item in enumerate(self.items):
            if handler.cut:
                return number
            self.at = number
            self._guarded(handle, item)
        return len(self.items)

    def handle_checked(self, message: Any) -> None:
        """Handle one message that was checked already."""
        self.items, self.at = [message], 0
        self._guarded(self._handler.process, message)

    def _guarded(self, handle: Any, item: Any) -> None:
        """Handle one message, and acknowledge it; whatever happens, the thread goes on."""
        self.since = time.monotonic()
        try:
            error = handle(item)
        except Interrupted as stop:
            self.aside += [*stop.args, item]
            if is_of_stream(item):
                # What follows it comes again after it, and is not handled before it.
                self._handler.cut = True
            return
        except BaseException as problem:
            self._fork_guard.check(problem)
            # A thread of a hub ends when the hub does. Nothing else ends it.
            self._consumer.log.exception("handling message %s failed", name_of(item))
            error = problem
        if self._acknowledgements.open:
            self._acknowledgements.finish(item, error)

    def handle_many(self) -> int:
        """Pass the messages to `consume_many`; where that fails, handle them one by one; returns as `handle_each`."""
        self.since = time.monotonic()
        pairs: list[tuple[Any, Any]] = []
        for number, item in enumerate(self.items, 1):
            try:
                message = self._handler.accept(item)
            except MessageError as error:
                self._acknowledgements.finish(item, error)
                continue
            if not self._add_due(message, item, pairs):
                return number
        self._process_pairs(pairs)
        return len(self.items)

    def _add_due(self, message: Any, item: Any, pairs: list[tuple[Any, Any]]) -> bool:
        """Add a message and those due before it to what is to be passed on; False when the hub stops.

        What replay brings may be very much, and is passed on in parts.
        """
        is_due = is_cut = False
        for one in self._handler.due(message, item):
            is_due = is_due or one is message
            pairs.append((one, item if one is message else None))
            if len(pairs) >= MANY:
                self._process_pairs(pairs)
                pairs.clear()
            is_cut = self._is_broken_off and not is_due
            if is_cut:
                break
        if self._is_broken_off:
            self._process_pairs(pairs)
            if is_cut:
                self.aside.append(item)
            return False
        if not is_due:
            self._acknowledgements.finish(item)  # it was handled before
        return True

    def handle_checked_many(self, messages: Iterable[Any]) -> None:
        """Pass messages that were checked already to `consume_many`, until the hub stops."""
        pairs: list[tuple[Any, Any]] = []
        for message in messages:
            pairs.append((message, None))
            if len(pairs) >= MANY:
                self._process_pairs(pairs)
                pairs.clear()
            if self._is_broken_off:
                break
        self._process_pairs(pairs)

    @property
    def _is_broken_off(self) -> bool:
        return self._handler.cut or bool(self.aside)

    def _process_pairs(self, pairs: list[tuple[Any, Any]]) -> None:
        """Pass messages to `consume_many`, each with what it was made from; one by one where that fails."""
        if not pairs:
            return
        if self.aside:
            self._put_aside(pairs)
            return
        try:
            are_done = self._handler.process_many([message for message, _ in pairs])
        except Interrupted:
            self._put_aside(pairs)
            return
        if are_done:
            for _, item in pairs:
                self._acknowledgements.finish(item)
        else:
            self._handle_pairs(pairs)

    def _put_aside(self, pairs: list[tuple[Any, Any]]) -> None:
        """Keep messages for the next start."""
        self.aside += [message if item is None else item for message, item in pairs]
        if self._handler.hooks.is_ordered or any(is_of_stream(item) for _, item in pairs):
            self._handler.cut = True

    def _handle_pairs(self, pairs: list[tuple[Any, Any]]) -> None:
        for message, item in pairs:
            if self._handler.cut or self.aside:
                self.aside.append(message if item is None else item)
            elif isinstance(item, Delivery):
                # It was found valid, and consume_many() may have changed it.
                self._guarded(lambda one: self._handler.process(self._handler.open(one), one), item)
            else:
                self._guarded(self._handler.process, message)

    def describe(self) -> str:
        """Return a line about the message that it handles."""
        item = self.items[self.at]
        try:
            name = f"the message {name_of(item if isinstance(item, dict) else {'body': item.envelope()})}"
        except Exception:  # noqa: BLE001 - it may be anything, and is only to be named
            name = "a message"
        seconds = time.monotonic() - self.since
        return f"{type(self._consumer).__name__} has worked for {seconds:.1f} s on {name}"
