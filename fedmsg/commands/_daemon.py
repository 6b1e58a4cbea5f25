# SPDX-License-Identifier: LGPL-2.1-or-later
"""Going to the background: the one module that imports python-daemon."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import daemon
import daemon.daemon
import daemon.pidfile

from fedmsg.exceptions import AddressInUse, ConfigError

__all__ = ["detach"]

log = logging.getLogger("fedmsg.commands")

# Bytes; what is longer than a number with blanks around it is a file for something else.
_LONGEST_NUMBER = 64


def detach(pidfile: str | None) -> None:
    """Go on in the background: in a session of its own, without a terminal, with the log files open.

    The process that was started ends with status 0; this call returns in its grandchild.
    The working folder stays the same, since paths in the configuration may be relative.

    Raises:
        AddressInUse: The pidfile is that of a process which still runs.
        ConfigError: The pidfile can't be written, or the system doesn't let the process go.
    """
    context = daemon.DaemonContext(
        pidfile=_pidfile(os.path.abspath(pidfile)) if pidfile else None,
        files_preserve=[*_log_files()],
        working_directory=os.getcwd(),
        umask=_umask(),
        # Left to itself the library stays in the foreground when init is the parent.
        detach_process=True,
        # Signals are the business of the command.
        signal_map={},
    )
    try:
        context.open()
    except (daemon.daemon.DaemonError, OSError) as error:
        raise ConfigError(f"daemon: can't go to the background: {error}") from error


def _pidfile(path: str) -> daemon.pidfile.TimeoutPIDLockFile:
    """Check the pidfile while an error can still be shown, and remove one of a dead process."""
    lock = daemon.pidfile.TimeoutPIDLockFile(path, acquire_timeout=0)
    if lock.is_locked():
        pid = lock.read_pid()
        if pid is None and os.stat(path).st_size > _LONGEST_NUMBER:
            raise ConfigError(f"pidfile: {path} is there and is no pid file; remove it, or set pidfile to another one")
        if pid is None:
            # A crash, or a full disk, has left it like that: no process that runs is named by it.
            log.warning("pidfile: %s holds no process number, and is taken over", path)
        elif _is_alive(pid):
            raise AddressInUse(f"pidfile: {path}: process {pid} is running; stop it first")
        lock.break_lock()
    if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
        raise ConfigError(f"pidfile: {path} can't be written; set pidfile to a file in a folder that can be written")
    return lock


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _umask() -> int:
    """Return the mask for new files; the library's own default would let all users write them."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _log_files() -> Iterator[int]:
    """Yield the descriptors that logging writes to."""
    for log in [logging.getLogger(), *logging.root.manager.loggerDict.values()]:
        for handler in getattr(log, "handlers", ()):
            for file in (getattr(handler, "stream", None), getattr(handler, "socket", None)):
                # None, or without a descriptor at this time, or at all.
                with contextlib.suppress(AttributeError, OSError, ValueError):
                    yield file.fileno()  # type: ignore[union-attr]
