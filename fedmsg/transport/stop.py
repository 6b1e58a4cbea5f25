# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a daemon hears that it should stop: SIGTERM and SIGINT, idle or busy."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from fedmsg.transport import systemd

__all__ = ["StopSignals"]

log = logging.getLogger("fedmsg.transport")

_STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Takes the stop signals of a process for as long as the block lasts; main thread only.

    SIGHUP, which ends a process by default, is told in the log that nothing is reloaded.

    Attributes:
        requested: Whether a stop signal has come.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a stop signal has come."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a stop signal.

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            Whether one has come.
        """
        return self._event.wait(timeout)

    def wait_and_watch(self, running: Callable[[], bool], well: Callable[[], bool]) -> None:
        """Wait for a stop signal, reassuring systemd's watchdog as long as all is well.

        Args:
            running: Whether there is anything to wait for; once it says no, this returns.
            well: Whether the work goes on; as long as it says no, the watchdog is told nothing
                and decides by itself when that is too long.
        """
        interval = systemd.watchdog_interval()
        while not self.wait(min(interval or 1.0, 1.0)):
            if not running():
                return
            if well() and interval:
                systemd.notify("WATCHDOG=1")

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        log.warning("SIGHUP: a running process reloads nothing; restart it to read a changed configuration")

    def __enter__(self) -> StopSignals:
        for number in _STOPPING:
            self._before[number] = signal.signal(number, self._stop)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
