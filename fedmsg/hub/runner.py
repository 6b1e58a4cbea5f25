# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs one consumer: its queue, its worker threads, its spool, and the acknowledgement of its messages."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fedmsg._util.service import Waker
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.hub.handling import MessageHandler, RunnerHooks
from fedmsg.hub.queue import Inbox
from fedmsg.hub.workers import Worker
from fedmsg.store.spool import Spool, SpooledMessage
from fedmsg.transport.base import Delivery

__all__ = ["ConsumerRunner", "RunOutcome"]

log = logging.getLogger("fedmsg.hub")


class RunOutcome(NamedTuple):
    """What a runner leaves at its end.

    Attributes:
        left: How many messages were not handled.
        lost: How many of them are not kept for the next start.
        stuck: Which messages are still being handled, as lines for a person.
    """

    left: int = 0
    lost: int = 0
    stuck: Sequence[str] = ()


class _Acknowledgements:
    """Acknowledges deliveries in their order, in whatever order workers finish them.

    Attributes:
        open: Those that are not acknowledged yet, by their ids.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._order: deque[int] = deque()
        self.open: dict[int, Delivery] = {}
        self._finished: dict[int, BaseException | None] = {}

    def add(self, items: Iterable[Any]) -> None:
        """Expect these to be finished; those to which it makes no difference are left out."""
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
        """Return what is not finished to where it came from."""
        with self._lock:
            for number in self._order:
                if number not in self._finished:
                    self._settle(self.open[number], None, requeue=True)
                else:
                    self._settle(self.open[number], self._finished[number])
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


class ConsumerRunner:
    """Takes every message of a consumer on the one way to its `consume`.

    A message that is offered waits on the queue. A worker decodes and checks it, has it handled, tries it again
    if that fails, and files it as a dead letter if it fails for good. Then it is acknowledged.

    Args:
        consumer: The consumer.
        config: The configuration.

    Attributes:
        consumer: The consumer.
        queue: What waits to be handled.
        handler: What happens to one message.
        on_start: Called when the hub starts; what they raise keeps it from starting.
        more_totals: Return further counts of messages, by kind.
        finishing: Whether the workers end when nothing is left to do.
        acknowledgements: What is still to be acknowledged.
    """

    def __init__(self, consumer: Any, config: Mapping[str, Any]) -> None:
        limit = consumer.queue_limit or settings.get(config, "consumer_queue_limit")
        policy = consumer.queue_policy or settings.get(config, "consumer_queue_policy")
        self.consumer = consumer
        self.queue = Inbox(limit, drop=policy == "drop")
        self.handler = MessageHandler(consumer, config)
        self.on_start: list[Callable[[], object]] = []
        self.more_totals: list[Callable[[], Mapping[str, int]]] = []
        self.finishing = False
        self.acknowledgements = _Acknowledgements()
        self._spool = Spool(None, type(consumer))
        self._first_count = 0
        self._reported = 0
        self._stop_waker: Waker | None = None
        # Woken when nothing is left to handle before what arrives.
        self._first_waker: Waker | None = None
        self._workers: list[Worker] = []

    @property
    def hooks(self) -> RunnerHooks:
        """What the base class of the consumer adds."""
        return self.handler.hooks

    # ---------------------------------------------------------------- messages in

    def offer(self, batch: Sequence[Any]) -> None:
        """Put messages on the queue, without waiting.

        Args:
            batch: Deliveries.
        """
        if any(kind is not Delivery for kind in set(map(type, batch))):
            self.acknowledgements.add(batch)
        for dropped in self.queue.put_many(batch):
            self.acknowledgements.finish(dropped, MessageError("the queue was full", "full"))

    def accept(self, message: Any) -> bool | None:
        """Take a message that did not come by the sockets of the hub.

        Returns:
            In blocking mode whether it was handled well; otherwise, and when it is not valid, None.
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
        """Put what is left from the last run in front of the queue.

        Args:
            state_directory: The folder of the spool; None where there is none.
            retry_dead_letters: Whether dead letters are tried again.

        Raises:
            ConfigError: A file can't be read.
        """
        name = type(self.consumer).__name__
        self._spool = Spool(state_directory, type(self.consumer))
        first = self._spool.load()
        if first:
            log.info("%s first handles %d messages left from the last time", name, len(first))
        dead = self.handler.dead.requeue() if retry_dead_letters else []
        if dead:
            log.info("%s tries %d messages again that could not be handled", name, len(dead))
        first += dead
        self._first_count = len(first)
        self.acknowledgements.add(first)
        self.queue.put_first(first)

    def start(self, workers: int = 1) -> None:
        """Start the worker threads.

        Args:
            workers: How many.
        """
        self._stop_waker, self._first_waker = Waker(), Waker()
        self.handler.start(self._stop_waker)
        count = 1 if self.consumer.blocking_mode or self.hooks.service is not None else workers
        self._workers = [Worker(self, self._first_waker, number, count) for number in range(count)]
        for worker in self._workers:
            worker.start()

    def has(self, thread: threading.Thread) -> bool:
        """Whether a thread is one of its workers."""
        return any(worker.is_thread(thread) for worker in self._workers)

    # ---------------------------------------------------------------- stop

    def finish(self) -> None:
        """Let the workers end when nothing is left to do; returns at once."""
        if self.finishing:
            return
        self.finishing = True
        self.hooks.end()
        for waker in (self._stop_waker, self._first_waker):
            if waker is not None:
                waker.wake()
        self.queue.wake()

    def wait(self, deadline: float) -> bool:
        """Wait for the workers to end; whether they have.

        Args:
            deadline: Until when, on the clock of `time.monotonic`.
        """
        others = [worker for worker in self._workers if not worker.is_current]
        ended = [worker.join(deadline - time.monotonic()) for worker in others]
        return all(ended)

    def cut(self) -> None:
        """Let the workers end with the message that they are at."""
        self.handler.cut = True

    def stop(self, deadline: float) -> RunOutcome:
        """Let the workers end, and spool what is left.

        Args:
            deadline: Until when, on the clock of `time.monotonic`.
        """
        self.finish()
        self.cut()
        stuck = [] if self.wait(deadline) else [line for worker in self._workers for line in worker.describe_stuck()]
        rest = [item for worker in self._workers for item in worker.rest()] + self.queue.rest()
        lost = self._keep(rest)
        self.acknowledgements.close()
        for worker in self._workers:
            worker.abandon()
        for waker in (self._stop_waker, self._first_waker):
            if waker is not None:
                waker.close()
        return RunOutcome(len(rest), lost, stuck)

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

    def close(self) -> None:
        """Close what is open, after the consumer's own `stop`."""
        self.hooks.close()

    # ---------------------------------------------------------------- report

    @property
    def headcount_in(self) -> int:
        """How many messages have arrived since the last report."""
        return self.queue.received - self._reported

    def totals(self) -> dict[str, int]:
        """Return what has become of the messages since the start, by kind, and how many wait."""
        queue = self.queue
        counts = {"received": queue.received, "dropped": queue.dropped, "waiting": queue.qsize()}
        counts |= self.handler.totals | self.hooks.totals()
        for more in self.more_totals:
            counts |= more()
        return counts

    def report(self) -> dict[str, Any]:
        """Return the consumer's row of the status report; the counters in it start again at zero."""
        consumer, received = self.consumer, self.queue.received
        with self.handler.lock:
            row = {
                "backlog": self.queue.qsize(),
                "exceptions": consumer._exception_count,
                "headcount_in": received - self._reported,
                "headcount_out": consumer.headcount_out,
                "initialized": consumer._initialized,
                "jsonify": consumer.jsonify,
                "module": type(consumer).__module__,
                "name": type(consumer).__name__,
                "times": [*self.handler.times],
                "topic": consumer.topic,
                "totals": self.totals(),
            }
            consumer._exception_count = consumer.headcount_out = 0
            self._reported = received
            self.handler.times.clear()
        return row

    # ---------------------------------------------------------------- for its workers

    @property
    def first_count(self) -> int:
        """How many messages in the queue come before those that were missed."""
        return self._first_count
