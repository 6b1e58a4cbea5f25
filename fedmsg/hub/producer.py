# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract of a producer: something in a hub that acts of its own accord, at times or always."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import Any

__all__ = ["PollingProducer", "Producer"]


class Producer:
    """Something that a hub keeps for as long as it runs.

    Args:
        hub: The hub; something that has only ``config`` will do for tests.

    Attributes:
        hub: The hub.
        log: Its logger.
    """

    log: Any = logging.getLogger("fedmsg.hub")

    _initialized = False

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.DBSession: Any = None
        self.engine: Any = None
        self._exception_count = 0
        self._initialized = True

    def send_message(self, topic: Any, message: Any) -> None:
        """Publish a message through the hub."""
        self.hub.send_message(topic, message)

    def _hub_start(self) -> None:
        """Called when the hub runs."""

    def stop(self) -> None:
        """Called when the hub stops."""

    def __json__(self) -> dict[str, Any]:
        """The producer's row of the monitoring report."""
        return {
            "name": type(self).__name__,
            "module": type(self).__module__,
            "initialized": self._initialized,
            "exceptions": self._exception_count,
        }

    def totals(self) -> dict[str, int]:
        """What it has done since it started, by kind."""
        return self._hub_totals()

    def _hub_totals(self) -> dict[str, int]:
        return {}


class PollingProducer(Producer):
    """A producer whose `poll` is called again and again, in a thread of its own.

    Attributes:
        frequency: The time between two calls, in seconds or as a timedelta; None and 0 are no time.
        now: Whether the first call comes at once, not after that time.
        die: Whether it is to end.
    """

    frequency: float | timedelta | None = None
    now: bool = False
    die: bool = False

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self._last_ran: float | None = None
        self._hub_polls = 0
        self._hub_failures = 0
        self._hub_ended = threading.Event()
        self._hub_thread: threading.Thread | None = None

    def poll(self) -> Any:
        """Do the work; every polling producer has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no poll()")

    def _hub_start(self) -> None:
        """Begin to poll."""
        self._hub_thread = threading.Thread(target=self._hub_run, name=f"fedmsg-{type(self).__name__}", daemon=True)
        self._hub_thread.start()

    def _hub_pause(self) -> float:
        frequency = self.frequency
        return frequency.total_seconds() if isinstance(frequency, timedelta) else float(frequency or 0)

    def _hub_run(self) -> None:
        if self.now and not self.die:
            self._poll()
        while not self.die and not self._hub_ended.wait(self._hub_pause()):
            self._poll()

    def _poll(self) -> None:
        """Poll once; whatever comes of it, the next poll comes too."""
        self._hub_polls += 1
        try:
            self.poll()
        except BaseException:
            # This thread ends with the hub; no poll ends it.
            self._exception_count += 1
            self._hub_failures += 1
            self.log.exception("%s failed in poll()", type(self).__name__)
            # Without a pause between polls, one that always fails would do nothing but fill the log.
            self._hub_ended.wait(0.0 if self._hub_pause() else 1.0)
        else:
            self._exception_count = 0
        self._last_ran = time.time()

    def stop(self) -> None:
        """Poll no more; one that runs is waited for until ``stop_timeout`` of the hub."""
        self.die = True
        self._hub_ended.set()

    def _hub_wait(self, until: float) -> bool:
        """Wait for the last poll to end; whether it has.

        Args:
            until: How long, on the clock of `time.monotonic`.
        """
        if self._hub_thread is None or self._hub_thread is threading.current_thread():
            return True
        self._hub_thread.join(max(0.0, until - time.monotonic()))
        return not self._hub_thread.is_alive()

    def __json__(self) -> dict[str, Any]:
        """The producer's row of the monitoring report."""
        return {
            **super().__json__(),
            "frequency": self._hub_pause() if isinstance(self.frequency, timedelta) else self.frequency,
            "now": self.now,
            "last_ran": self._last_ran,
        }

    def _hub_totals(self) -> dict[str, int]:
        return {"polls": self._hub_polls, "failures": self._hub_failures}
