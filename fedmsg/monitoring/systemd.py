# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a service says to systemd: that it is ready, alive, stopping.

The protocol is that of ``sd_notify(3)``: datagrams to the socket in ``NOTIFY_SOCKET``.
Without that variable everything here does nothing, so a daemon calls it unconditionally.
"""

from __future__ import annotations

import logging
import os
import socket

__all__ = ["notify", "watchdog_interval"]

log = logging.getLogger("fedmsg.transport")


def notify(state: str) -> bool:
    """Tell the service manager something.

    Args:
        state: Assignments, one a line, such as ``READY=1`` or ``STATUS=...``.

    Returns:
        Whether somebody has been told.
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
        log.warning("NOTIFY_SOCKET=%s can't be written to: %s", where, error.strerror)
        return False
    return True


def watchdog_interval() -> float | None:
    """How often to say ``WATCHDOG=1``, in seconds: twice as often as systemd wants it.

    Returns:
        None where no watchdog is set for this process.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(os.environ["WATCHDOG_USEC"]) / 2e6 or None
    except (KeyError, ValueError):
        return None
