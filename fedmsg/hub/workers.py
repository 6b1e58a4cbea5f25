# SPDX-License-Identifier: LGPL-2.1-or-later
"""The threads that take messages from the queue of one consumer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from fedmsg._util.service import ServiceThread, Waker
from fedmsg.exceptions import MessageError
from fedmsg.hub.forking import ForkGuard
from fedmsg.hub.handling import Interrupted, name_of
from fedmsg.transport.base import Delivery

if TYPE_CHECKING:
    from fedmsg.hub.runner import ConsumerRunner

__all__ = ["Worker"]

# How many messages a worker takes at a time, at most: enough for the taking to cost little.
_BATCH_OF_ONE_WORKER = 1000
_BATCH_AMONG_SEVERAL = 32
# But no more than it handles in so many seconds: what it has taken, no other worker can take.
_BATCH_S = 0.01
# A consumer that stores is faster with large batches.
_STORING_BATCH_S = 0.1
_IDLE_CHECK_S = 0.5


class Worker(ServiceThread):
    """A thread that takes messages from the queue of a consumer and has them handled.

    Args:
        runner: The runner.
        first_waker: Woken when nothing is left to handle before what arrives.
        number: Its number; 0 handles what comes first, while the others wait.
        count: How many workers there are.
    """

    def __init__(self, runner: ConsumerRunner, first_waker: Waker, number: int, count: int) -> None:
        super().__init__(f"fedmsg-{type(runner.consumer).__name__}-{number}")
        self._runner = runner
        self._handler = runner.handler
        self._acknowledgements = runner.acknowledgements
        self._first_waker = first_waker
        self._number = number
        self._count = count
        self._fork_guard = ForkGuard()
        self._stores = callable(getattr(runner.consumer, "consume_many", None))
        self._batch_s = _STORING_BATCH_S if self._stores else _BATCH_S
        largest = _BATCH_OF_ONE_WORKER if count == 1 else _BATCH_AMONG_SEVERAL
        self._largest = 1 if runner.consumer.blocking_mode else largest
        # Held where the messages of the batch change owners.
        self._leaving = threading.Lock()
        self._is_left_behind = False
        self._batch: list[Any] = []
        self._at = 0
        self._since = 0.0
        # Messages whose handling was broken off, for the next start.
        self._aside: list[Any] = []

    # ---------------------------------------------------------------- in the thread

    def run(self) -> None:
        """Handle messages until the runner finishes and none is left."""
        self.ready()
        runner = self._runner
        if self._number == 0:
            if not self._handle_first():
                return
        else:
            self._first_waker.poll()
        most = 1
        while not self._handler.cut:
            # Read first, so that what arrives before the end is not left.
            finishing = runner.finishing
            self._at = 0
            self._batch = runner.queue.take(self._share(most), 0.0 if finishing else _IDLE_CHECK_S)
            if not self._batch:
                if finishing:
                    return
                continue
            start = time.monotonic()
            if not self._finish_batch():
                return
            is_quick = time.monotonic() - start < self._batch_s
            most = min(2 * most, self._largest) if is_quick else max(most // 2, 1)

    def _share(self, most: int) -> int:
        """Return how many messages it may take without leaving another worker idle."""
        return most if self._count == 1 else max(1, min(most, -(-self._runner.queue.qsize() // self._count)))

    def _handle_first(self) -> bool:
        """Handle the spool, dead letters and what was missed; whether the thread goes on."""
        runner = self._runner
        try:
            if runner.first_count:
                self._batch = runner.queue.take(runner.first_count, 0.0)
                if self._batch and not self._finish_batch():
                    return False
            self._handle_missed()
        finally:
            self._first_waker.wake()
        return True

    def _handle_missed(self) -> None:
        consumer = self._runner.consumer
        try:
            for message in self._handler.hooks.missed():
                if self._runner.finishing:
                    return
                self._batch, self._at, self._since = [message], 0, time.monotonic()
                self._guarded(self._handler.process, message)
                if self._aside or self._handler.cut:
                    return
        except Exception:
            consumer.log.exception("what %s missed can't be made up for", type(consumer).__name__)
        finally:
            self._batch = []

    def _finish_batch(self) -> bool:
        """Handle a batch, and return to the queue what the stop cuts off; False when the hub has left it behind."""
        done = self._handle_many() if self._stores and len(self._batch) > 1 else self._handle_each()
        with self._leaving:
            if self._is_left_behind:
                return False
            rest, self._batch = self._batch[done:], []
            queue = self._runner.queue
            queue.task_done(done)
            if rest:
                queue.give_back(rest)
        return True

    def _handle_each(self) -> int:
        """Handle the messages of the batch one by one; return how many are finished."""
        handler = self._handler
        handle = handler.handle
        for number, item in enumerate(self._batch):
            if handler.cut:
                return number
            self._at = number
            self._guarded(handle, item)
        return len(self._batch)

    def _guarded(self, handle: Any, item: Any) -> None:
        """Handle one message, and acknowledge it; whatever happens, the thread goes on."""
        self._since = time.monotonic()
        try:
            error = handle(item)
        except Interrupted as stop:
            self._aside += [*stop.first, item]
            return
        except BaseException as problem:
            self._fork_guard.check(problem)
            # A thread of a hub ends when the hub does. Nothing else ends it.
            self._runner.consumer.log.exception("handling message %s failed", name_of(item))
            error = problem
        if self._acknowledgements.open:
            self._acknowledgements.finish(item, error)

    def _handle_many(self) -> int:
        """Pass the batch to `consume_many`; where that fails, handle its messages one by one."""
        self._since = time.monotonic()
        pairs: list[tuple[Any, Any]] = []
        for item in self._batch:
            try:
                message = self._handler.accept(item)
            except MessageError as error:
                self._acknowledgements.finish(item, error)
            else:
                own = [(one, item if one is message else None) for one in self._handler.due(message, item)]
                if all(one is not message for one, _ in own):
                    self._acknowledgements.finish(item)  # it was handled before
                pairs += own
        if not pairs:
            return len(self._batch)
        if self._handler.process_many([message for message, _ in pairs]):
            for _, item in pairs:
                self._acknowledgements.finish(item)
        else:
            self._handle_pairs(pairs)
        return len(self._batch)

    def _handle_pairs(self, pairs: list[tuple[Any, Any]]) -> None:
        for message, item in pairs:
            if self._handler.cut or self._aside:
                self._aside.append(message if item is None else item)
            elif isinstance(item, Delivery):
                # It was found valid, and consume_many() may have changed it.
                self._guarded(lambda one: self._handler.process(self._handler.open(one), one), item)
            else:
                self._guarded(self._handler.process, message)

    # ---------------------------------------------------------------- for the runner

    def is_thread(self, thread: threading.Thread) -> bool:
        """Return whether this is its thread."""
        return thread is self._thread

    def describe_stuck(self) -> list[str]:
        """Return a line about the message that it still handles; from now on, what it holds is the runner's."""
        with self._leaving:
            self._is_left_behind = True
        if not self.alive or self.is_current or not self._batch:
            return []
        seconds = time.monotonic() - self._since
        name = _described(self._batch[self._at])
        return [f"{type(self._runner.consumer).__name__} has worked for {seconds:.1f} s on {name}"]

    def rest(self) -> list[Any]:
        """Return what it has not finished: what was broken off, and what it holds if it was left behind."""
        # The hub may be stopped from within a message, which then is all but finished.
        first = self._at + self.is_current
        rest = self._aside + self._batch[first:]
        self._aside = []
        del self._batch[first:]
        return rest


def _described(item: Any) -> str:
    if isinstance(item, dict):
        return f"the message {name_of(item)}"
    try:
        return f"the message {name_of({'body': item.envelope()})}"
    except Exception:  # noqa: BLE001 - it may be anything, and is only to be named
        return "a message"
