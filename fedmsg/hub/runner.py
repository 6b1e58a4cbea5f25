# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs one consumer: its queue, its worker threads, its spool, and the acknowledgement of its messages."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from fedmsg._util.service import ServiceThread, Waker
from fedmsg.config import settings
from fedmsg.exceptions import MessageError, Unavailable
from fedmsg.hub.handling import MANY, Batch, Interrupted, MessageHandler, is_of_stream
from fedmsg.hub.hooks import RunnerHooks
from fedmsg.hub.queue import MessageQueue
from fedmsg.store.overflow import Overflow
from fedmsg.store.spool import Spool, SpooledMessage
from fedmsg.transport.base import Delivery

__all__ = ["ConsumerRunner", "RunOutcome"]

log = logging.getLogger("fedmsg.hub")

# How many messages a worker takes at a time, at most: enough for the taking to cost little.
_BATCH_OF_ONE_WORKER = 1000
_BATCH_AMONG_SEVERAL = 32
# But no more than it handles in so many seconds: what it has taken, no other worker can take.
_BATCH_S = 0.01
# A consumer that stores is faster with large batches, the more so when each takes long.
_STORING_BATCH_S = 1.0
_IDLE_CHECK_S = 0.5


class RunOutcome(NamedTuple):
    """How many messages a runner leaves, how many of them are lost, and lines about those still being handled."""

    left: int = 0
    lost: int = 0
    stuck: Sequence[str] = ()


class Acknowledgements:
    """Acknowledges deliveries in their order, in whatever order workers finish them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._order: deque[int] = deque()
        # Those that are not acknowledged yet, by their ids.
        self.open: dict[int, Delivery] = {}
        self._finished: dict[int, BaseException | None] = {}

    def add(self, items: Iterable[Any]) -> None:
        """Register deliveries that are to be acknowledged; those whose `ack` does nothing are skipped."""
        with self._lock:
            for item in items:
                if isinstance(item, Delivery) and type(item).ack is not Delivery.ack:
                    self.open[id(item)] = item
                    self._order.append(id(item))

    def finish(self, item: Any, error: BaseException | None = None) -> None:
        """Count one as finished, and acknowledge it when all before it are finished."""
        if not self.open:
            return
        with self._lock:
            if id(item) not in self.open:
                return
            self._finished[id(item)] = error
            while self._order and self._order[0] in self._finished:
                number = self._order.popleft()
                self._settle(self.open.pop(number), self._finished.pop(number))

    def expects(self, item: Any) -> bool:
        """Return whether one is to be acknowledged and is not yet."""
        return id(item) in self.open

    def close(self) -> None:
        """Return what is not finished to where it came from, and what is finished out of order too.

        To acknowledge a message of a stream is to acknowledge all before it.
        """
        with self._lock:
            for number in self._order:
                self._settle(self.open[number], None, requeue=True)
            self._order.clear()
            self.open.clear()
            self._finished.clear()

    @staticmethod
    def _settle(item: Delivery, error: BaseException | None, *, requeue: bool = False) -> None:
        try:
            if error is None and not requeue:
                item.ack()
            else:
                item.nack(error, requeue=requeue)
        except Exception:
            log.exception("a message from %s can't be acknowledged", item.address)


class _Worker(ServiceThread):
    """A thread that takes messages from the queue of a consumer and has them handled.

    The one with the number 0 handles what comes before all that arrives, while the others wait for the waker.
    """

    def __init__(self, runner: ConsumerRunner, first_waker: Waker, number: int, count: int) -> None:
        consumer = runner.consumer
        super().__init__(f"fedmsg-{type(consumer).__name__}-{number}")
        self._runner = runner
        self._handler = runner.handler
        self._first_waker = first_waker
        self._number = number
        self._count = count
        self._stores = callable(getattr(consumer, "consume_many", None))
        self._batch_s = _STORING_BATCH_S if self._stores else _BATCH_S
        of_one = MANY if self._stores else _BATCH_OF_ONE_WORKER
        largest = of_one if count == 1 else _BATCH_AMONG_SEVERAL
        self._largest = 1 if consumer.blocking_mode else largest
        # Held where the messages of the batch change owners.
        self._leaving = threading.Lock()
        self._is_left_behind = False
        self._batch = Batch(consumer, runner.handler, runner.acknowledgements)

    # ---------------------------------------------------------------- in the thread

    def run(self) -> None:
        """Handle messages until the runner finishes and none is left."""
        self.ready()
        runner, batch = self._runner, self._batch
        if self._number == 0:
            if not self._handle_first():
                return
        else:
            while not self._first_waker.poll(_IDLE_CHECK_S) and not self.stopping:
                pass
        most = 1
        while not self._handler.cut and not self.stopping:
            # Read first, so that what arrives before the end is not left.
            finishing = runner.finishing
            batch.at = 0
            runner.refill()
            batch.items = runner.queue.take(self._share(most), 0.0 if finishing else _IDLE_CHECK_S)
            if not batch.items:
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
            if not self._recall():
                return True
            if runner.first_count:
                self._batch.items = runner.queue.take(runner.first_count, 0.0)
                if self._batch.items and not self._finish_batch():
                    return False
            self._handle_missed()
        finally:
            self._first_waker.wake()
        return True

    def _recall(self) -> bool:
        """Find out what was handled before; False when the hub stops before that is known."""
        handler = self._handler
        try:
            try:
                handler.hooks.recall()
            except Unavailable as away:
                handler.wait_until_back(handler.hooks.recall, away)
        except Interrupted:
            return False
        return True

    def _handle_missed(self) -> None:
        consumer = self._runner.consumer
        missed = takewhile(lambda _: not self._runner.finishing, self._handler.hooks.missed())
        try:
            if self._stores:
                self._batch.handle_checked_many(missed)
                return
            for message in missed:
                self._batch.handle_checked(message)
                if self._batch.aside or self._handler.cut:
                    return
        except Exception:
            consumer.log.exception("what %s missed can't be made up for", type(consumer).__name__)
        finally:
            self._batch.items = []

    def _finish_batch(self) -> bool:
        """Handle a batch, and return to the queue what the stop cuts off; False when the hub has left it behind."""
        batch, queue = self._batch, self._runner.queue
        done = batch.handle_many() if self._stores and len(batch.items) > 1 else batch.handle_each()
        with self._leaving:
            if self._is_left_behind:
                return False
            rest, batch.items = batch.items[done:], []
            queue.task_done(done)
            if rest:
                queue.give_back(rest)
        return True

    # ---------------------------------------------------------------- for the runner

    def is_thread(self, thread: threading.Thread) -> bool:
        """Return whether this is its thread."""
        return thread is self._thread

    def describe_stuck(self) -> list[str]:
        """Return a line about the message that it still handles; from now on, what it holds is the runner's."""
        with self._leaving:
            self._is_left_behind = True
        return [self._batch.describe()] if self.alive and not self.is_current and self._batch.items else []

    def rest(self) -> list[Any]:
        """Return what it has not finished: what was broken off, and what it holds if it was left behind."""
        batch = self._batch
        # The hub may be stopped from within a message, which then is all but finished.
        first = batch.at + self.is_current
        rest = batch.aside + batch.items[first:]
        batch.aside = []
        del batch.items[first:]
        return rest


class ConsumerRunner:
    """Takes every message of a consumer on the one way to its `consume`.

    A message that is offered waits on the queue. A worker decodes and checks it, has it handled, tries it again
    if that fails, and files it as a dead letter if it fails for good. Then it is acknowledged.

    Attributes:
        on_start: Called when the hub starts; what they raise keeps it from starting.
        more_totals: Return further counts of messages, by kind.
        finishing: Whether the workers end when nothing is left to do.
        first_count: How many messages in the queue come before those that were missed.
        overflow: What waits on disk when the queue is full, where the consumer wants that.
        durable: Whether its messages come from a stream, and under which name; False where they do not.
    """

    def __init__(self, consumer: Any, config: Mapping[str, Any], durable: object = False) -> None:
        limit = consumer.queue_limit or settings.get(config, "consumer_queue_limit")
        policy = consumer.queue_policy or settings.get(config, "consumer_queue_policy")
        self.consumer = consumer
        self.durable = durable
        # What is dropped would not come again: the cursor is to pass it.
        self.queue = MessageQueue(limit, drop=policy == "drop" and durable is False)
        self.handler = MessageHandler(consumer, config, holds=durable is not False)
        self.on_start: list[Callable[[], object]] = []
        self.more_totals: list[Callable[[], Mapping[str, int]]] = []
        self.finishing = False
        self.acknowledgements = Acknowledgements()
        self.first_count = 0
        self._spool = Spool(None, type(consumer))
        self.overflow: Overflow | None = None
        # How many messages had arrived, and were done with, at the last report.
        self._reported = self._reported_done = 0
        self._wakers: list[Waker] = []
        self._workers: list[_Worker] = []
        self._rest: list[Any] = []
        self._outcome: RunOutcome | None = None

    @property
    def hooks(self) -> RunnerHooks:
        """What the base class of the consumer adds."""
        return self.handler.hooks

    # ---------------------------------------------------------------- messages in

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be offered."""
        return self.queue.full if self.overflow is None else self.overflow.is_full

    def offer(self, batch: Sequence[Any]) -> None:
        """Put deliveries on the queue, without waiting."""
        if self.overflow is not None:
            with self.overflow.lock:
                if self.queue.qsize() >= self.queue.limit or not self.overflow.is_empty:
                    self.overflow.put(batch)
                    return
                self._put(batch)
        else:
            self._put(batch)

    def refill(self) -> None:
        """Put what waits on disk on the queue, when half of that is empty."""
        if self.overflow is None or self.overflow.is_empty or self.finishing:
            return
        with self.overflow.lock:
            room = self.queue.limit - self.queue.qsize()
            if 2 * room >= self.queue.limit:
                self._put(self.overflow.take(room))

    def _put(self, batch: Sequence[Any]) -> None:
        if any(kind is not Delivery for kind in set(map(type, batch))):
            self.acknowledgements.add(batch)
        for dropped in self.queue.put_many(batch):
            self.acknowledgements.finish(dropped, MessageError("the queue was full", "full"))

    def pass_over(self, delivery: Delivery) -> None:
        """Acknowledge a delivery that the consumer does not want, when all before it are finished."""
        self.acknowledgements.add((delivery,))
        self.acknowledgements.finish(delivery)

    def accept(self, message: Any) -> bool | None:
        """Take a message that did not come by the sockets of the hub.

        The result is None, but in blocking mode whether a valid one was handled well.
        """
        try:
            self.consumer.validate(message)
            self.hooks.admit(message)
        except (RuntimeWarning, MessageError) as warning:
            self.consumer.log.warning("Received invalid message %s", warning)
            return None
        if self.consumer.blocking_mode:
            self.queue.received += 1
            errors = [self.handler.process(one) for one in self.handler.due(message, message)]
            return all(error is None for error in errors)
        self.queue.put(message)
        return None

    # ---------------------------------------------------------------- start

    def prepare(self) -> None:
        """Raise what keeps the consumer from working."""
        self.hooks.prepare()
        for function in self.on_start:
            function()

    def load(self, state_directory: str | None, *, retry_dead_letters: bool) -> None:
        """Put what the last run has spooled in front of the queue; a file that can't be read is a ConfigError."""
        name = type(self.consumer).__name__
        self._spool = Spool(state_directory, type(self.consumer))
        if state_directory and self.durable is False and getattr(self.consumer, "overflows", False):
            self.overflow = Overflow(state_directory, type(self.consumer))
            if not self.overflow.is_empty:
                log.info("%s goes on with %d messages that wait on disk", name, len(self.overflow))
        first = self._spool.load()
        if first:
            log.info("%s first handles %d messages spooled by the last run", name, len(first))
        dead = self.handler.dead.requeue() if retry_dead_letters else []
        if dead:
            log.info("%s tries %d messages again that could not be handled", name, len(dead))
        first += dead
        self.first_count = len(first)
        self.acknowledgements.add(first)
        self.queue.put_first(first)

    def start(self, workers: int = 1) -> None:
        """Start so many worker threads."""
        # Woken at the stop, and when nothing is left to handle before what arrives.
        self._wakers = [stop_waker, first_waker] = [Waker(), Waker()]
        self.handler.start(stop_waker)
        count = 1 if self.consumer.blocking_mode or self.hooks.is_ordered else workers
        self._workers = [_Worker(self, first_waker, number, count) for number in range(count)]
        for worker in self._workers:
            worker.start()

    def has(self, thread: threading.Thread) -> bool:
        """Return whether a thread is one of its workers."""
        return any(worker.is_thread(thread) for worker in self._workers)

    # ---------------------------------------------------------------- stop

    def finish(self) -> None:
        """Ask the workers to end when the queue is empty; returns at once."""
        if self.finishing:
            return
        self.finishing = True
        # The stream has them: they come again at the next start.
        self._rest += self.queue.withdraw(is_of_stream)
        self.hooks.end()
        for waker in self._wakers:
            waker.wake()
        self.queue.wake()

    def wait(self, deadline: float) -> bool:
        """Wait for the workers to end, until a time on the clock of `time.monotonic`; whether they have."""
        others = [worker for worker in self._workers if not worker.is_current]
        ended = [worker.join(deadline - time.monotonic()) for worker in others]
        return all(ended)

    def cut(self) -> None:
        """Ask the workers to end after their current message."""
        self.handler.cut = True

    def stop(self, deadline: float) -> RunOutcome:
        """Stop the workers, until a time on the clock of `time.monotonic`, and spool what is left.

        Called again after an interrupt, it goes on, and does not replace the spool by one that has less in it.
        """
        if self._outcome is None:
            self.finish()
            self.cut()
            ended = self.wait(deadline)
            stuck = [] if ended else [line for worker in self._workers for line in worker.describe_stuck()]
            self._rest += [item for worker in self._workers for item in worker.rest()]
            self._rest += self.queue.rest()
            waiting = [item for item in self._rest if self.overflow is not None and self.overflow.owns(item)]
            rest = [item for item in self._rest if all(item is not one for one in waiting)] if waiting else self._rest
            left = len(self._rest) + (len(self.overflow) if self.overflow is not None else 0)
            lost = self._keep(rest) + self._keep_waiting(waiting)
            self._outcome = RunOutcome(left, lost, stuck)
        self.acknowledgements.close()
        for worker in self._workers:
            worker.abandon()
        for waker in self._wakers:
            waker.close()
        return self._outcome

    def _keep(self, rest: list[Any]) -> int:
        """Spool what was not handled, unless its source still has it; return how many messages are lost."""
        # Of those that were only to be tried again the file still has all.
        dead = [item for item in rest if isinstance(item, SpooledMessage) and item.origin is self.handler.dead]
        own = [item for item in rest if not any(item is one for one in dead)] if dead else rest
        own = [item for item in own if isinstance(item, SpooledMessage) or not self.acknowledgements.expects(item)]
        try:
            self.handler.dead.put_back(dead)
            return self._spool.save(own) if self._spool else len(own)
        except OSError as error:
            name = type(self.consumer).__name__
            log.error("state_directory: what %s had not handled can't be kept: %s", name, error)
            return len(rest)

    def _keep_waiting(self, waiting: list[Any]) -> int:
        """Keep on disk what is not handled of what waits there; return how many messages are lost."""
        try:
            return self.overflow.close(waiting) if self.overflow is not None else 0
        except OSError as error:
            log.error("state_directory: what %s had not handled: %s", type(self.consumer).__name__, error)
            return 0

    def close(self) -> None:
        """Close what is open, after the consumer's own `stop`."""
        self.hooks.close()

    # ---------------------------------------------------------------- report

    @property
    def headcount_in(self) -> int:
        """How many messages have arrived since the last report."""
        return self.queue.received - self._reported

    @property
    def headcount_out(self) -> int:
        """How many messages are done with since the last report."""
        return self._done() - self._reported_done

    def _done(self) -> int:
        totals = self.handler.totals()
        return totals["handled"] + totals["failed"]

    def totals(self) -> dict[str, int]:
        """Return what has become of the messages since the start, by kind, and how many wait."""
        queue = self.queue
        counts = {"received": queue.received, "dropped": queue.dropped, "waiting": queue.qsize()}
        if self.overflow is not None:
            counts["spooled"] = len(self.overflow)
        counts |= self.handler.totals() | self.hooks.totals()
        for more in self.more_totals:
            counts |= more()
        return counts

    def report(self) -> dict[str, Any]:
        """Return the consumer's row of the status report; the counters in it start again at zero."""
        consumer, times = self.consumer, self.handler.times
        received, done = self.queue.received, self._done()
        with self.handler.lock:
            exceptions, consumer._exception_count = consumer._exception_count, 0
        row = {
            "backlog": self.queue.qsize(),
            "exceptions": exceptions,
            "headcount_in": received - self._reported,
            "headcount_out": done - self._reported_done,
            "initialized": consumer._initialized,
            "jsonify": consumer.jsonify,
            "module": type(consumer).__module__,
            "name": type(consumer).__name__,
            "times": [times.popleft() for _ in range(len(times))],
            "topic": consumer.topic,
            "totals": self.totals(),
        }
        self._reported, self._reported_done = received, done
        return row
