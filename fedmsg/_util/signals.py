# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a daemon receives the signals that stop it: SIGTERM and SIGINT, idle or busy."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from fedmsg._util.service import Waker

__all__ = ["StopSignals"]

log = logging.getLogger("fedmsg.transport")

_STOP = (signal.SIGTERM, signal.SIGINT)
# What a new process has.
_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}
# The blocks that last, of which a forked child has to forget the handlers.
_active: list[StopSignals] = []


class StopSignals:
    """Takes the stop signals of a process for as long as the block lasts.

    SIGHUP, which ends a process by default, is answered in the log: nothing is reloaded. A child that is
    forked meanwhile has Python's own handlers. Outside the main thread only `request` stops: Python has
    signal handlers there only.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waker: Waker | None = None
        self._before: dict[signal.Signals, Any] = {}

    def wait(self, timeout: float | None = None) -> bool:
        """Wait some seconds, or for ever, for a stop signal; whether one has come."""
        if not self.requested and self._waker is not None:
            self._waker.wait(timeout)
        return self.requested

    def request(self) -> None:
        """Request the stop, as a signal does; any thread may call this."""
        self.requested = True
        if self._waker is not None:
            self._waker.wake()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.request()

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        log.warning("SIGHUP: a running process reloads nothing; restart it to read a changed configuration")

    def __enter__(self) -> StopSignals:
        self._waker = Waker()
        if threading.current_thread() is threading.main_thread():
            _active.append(self)
            for number in _STOP:
                self._before[number] = signal.signal(number, self._stop)
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self in _active:
            _active.remove(self)
        if self._waker is not None:
            self._waker.close()


def _reset_in_child() -> None:
    """Set the handlers of a new process in a forked child: its parent's would wake the parent."""
    if _active:
        _active.clear()
        for number, handler in _DEFAULTS.items():
            signal.signal(number, handler)


os.register_at_fork(after_in_child=_reset_in_child)
