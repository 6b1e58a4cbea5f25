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
from itertools import chain
from typing import Any, NamedTuple

from fedmsg import _wire
from fedmsg._util import plugins
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, RefusedAtStart
from fedmsg.hub import consumer as consumers_
from fedmsg.hub import endpoints, moksha
from fedmsg.hub import producer as producers_
from fedmsg.hub.consumer import Consumer
from fedmsg.hub.endpoints import Outgoing
from fedmsg.hub.forking import ForkGuard
from fedmsg.hub.loop import Callback, Loop
from fedmsg.hub.producer import MonitoringProducer, Producer, ProducerRunner
from fedmsg.hub.runner import ConsumerRunner
from fedmsg.hub.streams import StreamReaders
from fedmsg.monitoring import metrics
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
        stuck: Which consumers still handle a message, as lines for a person.
    """

    left: dict[str, int]
    kept: bool
    stuck: list[str]


class _Plugins:
    """Makes instances of the classes that a hub runs: those that are ready, and a line for each that failed."""

    def __init__(self) -> None:
        self.running: list[Any] = []
        self.failed: list[str] = []

    def installed(self, *groups: str) -> list[Any]:
        """Return the classes that the entry points of some groups name, one or a collection each."""
        found: list[Any] = []
        for group in groups:
            for _, loaded in plugins.load(group, self.failed):
                found += [loaded] if isinstance(loaded, type) or not isinstance(loaded, Iterable) else list(loaded)
        # One class may be declared twice, and is still one consumer. What is no class can't always be hashed.
        return list({id(one): one for one in found}.values())

    def construct(self, classes: Iterable[Any], make: Any) -> None:
        """Make an instance of each class, and keep those that are ready to run."""
        for kind in classes:
            name = f"{getattr(kind, '__module__', '?')}:{getattr(kind, '__qualname__', kind)}"
            try:
                one = make(kind)
            except (Exception, SystemExit) as error:
                self.failed.append(f"{name}: {type(error).__name__}: {error}")
                log.exception("%s can't be started", name)
                continue
            # One that is disabled has not finished its constructor.
            if getattr(one, "_initialized", False):
                self.running.append(one)


class Hub:
    """Receives from all endpoints, and delivers each message to the consumers of its topic.

    Args:
        consumers: The classes of consumers to run; the installed ones when not given.
        producers: The same for producers.
        inbound: Where to receive from; all ``endpoints`` when not given.
        outbound: Addresses to publish at, of which the first that is free is bound.
        retry_dead_letters: Whether messages that failed for good are tried again first.
        begin: Where durable consumers whose name is new begin in the stream: ``after`` or ``since``, as for
            `fedmsg.subscribe`. Without it: new messages only.

    Attributes:
        failed: The consumers and producers that could not be constructed, as lines for a person.
        rejections: How many messages were rejected, by kind.
        on_stop_request: Stops it when something in it asks for that; a daemon replaces it.
        stop_by: When its stop has to be over, on the clock of `time.monotonic`; None before.
    """

    #: Whether its consumers may be durable.
    reads_streams = True

    def __init__(
        self,
        config: Mapping[str, Any],
        consumers: Iterable[Any] | None = None,
        producers: Iterable[Any] | None = None,
        *,
        inbound: endpoints.Inbound | None = None,
        outbound: list[str] | None = None,
        retry_dead_letters: bool = False,
        begin: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = dict(config)
        self.rejections = RejectionLog(log)
        self.stop_by: float | None = None
        self.on_stop_request: Callable[[], object] = self.stop
        self._inbound = inbound or endpoints.inbound(self.config)
        self._outbound = endpoints.outbound(self.config) if outbound is None else list(outbound)
        self._outgoing = Outgoing(self.config, self._outbound)
        self._loop = Loop(self.config, self._inbound, self.rejections)
        self._started = False
        self._stopping = False
        self._outcome: Outcome | None = None
        self._retry_dead_letters = retry_dead_letters
        # The thread that stops it, and the lock that is held to become that.
        self._stopper: int | None = None
        self._stopper_lock = threading.Lock()
        self._fork_guard = ForkGuard()
        self._construct(consumers, producers)
        self._consumer_runners = [consumers_.runner_of(one) for one in self.consumers if isinstance(one, Consumer)]
        self._producer_runners = [producers_.runner_of(one) for one in self.producers if isinstance(one, Producer)]
        self._readers = StreamReaders(self.config, self._consumer_runners, self.rejections, begin or {})

    def _construct(self, consumers: Iterable[Any] | None, producers: Iterable[Any] | None) -> None:
        provide_moksha()
        had_twisted = _TWISTED in sys.modules
        found, makers = _Plugins(), _Plugins()
        found.construct(found.installed("moksha.consumer") if consumers is None else consumers, self._make)
        acting = makers.installed("moksha.producer", "moksha.stream") if producers is None else producers
        makers.construct(acting, self._make)
        # Some plugins bring it along as one of theirs.
        if not any(isinstance(producer, MonitoringProducer) for producer in makers.running):
            makers.construct([MonitoringProducer], self._make)
        self.consumers: list[Any] = found.running
        self.producers: list[Any] = makers.running
        self.failed = found.failed + makers.failed
        if _TWISTED in sys.modules and not had_twisted:
            log.warning(
                "a plugin has imported %s, but Twisted's reactor does not run here: what it asks of it is never done; "
                "moksha.hub.reactor has callLater, callInThread and callFromThread",
                _TWISTED,
            )

    def _make(self, kind: Any) -> Any:
        """Construct a consumer or producer; one that is not to run leaves no subscriptions behind."""
        before, one = self._loop.subscriptions.members, None
        try:
            one = kind(self)
        except Exception as error:
            key = getattr(kind, "config_key", None)
            if not isinstance(key, str) or self.config.get(key):
                raise
            # A constructor that goes on where that of its base has stopped: of no interest.
            log.debug("%s is disabled, and its constructor failed: %r", kind, error)
        finally:
            if not getattr(one, "_initialized", False):
                for callback in set(self._loop.subscriptions.members) - set(before):
                    self.unsubscribe(callback)
        return one

    # ---------------------------------------------------------------- for consumers and producers

    @property
    def topics(self) -> dict[str, list[Callback]]:
        """The callbacks of each topic that is subscribed to."""
        return self._loop.subscriptions.topics

    @property
    def num_consumers(self) -> int:
        """How many consumers run."""
        return len(self.consumers)

    @property
    def num_producers(self) -> int:
        """How many producers run."""
        return len(self.producers)

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Register a callback, which is called with each message of a topic in the thread that receives.

        Args:
            topic: The beginning of the topics.
            callback: Takes an object with ``topic`` and ``body`` as text. It should not take long;
                a consumer does its work elsewhere.
        """
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, Consumer) and _is_queued(owner, callback):
            runner = consumers_.runner_of(owner)
            runner.queue.on_room = self._loop.wake
            self._loop.runners[callback] = runner
        self._loop.subscriptions.add(callback, topic)
        self._loop.wake()

    def unsubscribe(self, callback: Callback) -> None:
        """Call a callback no more."""
        self._loop.subscriptions.remove(callback)
        self._loop.runners.pop(callback, None)
        self._loop.wake()

    def send_message(self, topic: Any, message: Any, jsonify: bool = True, confirm: bool | None = None) -> int | None:
        """Publish a message at the addresses of this hub, or through a relay that confirms it.

        Args:
            topic: The full topic, or a list of them.
            message: The envelope.
            jsonify: Whether it has still to become JSON.
            confirm: Whether to wait until a relay has it on disk; by default as ``publish_confirm`` says.

        Returns:
            Its position in the stream of the relay, when it was confirmed; of several topics, that of the last.

        Raises:
            ConfigError: The hub has no address to publish at.
            MessageError: A receiver would have to reject it.
            NotConfirmed: No relay has confirmed it within ``timeout``.
            RejectedByRelay: The relay has rejected it. A MessageError.
        """
        topics = [topic] if isinstance(topic, str) else topic
        return self._outgoing.send(topics, message, jsonify=jsonify, confirm=confirm)

    def inject(self, topic: str, body: Any) -> None:
        """Deliver a message that did not come over the bus to the consumers of its topic, as if it had.

        A body that is not the envelope of the topic is put into one. Durable consumers get what is in the stream,
        and not this.

        Raises:
            MessageError: It would be rejected from any publisher, or there is no room for it.
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
        if self._stopping:
            raise ConfigError("this hub has stopped, and does not start again: make another one")
        if self._started:
            return self
        try:
            return self._start()
        except BaseException:
            # What has been constructed may have threads of its own, which would outlive the hub.
            self.stop()
            raise

    def _start(self) -> Hub:
        self._fork_guard = ForkGuard()
        self._prepare()
        if self._outbound and self._inbound.bound:
            self._outgoing.open()
        folder = settings.get(self.config, "state_directory") or os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        for runner in self._consumer_runners:
            runner.load(folder or None, retry_dead_letters=self._retry_dead_letters)
        self._started = True
        self._loop.start()
        for runner in self._consumer_runners:
            runner.start(settings.get(self.config, "moksha.workers_per_consumer"))
        self._readers.start([name for name, _ in self._inbound.endpoints])
        for producer in self._producer_runners:
            producer.start()
        moksha.set_running(self)
        return self

    def _prepare(self) -> None:
        # One that only reports how the others are is no reason to run.
        idle = not self.consumers and all(isinstance(producer, MonitoringProducer) for producer in self.producers)
        if self.failed and idle:
            raise RefusedAtStart(f"none of the consumers and producers can be started: {'; '.join(self.failed)}")
        if idle:
            log.warning("no consumer and no producer is enabled: this hub has nothing to do")
        runners: chain[ConsumerRunner | ProducerRunner] = chain(self._consumer_runners, self._producer_runners)
        for runner in runners:
            runner.prepare()
        self._readers.prepare()
        curve.prepare(self.config, settings.get(self.config, "endpoints") or {})

    # ---------------------------------------------------------------- how it is

    @property
    def running(self) -> bool:
        """Whether it receives, from the endpoints and from each stream that it reads."""
        return self._loop.alive and self._readers.alive

    def well(self) -> bool:
        """Return whether its loop goes round."""
        return self._loop.well()

    @property
    def handled(self) -> int:
        """How many messages the consumers have handled."""
        return sum(runner.handler.totals()["handled"] for runner in self._consumer_runners)

    def report(self) -> dict[str, Any]:
        """Return the status report; the counters in it start again at zero."""
        return {
            "consumers": [consumer.__json__() for consumer in self.consumers],
            "producers": [producer.__json__() for producer in self.producers],
        }

    def metrics(self) -> Iterator[Any]:
        """Yield the samples for Prometheus."""
        for consumer in self._consumer_runners:
            yield from metrics.of_totals("consumer", type(consumer.consumer), consumer.totals())
        for producer in self._producer_runners:
            yield from metrics.of_totals("producer", type(producer.producer), producer.totals())
        yield from metrics.of_rejections(self.rejections.counts)

    # ---------------------------------------------------------------- stopping

    def stop(self, timeout: float | None = None) -> Outcome:
        """Receive no more, let the consumers work on for a while, keep what is left; return what became of it.

        A second call does nothing, unless an interrupt has ended the first one, nor does one in a forked child: the
        hub is its parent's. What the hub has ended with before is raised.

        Args:
            timeout: Seconds for all of it; ``stop_timeout`` when not given.
        """
        limit = float(settings.get(self.config, "stop_timeout") if timeout is None else timeout)
        if self._fork_guard.is_child:
            return Outcome({}, True, [])
        with self._stopper_lock:
            if self._stopper is None:
                self._stopper = threading.get_ident()
        if self._stopper != threading.get_ident():
            self._wait_for_other_stop(time.monotonic() + 2 * limit)
            return self._outcome or Outcome({}, True, [])
        if self._outcome is not None:
            return self._outcome
        moksha.clear_running(self)
        self._outcome = self._stop(time.monotonic(), limit)
        failure = self._loop.failure or self._readers.failure
        if failure is not None:
            raise failure
        return self._outcome

    #: The name that it has in moksha.
    close = stop

    def _wait_for_other_stop(self, deadline: float) -> None:
        # A thread that the other call waits for can't wait for that.
        while self._outcome is None and not self._owns_current_thread() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _owns_current_thread(self) -> bool:
        current = threading.current_thread()
        if self._loop.is_current or any(producer.is_current() for producer in self._producer_runners):
            return True
        return any(runner.has(current) for runner in self._consumer_runners)

    def _stop(self, start: float, limit: float) -> Outcome:
        self.stop_by = start + limit
        self._stopping = True
        self._loop.stop()
        self._readers.stop()
        for producer in self.producers:
            self._call_stop(producer)
        for runner in self._producer_runners:
            # The producer may have a stop() of its own that does not call the one of its base.
            runner.stop()
        stuck = self._loop.wait(start + 0.4 * limit)
        self._readers.wait(start + 0.4 * limit)
        outcome = self._stop_consumers(start + 0.8 * limit, start + 0.95 * limit, stuck)
        for consumer in self.consumers:
            self._call_stop(consumer)
        for consumer_runner in self._consumer_runners:
            consumer_runner.close()
        self._readers.close()
        for runner in self._producer_runners:
            if not runner.wait(start + limit):
                stuck.append(f"{type(runner.producer).__name__} is still in its poll()")
        for line in stuck:
            log.error("%s", line)
        self._outgoing.close()
        self._loop.abandon()
        return outcome

    def _stop_consumers(self, soon: float, late: float, stuck: list[str]) -> Outcome:
        """Wait until ``soon`` for the queues and until ``late`` for the messages in work; spool the rest."""
        left: dict[str, int] = {}
        lost = 0
        for runner in self._consumer_runners:
            runner.finish()
        for runner in self._consumer_runners:
            runner.wait(soon)
        for runner in self._consumer_runners:
            runner.cut()
        for runner in self._consumer_runners:
            outcome = runner.stop(late)
            stuck += outcome.stuck
            lost += outcome.lost
            if outcome.left:
                left[type(runner.consumer).__name__] = outcome.left
        return Outcome(left, not lost, stuck)

    def _call_stop(self, one: Any) -> None:
        try:
            one.stop()
        except (Exception, SystemExit) as error:
            self._fork_guard.check(error)
            log.exception("%s failed in stop()", type(one).__name__)
        self._fork_guard.check()

    def __enter__(self) -> Hub:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __del__(self) -> None:
        if getattr(self, "_started", False) and self._outcome is None and self.running:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)


def _is_queued(consumer: Consumer, callback: Any) -> bool:
    """Return whether messages for a callback of a consumer go to its queue as they are.

    It may be another callback than ours, or the subclass may have a way of its own to take messages.
    """
    function = getattr(callback, "__func__", None)
    if type(consumer)._consume is not Consumer._consume:
        return False
    return function is (Consumer._consume_json if consumer.jsonify else Consumer._consume)


class RunningHub(Hub):
    """A hub that runs as soon as it is made."""

    def __init__(self, config: Mapping[str, Any], consumers: Any = None, producers: Any = None) -> None:
        super().__init__(config, consumers, producers)
        self.start()


def provide_moksha() -> None:
    """Register ours under the names of moksha, from which plugins of 1.x import their base classes."""
    moksha.register(Hub, RunningHub)
