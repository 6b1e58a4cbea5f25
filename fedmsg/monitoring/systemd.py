# SPDX-License-Identifier: LGPL-2.1-or-later
"""Notifies systemd of the state of a service: ready, alive, stopping.

The protocol is that of ``sd_notify(3)``: datagrams to the socket in ``NOTIFY_SOCKET``.
Without that variable everything here does nothing, so a daemon calls it unconditionally.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable

from fedmsg._util.text import quoted

__all__ = ["notify", "wait_and_watch", "watchdog_interval"]

log = logging.getLogger("fedmsg.transport")

_CHECK_S = 1.0
# The sockets that a warning was logged for: notifications come every second.
_unwritable: set[str] = set()


def notify(state: str) -> bool:
    """Send the service manager assignments, one a line, such as ``READY=1``; whether they were sent.

    A socket that can't be written to is logged once.
    """
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return False
    # A leading @ stands for the zero byte of Linux's abstract socket names.
    path = "\0" + where[1:] if where.startswith("@") else where
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            # A manager that does not read, ten messages behind, must not keep a daemon from its work.
            manager.setblocking(False)
            manager.connect(path)
            manager.sendall(state.encode())
    except BlockingIOError:
        return False
    except OSError as error:
        if where not in _unwritable:
            _unwritable.add(where)
            log.warning("NOTIFY_SOCKET=%s can't be written to: %s", quoted(where), error.strerror)
        return False
    _unwritable.discard(where)
    return True


def watchdog_interval() -> float | None:
    """Return how often to send ``WATCHDOG=1``, in seconds: twice as often as systemd demands it; None for never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(os.environ["WATCHDOG_USEC"]) / 2e6 or None
    except (KeyError, ValueError):
        return None


def wait_and_watch(wait: Callable[[float], bool], is_running: Callable[[], bool], is_well: Callable[[], bool]) -> None:
    """Wait for the stop of a daemon, and notify systemd's watchdog as long as all is well.

    Args:
        wait: Waits so many seconds for the stop; whether it has come.
        is_running: Whether there is anything to wait for; without it, this returns.
        is_well: Whether the work goes on; while it does not, the watchdog is not notified.
    """
    interval = watchdog_interval()
    while not wait(min(interval or _CHECK_S, _CHECK_S)):
        if not is_running():
            return
        if is_well() and interval:
            notify("WATCHDOG=1")
