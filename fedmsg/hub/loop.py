# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread of a hub that owns its receiving sockets: it reads, and offers messages to consumers undecoded."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.filters import SubscriptionIndex
from fedmsg.hub.consumer import Consumer
from fedmsg.hub.endpoints import Inbound
from fedmsg.hub.forking import ForkGuard
from fedmsg.hub.hooks import ZMQMessage
from fedmsg.hub.runner import ConsumerRunner
from fedmsg.transport import choice
from fedmsg.transport.base import Delivery

if TYPE_CHECKING:
    from fedmsg.transport.zmq.source import Source

__all__ = ["INJECTED", "Callback", "Loop"]

log = logging.getLogger("fedmsg.hub")

#: Takes a message.
Callback = Callable[[Any], object]

# How many messages are received before they are offered to consumers.
_BATCH = 1000
# The loop looks up at least so often, in seconds; one that has not for longer than the second is not well.
_TICK_S = 1.0
_UNWELL_S = 10.0
#: How many messages that were not received may wait for their turn.
INJECTED = 100


def _ignore(_count: int) -> None:
    """Do nothing."""


class Loop(ServiceThread):
    """Receives, and offers each message to the consumers that have subscribed to its topic.

    Attributes:
        runners: The runners of the callbacks whose messages go to a queue; other callbacks are called.
        injected: What did not come by the sockets and waits for its turn.
        on_dispatch: Called with the number of messages each time that some have been dispatched.
    """

    def __init__(self, config: Mapping[str, Any], inbound: Inbound, rejections: RejectionLog) -> None:
        super().__init__("fedmsg-hub")
        self.subscriptions: SubscriptionIndex[Callback] = SubscriptionIndex(strict=settings.get(config, "zmq_strict"))
        self.runners: dict[Callback, ConsumerRunner] = {}
        self.injected: deque[Delivery] = deque()
        self.on_dispatch: Callable[[int], object] = _ignore
        self._config = config
        self._inbound = inbound
        self._rejections = rejections
        self._blocking = bool(settings.get(config, "moksha.blocking_mode"))
        self._source: Source | None = None
        self._subscribed: tuple[str, ...] = ()
        # Callbacks that get all that comes by an address, whatever its topic.
        self._whole: dict[str, tuple[Callback, ...]] = {}
        self._calling: Callback | None = None
        self._beat = 0.0
        self._fork_guard = ForkGuard()

    # ---------------------------------------------------------------- for the hub

    def well(self) -> bool:
        """Return whether it goes round."""
        return self.alive and time.monotonic() - self._beat < _UNWELL_S

    def wake(self) -> None:
        """Wake the loop to look for changes: subscriptions, room in a queue, a stop."""
        source = self._source
        if source is not None:
            source.wake()

    def inject(self, delivery: Delivery) -> None:
        """Dispatch a message that did not come by the sockets; raise MessageError where there is no room for it."""
        if len(self.injected) >= INJECTED:
            raise MessageError("too many messages wait to be handled", "full")
        self.injected.append(delivery)
        self.wake()

    def stop(self) -> None:
        """Receive no more."""
        super().stop()
        self.wake()

    def wait(self, deadline: float) -> list[str]:
        """Wait for its end, until a time on the clock of `time.monotonic`; return what keeps it, as lines."""
        if self.is_current or self.join(deadline - time.monotonic()):
            return []
        # It may have a batch that it is about to put on the queues. Only a callback can keep it for long.
        while not self.join(0.01) and self._calling is None and time.monotonic() < deadline + _UNWELL_S:
            pass
        return [f"the callback {self._calling!r} has not returned"] if self.alive else []

    # ---------------------------------------------------------------- in its thread

    def run(self) -> None:
        """Receive until the end."""
        source = self._open()
        with source:
            self._fork_guard = ForkGuard()
            self._follow_subscriptions(source)
            self._source = source
            self._beat = time.monotonic()
            self.ready()
            try:
                self._receive(source)
            finally:
                self._source = None

    def _open(self) -> Source:
        endpoints = self._inbound.endpoints
        services: dict[str, tuple[Callback, ...]] = {}
        for callback, runner in self.runners.items():
            for name in runner.hooks.services:
                services[name] = (*services.get(name, ()), callback)
        # Of an address under two names it is the first that counts, as for the source.
        names = {address: name for name, address in reversed(endpoints)}
        self._whole = {address: services[name] for address, name in names.items() if name in services}
        opened: Source = choice.of(self._config).load("source")(
            self._config, endpoints, (), whole=services, passive=self._inbound.bound, rejections=self._rejections
        )
        return opened

    def _receive(self, source: Source) -> None:
        most = 1 if self._blocking else _BATCH
        while not self.stopping:
            self._beat = time.monotonic()
            self._follow_subscriptions(source)
            if self._has_room():
                source.wait(0.0 if self.injected else _TICK_S)
                # Between the look and here only workers have been at the queues, and they make room.
                batch = [self.injected.popleft() for _ in range(min(len(self.injected), most))]
                batch += source.poll(most - len(batch))
                if batch:
                    self._dispatch(batch)
                    self.on_dispatch(len(batch))
            else:
                source.wait_for_wake(_TICK_S)

    def _has_room(self) -> bool:
        runners = list(self.runners.values())
        return not any(runner.queue.unfinished if self._blocking else runner.is_full for runner in runners)

    def _follow_subscriptions(self, source: Source) -> None:
        wanted, before = self.subscriptions.prefixes, self._subscribed
        if wanted != before:
            source.subscribe({*wanted} - {*before})
            source.unsubscribe({*before} - {*wanted})
            self._subscribed = wanted

    def _dispatch(self, batch: list[Delivery]) -> None:
        matching = self.subscriptions.matching
        of_topic: dict[bytes, tuple[Callback, ...]] = {}
        groups: dict[Callback, list[Delivery]] = defaultdict(list)
        for message in batch:
            takers = of_topic.get(message.frame)
            if takers is None:
                takers = of_topic[message.frame] = matching(message.frame.decode(errors="replace"))
            if message.address in self._whole:
                takers = tuple(dict.fromkeys((*takers, *self._whole[message.address])))
            message.takers = len(takers)
            for taker in takers:
                groups[taker].append(message)
        calls: list[tuple[Callback, Delivery]] = []
        for taker, messages in groups.items():
            runner = self.runners.get(taker)
            if runner is not None:
                runner.offer(messages)
            else:
                calls += [(taker, message) for message in messages]
        # After the queues: a callback may do anything, and may even stop the hub.
        for taker, message in calls:
            # A callback before it may have withdrawn it.
            if taker in self.subscriptions.members:
                self._calling = taker
                self._call(taker, message)
        self._calling = None

    def _call(self, taker: Callback, message: Delivery) -> None:
        try:
            if isinstance(getattr(taker, "__self__", None), Consumer):
                # It takes messages its own way, and valid ones only, like every consumer.
                message.envelope()
            taker(ZMQMessage.of(message))
        except MessageError as error:
            self._rejections.add(message.address, error)
        except (Exception, SystemExit) as error:
            self._fork_guard.check(error)
            log.exception("a callback failed on a message with the topic %a", message.frame[:300])
        self._fork_guard.check()
