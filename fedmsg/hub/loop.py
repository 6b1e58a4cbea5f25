# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread of a hub that owns its receiving sockets: it reads, and hands on without looking."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.hub.consumer import Consumer
from fedmsg.hub.endpoints import Inbound
from fedmsg.hub.message import ZMQMessage
from fedmsg.hub.queue import Inbox
from fedmsg.hub.subscriptions import Callback, Subscriptions
from fedmsg.transport.base import Delivery
from fedmsg.transport.zmq.source import Source

__all__ = ["INJECTED", "Loop"]

log = logging.getLogger("fedmsg.hub")

# So many messages are received before those who want them are told.
_BATCH = 1000
# The loop looks up at least so often, in seconds; one that has not for longer than the second is not well.
_TICK = 1.0
_UNWELL = 10.0
#: So many messages that were not received may wait for their turn.
INJECTED = 100


def _nobody(_count: int) -> None:
    """What is told where nobody wants to know."""


class Loop:
    """Receives, and puts each message on the queues of those who want it.

    Args:
        config: The configuration.
        inbound: Where to receive from.
        subscriptions: Who wants what.
        rejections: Where refused messages are counted and told of.

    Attributes:
        inboxes: The queues of those who have one; others are called.
        injected: What did not come by the sockets and waits for its turn.
        failure: What the loop ended with, if not as it should.
        handed_on: Called with the number of messages each time that some have been handed on.
    """

    def __init__(
        self, config: Mapping[str, Any], inbound: Inbound, subscriptions: Subscriptions, rejections: RejectionLog
    ) -> None:
        self.inboxes: dict[Callback, Inbox] = {}
        self.injected: deque[Delivery] = deque()
        self.failure: BaseException | None = None
        self.handed_on: Callable[[int], object] = _nobody
        self._config = config
        self._inbound = inbound
        self._subscriptions = subscriptions
        self._rejections = rejections
        self._blocking = bool(settings.get(config, "moksha.blocking_mode"))
        self._source: Source | None = None
        self._subscribed: set[bytes] = set()
        # Who has to see all that comes by an address, whatever its topic.
        self._whole: dict[str, tuple[Callback, ...]] = {}
        self._thread = threading.Thread(target=self._run, name="fedmsg-hub", daemon=True)
        self._ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._calling: Callback | None = None
        self._beat = 0.0

    # ---------------------------------------------------------------- for the hub

    def start(self) -> None:
        """Begin to receive; returns when it does.

        Raises:
            AddressInUse: An address is taken.
            ConfigError: Something is no address.
        """
        self._thread.start()
        problem = self._ready.get()
        if problem is not None:
            self._thread.join()
            raise problem

    @property
    def running(self) -> bool:
        """Whether it receives."""
        return self._thread.is_alive()

    def well(self) -> bool:
        """Whether it goes round."""
        return self.running and time.monotonic() - self._beat < _UNWELL

    def is_in(self, thread: threading.Thread) -> bool:
        """Whether this is its thread."""
        return thread is self._thread

    def wake(self) -> None:
        """Have it look for what has changed: subscriptions, room in a queue, whether to go on."""
        source = self._source
        if source is not None:
            source.wake()

    def inject(self, delivery: Delivery) -> None:
        """Dispatch a message that did not come by the sockets.

        Raises:
            MessageError: There is no room for it.
        """
        if len(self.injected) >= INJECTED:
            raise MessageError("too many messages wait to be handled", "full")
        self.injected.append(delivery)
        self.wake()

    def stop(self) -> None:
        """Receive no more."""
        self._stopping.set()
        self.wake()

    def wait(self, until: float) -> list[str]:
        """Wait for its end; say what keeps it.

        Args:
            until: How long, on the clock of `time.monotonic`.
        """
        if self._thread is threading.current_thread() or not self._thread.is_alive():
            return []
        self._thread.join(max(0.0, until - time.monotonic()))
        # It may have a batch in hand that it is about to put on the queues. Only a callback can keep it for long.
        while self._thread.is_alive() and self._calling is None and time.monotonic() < until + _UNWELL:
            self._thread.join(0.01)
        return [f"the callback {self._calling!r} has not come back"] if self._thread.is_alive() else []

    # ---------------------------------------------------------------- in its thread

    def _run(self) -> None:
        try:
            source = self._open()
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._ready.put(error)
            return
        with source:
            try:
                self._follow_subscriptions(source)
                self._source = source
                self._beat = time.monotonic()
                self._ready.put(None)
                self._receive(source)
            except BaseException as error:
                self.failure = error
                log.exception("the hub's loop ended")
            finally:
                self._source = None

    def _open(self) -> Source:
        endpoints, services = self._inbound.endpoints, self._subscriptions.services
        # Of an address under two names it is the first that counts, as for the source.
        names = {address: name for name, address in reversed(endpoints)}
        self._whole = {address: services[name] for address, name in names.items() if name in services}
        return Source(
            self._config, endpoints, (), whole=services, passive=self._inbound.bound, rejections=self._rejections
        )

    def _receive(self, source: Source) -> None:
        most = 1 if self._blocking else _BATCH
        while not self._stopping.is_set():
            self._beat = time.monotonic()
            self._follow_subscriptions(source)
            if self._has_room():
                source.wait(0.0 if self.injected else _TICK)
                # Between the look and here only workers have been at the queues, and they make room.
                batch = [self.injected.popleft() for _ in range(min(len(self.injected), most))]
                batch += source.poll(most - len(batch))
                if batch:
                    self._dispatch(batch)
                    self.handed_on(len(batch))
            else:
                source.wait_for_wake(_TICK)

    def _has_room(self) -> bool:
        if self._blocking:
            return not any(inbox.unfinished for inbox in list(self.inboxes.values()))
        return not any(inbox.full for inbox in list(self.inboxes.values()))

    def _follow_subscriptions(self, source: Source) -> None:
        wanted = self._subscriptions.prefixes
        if wanted != self._subscribed:
            source.subscribe(wanted - self._subscribed)
            source.unsubscribe(self._subscribed - wanted)
            self._subscribed = wanted

    def _dispatch(self, batch: list[Delivery]) -> None:
        who_wants = self._subscriptions.who_wants
        groups: dict[Callback, list[Delivery]] = defaultdict(list)
        for message in batch:
            takers = who_wants(message.frame)
            if message.address in self._whole:
                takers = tuple(dict.fromkeys((*takers, *self._whole[message.address])))
            message.takers = len(takers)
            for taker in takers:
                groups[taker].append(message)
        calls: list[tuple[Callback, Delivery]] = []
        for taker, messages in groups.items():
            inbox = self.inboxes.get(taker)
            if inbox is not None:
                inbox.put_many(messages)
            else:
                calls += [(taker, message) for message in messages]
        # After the queues: a callback may do anything, and may even stop the hub.
        for taker, message in calls:
            # One before may have withdrawn it.
            if taker in who_wants(message.frame):
                self._calling = taker
                self._call(taker, message)
        self._calling = None

    def _call(self, taker: Callback, message: Delivery) -> None:
        try:
            if isinstance(getattr(taker, "__self__", None), Consumer):
                # It takes messages its own way, and good ones only, like every consumer.
                message.envelope()
            taker(ZMQMessage.of(message))
        except MessageError as error:
            self._rejections.add(message.address, error)
        except (Exception, SystemExit):
            log.exception("a callback failed on a message with the topic %a", message.frame[:300])
