# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock of the one relay that writes to a stream: on a file beside an SQLite database, or advisory in PostgreSQL."""

from __future__ import annotations

import fcntl
import os
from typing import Any, Protocol
from weakref import WeakSet

from fedmsg.exceptions import StoreError
from fedmsg.transport.zmq import contexts

__all__ = ["AdvisoryLock", "FileLock", "WriterLock"]


class WriterLock(Protocol):
    """A lock that one process holds at a time."""

    def take(self, connection: Any) -> bool:
        """Take the lock for the connection that writes, and return whether it is held now."""

    def is_held(self) -> bool:
        """Return whether it is still held, for the connection that took it; where that is cheap to know."""

    def release(self, connection: Any) -> None:
        """Release the lock; the connection is that which took it, None where it was lost."""


class FileLock:
    """A lock on a file of its own: closing any descriptor of the database itself would drop SQLite's locks."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        _file_locks.add(self)

    def take(self, connection: Any) -> bool:  # noqa: ARG002 the lock is the process's
        """Take the lock, and return whether it is held now; one whose file was removed is taken anew."""
        if self._descriptor is not None:
            if self.is_held():
                return True
            self.release()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"the lock file {self._path} can't be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_held = self._is_there(descriptor)
        except OSError:
            is_held = False
        if not is_held:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def is_held(self) -> bool:
        """Return whether it is still held: its file may have been removed, and another process have made it anew."""
        return self._descriptor is not None and self._is_there(self._descriptor)

    def _is_there(self, descriptor: int) -> bool:
        """Return whether others find the file that is open here: someone may have removed it."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except OSError:
            return False

    def release(self, connection: Any = None) -> None:  # noqa: ARG002 the lock is the process's
        """Release the lock; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class AdvisoryLock:
    """A lock of the database server, which lasts as long as the connection that took it."""

    def __init__(self, stream: str) -> None:
        # Several streams may live in one database, in schemas of their own.
        self._key = int(stream[:16], 16) - 2**63

    def take(self, connection: Any) -> bool:
        """Take the lock on this connection, and return whether it is held now."""
        found = connection.exec_driver_sql("SELECT pg_try_advisory_lock(%s)", (self._key,)).scalar()
        connection.commit()
        return bool(found)

    def is_held(self) -> bool:
        """Return True: it lasts as long as the connection."""
        return True

    def release(self, connection: Any) -> None:
        """Release the lock now: the server notices the end of a connection some time after."""
        if connection is not None:
            connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (self._key,))
            connection.commit()


_file_locks: WeakSet[FileLock] = WeakSet()


def _in_child() -> None:
    # A child that lives longer than its parent must not keep the lock.
    for lock in _file_locks:
        lock.release()


contexts.after_fork(_in_child)
