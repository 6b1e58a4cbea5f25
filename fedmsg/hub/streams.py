# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumers of a hub that acknowledge: each reads under its name, in a thread of its own.

Those that are durable read the stream of a relay; over a broker every consumer has its own queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, FedmsgError, UsageError
from fedmsg.filters import TopicFilter
from fedmsg.hub.consumer import SHARED, Consumer, as_topics
from fedmsg.hub.runner import ConsumerRunner
from fedmsg.stream.subscription import checked_name
from fedmsg.transport import choice
from fedmsg.transport.base import Delivery, Reader

__all__ = ["StreamReader", "StreamReaders"]

log = logging.getLogger("fedmsg.hub")

_BATCH = 1000
_TICK_S = 1.0
_PACE_S = 5.0
# What comes out of the relay is not an endpoint that it does not hear.
_OF_RELAY = "relay_outbound"
_NAMED_ENDPOINTS_MAX = 5


class StreamReader(ServiceThread):
    """Reads for one consumer, and offers messages to its runner as far as that has room.

    What it reads by stays open when the thread has ended, until `close`, for what is acknowledged last.

    Args:
        config: The configuration.
        runner: The runner of the consumer.
        name: The name of the durable subscription.
        rejections: Where rejected messages are counted and logged.
        begin: Where a new name begins: ``after`` or ``since``.

    Raises:
        UsageError: ``begin`` makes no sense. A ValueError.
        ConfigError: There is no address to read at, or something is none.
        RefusedAtStart: The keys for CURVE can't be read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        runner: ConsumerRunner,
        name: str,
        rejections: RejectionLog,
        begin: Mapping[str, Any],
    ) -> None:
        consumer = runner.consumer
        super().__init__(f"fedmsg-{_class_of(runner)}-stream")
        self.name = name
        self._runner = runner
        self._next_pace = 0.0
        self._is_blocking = bool(settings.get(config, "moksha.blocking_mode"))
        self._topics = TopicFilter(as_topics(consumer.topic), strict=settings.get(config, "zmq_strict"), globs=False)
        prefixes = self._topics.prefixes()
        self._subscription: Reader = choice.of(config).load("reader")(
            config, prefixes, name, is_ordered=bool(runner.durable), rejections=rejections,
            stored=lambda: consumer.stored_position(name), begin=begin,
        )  # fmt: skip
        self._is_exact = all(self._topics.matches(f"{prefix}x") for prefix in prefixes)
        runner.queue.on_room = self._subscription.wake
        runner.more_totals.append(self._subscription.totals)

    # ---------------------------------------------------------------- in the thread

    def run(self) -> None:
        """Read until the stop, or what ends the subscription."""
        self.ready()
        subscription = self._subscription
        try:
            while not self.stopping:
                self._note_pace()
                most = self._room()
                if not most:
                    subscription.wait_for_wake(_TICK_S)
                    continue
                subscription.wait(_TICK_S)
                deliveries = subscription.poll(most)
                if deliveries:
                    self._offer(deliveries)
        except FedmsgError as error:
            self.failure = error
            log.error("%s can't read as %s, so the hub ends: %s", _class_of(self._runner), self.name, error)

    def _note_pace(self) -> None:
        """Pass on, now and then, how long the consumer takes for a message."""
        now = time.monotonic()
        if now >= self._next_pace:
            self._next_pace = now + _PACE_S
            if times := list(self._runner.handler.times):
                self._subscription.pace(sum(times) / len(times))

    def _room(self) -> int:
        """Return how many messages there is room for."""
        runner = self._runner
        queue, unfinished = runner.queue, len(runner.acknowledgements.open)
        if self._is_blocking:
            return int(not queue.unfinished)
        # Others are finished ahead of one that takes long, and are kept until it is, too.
        if queue.full or unfinished >= queue.limit + 2 * _BATCH:
            return 0
        return min(_BATCH, queue.limit - queue.qsize())

    def _offer(self, deliveries: Sequence[Delivery]) -> None:
        runner = self._runner
        if self._is_exact:
            runner.offer(deliveries)
            return
        # The relay knows beginnings of topics only.
        for delivery in deliveries:
            if self._topics.matches(delivery.frame.decode(errors="replace")):
                runner.offer((delivery,))
            else:
                runner.pass_over(delivery)

    # ---------------------------------------------------------------- for the hub

    def stop(self) -> None:
        """Read no more."""
        super().stop()
        self._subscription.wake()

    def _close(self) -> None:
        super()._close()
        self._subscription.close()


class StreamReaders:
    """The readers of all durable consumers of a hub.

    Args:
        config: The configuration.
        runners: The runners of all consumers.
        rejections: Where rejected messages are counted and logged.
        begin: Where a new name begins: ``after`` or ``since``; new messages only, where it is empty.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        runners: Iterable[ConsumerRunner],
        rejections: RejectionLog,
        begin: Mapping[str, Any],
    ) -> None:
        self._config = config
        self._runners = [runner for runner in runners if runner.durable is not False]
        self._rejections = rejections
        self._begin = begin
        self._readers: list[StreamReader] = []
        self._names: dict[str, ConsumerRunner] = {}

    def prepare(self) -> None:
        """Check what the consumers ask for.

        Raises:
            ConfigError: A consumer can't be durable, or not under its name.
            UsageError: A place to begin is asked for, and no consumer is durable.
        """
        if self._begin and not any(runner.durable for runner in self._runners):
            raise UsageError("--since, --after and --first are for durable consumers, and none of this hub is durable")
        self._names = {}
        for runner in self._runners:
            name = _name_of(runner)
            other = self._names.setdefault(name, runner)
            if other is not runner:
                one, two = (f"{type(each.consumer).__module__}:{_class_of(each)}" for each in (other, runner))
                raise ConfigError(
                    f"{one} and {two} are both durable as {name!r}: set {_setting_of(runner)} to another name"
                )

    def start(self, endpoints: Iterable[str]) -> None:
        """Begin to read.

        Args:
            endpoints: The names of all endpoints of the hub.

        Raises:
            UsageError: There is no such place to begin.
            ConfigError: ``relay_stream`` has no address, or what is none.
            RefusedAtStart: The keys for CURVE can't be read.
        """
        others = [name for name in dict.fromkeys(endpoints) if name != _OF_RELAY]
        if self._names and others and not choice.of(self._config).endpoint:
            more = ", …" if len(others) > _NAMED_ENDPOINTS_MAX else ""
            log.info(
                "%s: durable, and read only what passes the relay; what comes by other endpoints alone (%s%s) does not "
                "reach them",
                ", ".join(sorted(self._names)), ", ".join(others[:_NAMED_ENDPOINTS_MAX]), more,
            )  # fmt: skip
        for name, runner in self._names.items():
            reader = StreamReader(self._config, runner, name, self._rejections, self._begin)
            self._readers.append(reader)
            reader.start()

    @property
    def alive(self) -> bool:
        """Whether each of them reads."""
        return all(reader.alive for reader in self._readers)

    @property
    def failure(self) -> BaseException | None:
        """What has ended the first of them that has not ended by itself; None as long as none has."""
        return next((reader.failure for reader in self._readers if reader.failure is not None), None)

    def stop(self) -> None:
        """Read no more."""
        for reader in self._readers:
            reader.stop()

    def wait(self, deadline: float) -> None:
        """Wait for their end, until a time on the clock of `time.monotonic`."""
        for reader in self._readers:
            reader.join(deadline - time.monotonic())

    def close(self) -> None:
        """Send what is acknowledged to the relay, and close the subscriptions; a second call does nothing."""
        for reader in self._readers:
            reader.close()


def _setting_of(runner: ConsumerRunner) -> str:
    key = getattr(runner.consumer, "config_key", None)
    return f"{key}.durable" if isinstance(key, str) else f"durable of {_class_of(runner)}"


def _class_of(runner: ConsumerRunner) -> str:
    return type(runner.consumer).__name__


def _name_of(runner: ConsumerRunner) -> str:
    """Return the name under which a consumer reads.

    Raises:
        ConfigError: There can't be such a name, or the consumer takes messages in a way of its own.
    """
    consumer, value, setting = type(runner.consumer), runner.durable, _setting_of(runner)
    for method in ("_consume", "_do_work"):
        if getattr(consumer, method) is not getattr(Consumer, method):
            name = consumer.__name__
            raise ConfigError(f"{name} has a {method}() of its own, so it can't be durable: set {setting} to False")
    if value is True or value is SHARED:
        return consumer.__name__
    try:
        return checked_name(value)
    except UsageError as error:
        reason = str(error).removeprefix(f"durable={value!r} ")
        raise ConfigError(f"{setting} is {value!r}: it {reason}; write True, False or a short name") from error
