# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hub: it makes consumers and producers, starts what they need, and stops in good order."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from fedmsg import _wire
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, RefusedAtStart
from fedmsg.hub import endpoints, moksha, roster
from fedmsg.hub.consumer import Consumer
from fedmsg.hub.kept import KeptMessage, Leftovers
from fedmsg.hub.loop import Loop
from fedmsg.hub.monitoring import MonitoringProducer
from fedmsg.hub.outgoing import Outgoing
from fedmsg.hub.producer import PollingProducer
from fedmsg.hub.runner import Workers
from fedmsg.hub.subscriptions import Callback, Subscriptions
from fedmsg.transport.base import Delivery
from fedmsg.transport.zmq import curve

__all__ = ["Hub", "Outcome", "provide_moksha"]

log = logging.getLogger("fedmsg.hub")

_TWISTED = "twisted.internet.reactor"


class Outcome(NamedTuple):
    """How a hub ended.

    Attributes:
        left: How many messages each consumer had not handled, by its name; kept for the next start or lost.
        kept: Whether they are kept.
        stuck: Which consumers did not come back from a message, as lines for a person.
    """

    left: dict[str, int]
    kept: bool
    stuck: list[str]


class Hub:
    """Receives from all endpoints and hands each message to the consumers that want it.

    Args:
        config: The configuration.
        consumers: The classes of consumers to run; the installed ones when not given.
        producers: The same for producers.
        inbound: Where to receive from; all ``endpoints`` when not given.
        outbound: Addresses to publish at, of which the first that is free is bound.
        retry_dead_letters: Whether messages that failed for good are tried again first.

    Attributes:
        config: The configuration.
        consumers: The consumers that run.
        producers: The producers that run.
        failed: The consumers and producers that could not be constructed, as lines for a person.
        rejections: How many messages were refused, by kind.
        stop_by: When its stop has to be over, on the clock of `time.monotonic`; None before.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        consumers: Iterable[Any] | None = None,
        producers: Iterable[Any] | None = None,
        *,
        inbound: endpoints.Inbound | None = None,
        outbound: list[str] | None = None,
        retry_dead_letters: bool = False,
    ) -> None:
        self.config = dict(config)
        self.rejections = RejectionLog(log)
        self._subscriptions = Subscriptions(strict=settings.get(self.config, "zmq_strict"))
        self._inbound = inbound or endpoints.inbound(self.config)
        self._outbound = endpoints.outbound(self.config) if outbound is None else list(outbound)
        self._outgoing = Outgoing(self.config, self._outbound)
        self._loop = Loop(self.config, self._inbound, self._subscriptions, self.rejections)
        self._started = False
        self._retry_dead_letters = retry_dead_letters
        self._workers: list[Workers] = []
        self._leftovers: dict[int, Leftovers] = {}
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._ending = threading.Lock()
        self.stop_by: float | None = None
        self._outcome: Outcome | None = None
        self._blocking = bool(settings.get(self.config, "moksha.blocking_mode"))
        provide_moksha()
        twisted = _TWISTED in sys.modules
        found = roster.Roster()
        found.take_on(found.installed("moksha.consumer") if consumers is None else consumers, self._make)
        makers = roster.Roster()
        acting = makers.installed("moksha.producer", "moksha.stream") if producers is None else producers
        makers.take_on(acting, self._make)
        # Some plugins bring it along as one of theirs.
        if not any(isinstance(producer, MonitoringProducer) for producer in makers.running):
            makers.take_on([MonitoringProducer], self._make)
        self.consumers: list[Any] = found.running
        self.producers: list[Any] = makers.running
        self.failed = found.failed + makers.failed
        if _TWISTED in sys.modules and not twisted:
            log.warning(
                "a plugin has imported %s, but Twisted's reactor does not run here: what it asks of it is never done; "
                "moksha.hub.reactor has callLater, callInThread and callFromThread",
                _TWISTED,
            )

    def _make(self, kind: Any) -> Any:
        """Construct a consumer or producer; one that is not to run leaves no subscriptions behind."""
        before, one = len(self._subscriptions), None
        try:
            one = kind(self)
        except Exception as error:
            key = getattr(kind, "config_key", None)
            if not isinstance(key, str) or self.config.get(key):
                raise
            # A constructor that goes on where that of its base has stopped: nobody needs to know.
            log.debug("%s is disabled, and its constructor failed: %r", kind, error)
        finally:
            if not getattr(one, "_initialized", False):
                for callback in self._subscriptions.cut(before):
                    self._loop.inboxes.pop(callback, None)
        return one

    # ---------------------------------------------------------------- for consumers and producers

    @property
    def topics(self) -> dict[str, list[Callback]]:
        """Who wants each topic that is subscribed to."""
        return self._subscriptions.topics

    @property
    def num_consumers(self) -> int:
        """How many consumers run."""
        return len(self.consumers)

    @property
    def num_producers(self) -> int:
        """How many producers run."""
        return len(self.producers)

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Have a callback called with each message of a topic, in the thread that receives.

        Args:
            topic: The beginning of the topics.
            callback: Takes an object with ``topic`` and ``body`` as text. It should not take its
                time; a consumer does its work elsewhere.
        """
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, Consumer) and owner._hub_takes_as_usual(callback):
            self._loop.inboxes[callback] = owner.incoming
            owner.incoming.on_room = self._loop.wake
            if owner._hub_service is not None:
                self._subscriptions.add_service(owner._hub_service, callback)
        self._subscriptions.add(topic, callback)
        self._loop.wake()

    def unsubscribe(self, callback: Callback) -> None:
        """Call a callback no more."""
        self._subscriptions.remove(callback)
        self._loop.inboxes.pop(callback, None)
        self._loop.wake()

    def send_message(self, topic: Any, message: Any, jsonify: bool = True) -> None:
        """Publish a message at the addresses of this hub.

        Args:
            topic: The full topic, or a list of them.
            message: The envelope.
            jsonify: Whether it has still to become JSON.

        Raises:
            ConfigError: The hub has no address to publish at.
            MessageError: The message is too large, or its topic is no text.
        """
        self._outgoing.send([topic] if isinstance(topic, str) else topic, message, jsonify=jsonify)

    def inject(self, topic: str, body: Any) -> None:
        """Give a message that did not come over the bus to those who want it, as if it had.

        Args:
            topic: The full topic.
            body: The envelope; anything else is put into one.

        Raises:
            MessageError: It would be refused of anybody, or there is no room for it.
        """
        is_envelope = isinstance(body, dict) and body.get("topic") == topic and "msg" in body
        data = _wire.encode(body if is_envelope else {"topic": topic, "msg": body}, topic)
        self._loop.inject(Delivery("a client", topic.encode(), data))

    # ---------------------------------------------------------------- starting

    def start(self) -> Hub:
        """Begin to receive; returns when the hub runs.

        Raises:
            RefusedAtStart: Consumers or producers are enabled, and none of them can be started.
            AddressInUse: An address is taken.
            ConfigError: The configuration can't work, or the hub has stopped.
        """
        if self._stopping.is_set():
            raise ConfigError("this hub has stopped, and does not start again: make another one")
        if self._started:
            return self
        try:
            return self._start()
        except BaseException:
            # Whatever has been constructed may have threads of its own, which would outlive us.
            self.stop()
            raise

    def _start(self) -> Hub:
        self._prepare()
        if self._outbound and self._inbound.bound:
            self._outgoing.open()
        kept = [(consumer, self._first(consumer)) for consumer in self.consumers if isinstance(consumer, Consumer)]
        self._started = True
        self._loop.start()
        for consumer, first in kept:
            consumer.incoming.put_first(first)
            self._start_workers(consumer, len(first))
        for producer in self.producers:
            start = getattr(producer, "_hub_start", None)
            if start is not None:
                start()
        return self

    def _prepare(self) -> None:
        # One that only tells how the others are is no reason to run.
        idle = not self.consumers and all(isinstance(producer, MonitoringProducer) for producer in self.producers)
        if self.failed and idle:
            raise RefusedAtStart(f"none of the consumers and producers can be started: {'; '.join(self.failed)}")
        if idle:
            log.warning("no consumer and no producer is enabled: this hub has nothing to do")
        for one in (*self.consumers, *self.producers):
            prepare = getattr(one, "_hub_prepare", None)
            if prepare is not None:
                prepare()
        curve.prepare(self.config, settings.get(self.config, "endpoints") or {})

    def _first(self, consumer: Consumer) -> list[Any]:
        """Give what a consumer has to handle before anything else."""
        folder = settings.get(self.config, "state_directory") or os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        leftovers = self._leftovers[id(consumer)] = Leftovers(folder or None, type(consumer))
        kept = leftovers.load()
        if kept:
            log.info("%s first handles %d messages left from the last time", type(consumer).__name__, len(kept))
        dead = consumer._hub_handling.dead.exhume() if self._retry_dead_letters else []
        if dead:
            log.info("%s tries %d messages again that could not be handled", type(consumer).__name__, len(dead))
        return [*kept, *dead]

    def _start_workers(self, consumer: Consumer, kept: int) -> None:
        alone = self._blocking or consumer._hub_service is not None
        count = 1 if alone else settings.get(self.config, "moksha.workers_per_consumer")
        workers = Workers(consumer, count)
        self._workers.append(workers)
        early: Callable[[], Iterator[Any]] | None = getattr(consumer, "_hub_early", None)
        workers.start(early, kept)

    # ---------------------------------------------------------------- the loop

    # ---------------------------------------------------------------- how it is

    @property
    def running(self) -> bool:
        """Whether it receives."""
        return self._loop.running

    def well(self) -> bool:
        """Whether its loop goes round."""
        return self._loop.well()

    def report(self) -> dict[str, Any]:
        """Give the monitoring report; the counters in it start again at zero."""
        return {
            "consumers": [consumer.__json__() for consumer in self.consumers],
            "producers": [producer.__json__() for producer in self.producers],
        }

    # ---------------------------------------------------------------- stopping

    def stop(self, timeout: float | None = None) -> Outcome:
        """Receive no more, let the consumers work on for a while, keep what is left. A second call does nothing.

        Args:
            timeout: Seconds for all of it; ``stop_timeout`` when not given.

        Returns:
            What became of the messages.

        Raises:
            Exception: The hub had ended with it before.
        """
        limit = float(settings.get(self.config, "stop_timeout") if timeout is None else timeout)
        if not self._ending.acquire(blocking=False):
            # A thread that is itself waited for can't wait for the end.
            if not self._is_one_of_ours(threading.current_thread()):
                self._stopped.wait(2 * limit)
            return self._outcome or Outcome({}, True, [])
        try:
            self._outcome = self._stop(time.monotonic(), limit)
        finally:
            self._stopped.set()
        if self._loop.failure is not None:
            raise self._loop.failure
        return self._outcome

    def _stop(self, start: float, limit: float) -> Outcome:
        self.stop_by = start + limit
        self._stopping.set()
        self._loop.stop()
        for producer in self.producers:
            self._call_stop(producer)
        stuck = self._loop.wait(start + 0.4 * limit)
        stuck += self._end_workers(start + 0.8 * limit, start + 0.95 * limit)
        for consumer in self.consumers:
            self._call_stop(consumer)
            if isinstance(consumer, Consumer):
                consumer._hub_close()
        for producer in self.producers:
            if isinstance(producer, PollingProducer) and not producer._hub_wait(start + limit):
                stuck.append(f"{type(producer).__name__} is still in its poll()")
        for line in stuck:
            log.error("%s", line)
        outcome = self._keep_rest(stuck)
        self._outgoing.close()
        return outcome

    #: The name that it has in moksha.
    close = stop

    @staticmethod
    def _call_stop(one: Any) -> None:
        try:
            one.stop()
        except (Exception, SystemExit):
            log.exception("%s failed in stop()", type(one).__name__)
        if isinstance(one, PollingProducer):
            # It may have a stop() of its own that says nothing to the one below it.
            PollingProducer.stop(one)

    def _is_one_of_ours(self, thread: threading.Thread) -> bool:
        producers = [producer._hub_thread for producer in self.producers if isinstance(producer, PollingProducer)]
        ours = self._loop.is_in(thread) or thread in producers
        return ours or any(workers.has(thread) for workers in self._workers)

    def _end_workers(self, soon: float, late: float) -> list[str]:
        """Let the workers finish what waits until soon, and what they have in hand until late."""
        for workers in self._workers:
            workers.end()
        for workers in self._workers:
            workers.wait(soon)
        for workers in self._workers:
            workers.cut()
        stuck = []
        for workers in self._workers:
            if not workers.wait(late):
                stuck += workers.abandon()
        return stuck

    def _keep_rest(self, stuck: list[str]) -> Outcome:
        left: dict[str, int] = {}
        kept = True
        for workers in self._workers:
            consumer, rest = workers.consumer, workers.rest()
            leftovers = self._leftovers[id(consumer)]
            name = type(consumer).__name__
            if rest:
                left[name] = len(rest)
            try:
                # Those that were only to be tried again stay where they are.
                dead = consumer._hub_handling.dead
                again = [item for item in rest if isinstance(item, KeptMessage) and item.origin is dead]
                rest = [item for item in rest if item not in again] if again else rest
                dead.put_back(again)
                lost = leftovers.save(rest) if leftovers else len(rest)
            except OSError as error:
                log.error("state_directory: what %s had not handled can't be kept: %s", name, error)
                lost = len(rest)
            kept = kept and not lost
        return Outcome(left, kept, stuck)

    def __enter__(self) -> Hub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        if getattr(self, "_started", False) and self._outcome is None and self.running:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)


class RunningHub(Hub):
    """A hub that runs as soon as it is made.

    Args:
        config: The configuration.
        consumers: The classes of consumers to run; the installed ones when not given.
        producers: The same for producers.
    """

    def __init__(self, config: Mapping[str, Any], consumers: Any = None, producers: Any = None) -> None:
        super().__init__(config, consumers, producers)
        self.start()


def provide_moksha() -> None:
    """Have ours found under the names of moksha, from which plugins of 1.x import their base classes."""
    moksha.register(Hub, RunningHub)
