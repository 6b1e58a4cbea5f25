# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a daemon hears that it should stop: SIGTERM and SIGINT, idle or busy."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from fedmsg.monitoring import systemd

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
        self.requested = False
        # No threading.Event: a handler runs wherever its thread is, and where that is inside of the
        # event's own wait, holding its lock, setting it would wait for that lock for ever.
        self._bell = -1
        self._before: dict[signal.Signals, Any] = {}

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a stop signal.

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            Whether one has come.
        """
        if not self.requested:
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
            poll.poll(None if timeout is None else timeout * 1000)
        return self.requested

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
        self.requested = True
        os.eventfd_write(self._bell, 1)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        log.warning("SIGHUP: a running process reloads nothing; restart it to read a changed configuration")

    def __enter__(self) -> StopSignals:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
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
        os.close(self._bell)
