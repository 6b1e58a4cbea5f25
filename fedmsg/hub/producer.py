# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract of a producer: something in a hub that acts of its own accord, at times or always."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from fedmsg import encoding
from fedmsg._util.service import ServiceThread
from fedmsg.hub.forking import ForkGuard
from fedmsg.monitoring import report

__all__ = ["MonitoringProducer", "PollingProducer", "Producer", "ProducerRunner", "runner_of"]

# Without a pause between polls, one that always fails would do nothing but fill the log.
_PAUSE_AFTER_FAILURE_S = 1.0


class ProducerRunner:
    """What a hub keeps of one producer: for one that is polled, the thread, and how often it was polled.

    Attributes:
        on_start: Called when the hub starts; what they raise keeps it from starting.
    """

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.on_start: list[Callable[[], object]] = []
        self.polls = self.failures = 0
        self._thread = _PollingThread(self) if isinstance(producer, PollingProducer) else None

    def prepare(self) -> None:
        """Raise what keeps the producer from working."""
        for function in self.on_start:
            function()

    def start(self) -> None:
        """Start to work."""
        if self._thread is not None:
            self._thread.start()

    def stop(self) -> None:
        """Request the stop and return at once: the thread ends after its current poll."""
        if self._thread is not None:
            self.producer.die = True
            self._thread.stop()

    def wait(self, deadline: float) -> bool:
        """Wait for the last poll to end, until a time on the clock of `time.monotonic`; whether it has."""
        if self._thread is None:
            return True
        ended = self._thread.join(deadline - time.monotonic()) or self._thread.is_current
        self._thread.abandon()
        return ended

    def is_current(self) -> bool:
        """Return whether the caller runs in its thread."""
        return self._thread is not None and self._thread.is_current

    def totals(self) -> dict[str, int]:
        """Return what it has done since it started, by kind."""
        return {} if self._thread is None else {"polls": self.polls, "failures": self.failures}

    @property
    def pause_s(self) -> float:
        """Seconds between two polls."""
        frequency = self.producer.frequency
        return frequency.total_seconds() if isinstance(frequency, timedelta) else float(frequency or 0)

    def poll(self, guard: ForkGuard | None = None) -> bool:
        """Poll once; whether that went well."""
        producer = self.producer
        self.polls += 1
        error: BaseException | None = None
        try:
            producer.poll()
        except BaseException as problem:  # noqa: BLE001 - this thread ends with the hub; no poll ends it
            error = problem
        if guard is not None:
            guard.check(error)
        if error is None:
            producer._exception_count = 0
        else:
            producer._exception_count += 1
            self.failures += 1
            producer.log.error("%s failed in poll()", type(producer).__name__, exc_info=error)
        producer._last_ran = time.time()
        return error is None


class _PollingThread(ServiceThread):
    """Polls a producer again and again."""

    def __init__(self, runner: ProducerRunner) -> None:
        super().__init__(f"fedmsg-{type(runner.producer).__name__}")
        self._runner = runner

    def run(self) -> None:
        """Poll until the end."""
        self.ready()
        guard, runner, producer = ForkGuard(), self._runner, self._runner.producer
        is_due = producer.now
        while not (producer.die or self.stopping):
            if is_due and not runner.poll(guard) and not runner.pause_s:
                self.waker.poll(_PAUSE_AFTER_FAILURE_S)
            is_due = not self.waker.poll(runner.pause_s)


class Producer:
    """Something that a hub keeps for as long as it runs; a hub for tests needs only ``config``."""

    log: Any = logging.getLogger("fedmsg.hub")

    _initialized = False

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.DBSession: Any = None
        self.engine: Any = None
        self._exception_count = 0
        self.__runner = ProducerRunner(self)
        self._initialized = True

    def send_message(self, topic: Any, message: Any) -> None:
        """Publish a message through the hub."""
        self.hub.send_message(topic, message)

    def stop(self) -> None:
        """Release what the producer holds; called when the hub stops."""

    def __json__(self) -> dict[str, Any]:
        """Return the producer's row of the status report."""
        return {
            "name": type(self).__name__,
            "module": type(self).__module__,
            "initialized": self._initialized,
            "exceptions": self._exception_count,
        }

    def totals(self) -> dict[str, int]:
        """Return what it has done since it started, by kind."""
        return self.__runner.totals()


def runner_of(producer: Producer) -> ProducerRunner:
    """Return the runner of a producer, which has no name among those of its subclasses."""
    return cast("ProducerRunner", vars(producer)["_Producer__runner"])


class PollingProducer(Producer):
    """A producer whose `poll` is called again and again, in a thread of its own.

    Attributes:
        frequency: The time between two calls, in seconds or as a timedelta; None and 0 are no time.
        now: Whether the first call comes at once, not after that time.
    """

    frequency: float | timedelta | None = None
    now: bool = False
    die: bool = False

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self._last_ran: float | None = None

    def poll(self) -> Any:
        """Do the work; every polling producer has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no poll()")

    def _poll(self) -> None:
        """Poll once; what that raises is logged and counted."""
        runner_of(self).poll()

    def stop(self) -> None:
        """Poll no more; the hub waits for a poll that runs until its ``stop_timeout``."""
        runner_of(self).stop()

    def __json__(self) -> dict[str, Any]:
        """Return the producer's row of the status report."""
        return {
            **super().__json__(),
            "frequency": runner_of(self).pause_s if isinstance(self.frequency, timedelta) else self.frequency,
            "now": self.now,
            "last_ran": self._last_ran,
        }


class MonitoringProducer(PollingProducer):
    """Sends the status reports of its hub; without ``moksha.monitoring.socket`` it is disabled."""

    frequency = report.INTERVAL_S

    def __init__(self, hub: Any) -> None:
        if not hub.config.get(report.KEY):
            return
        super().__init__(hub)
        self._socket = report.ReportSocket(hub.config)
        runner_of(self).on_start.append(self._socket.open)

    def poll(self) -> None:
        """Send a report."""
        self._socket.send(encoding.dumps(self.hub.report()))

    def stop(self) -> None:
        """Send no more."""
        super().stop()
        if self._initialized:
            self._socket.close()

    def __json__(self) -> dict[str, Any]:
        """Return its row of the report, under the name of module that readers know."""
        return {**super().__json__(), "module": report.PRODUCER_MODULE}
