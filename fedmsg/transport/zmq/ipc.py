# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file of an ``ipc://`` address: its mode, whether it is in use, and what a dead process has left.

Left alone, libzmq removes whatever file is there, in use or not. So `reserved` looks first, and a
socket whose file needs a mode before others can connect is made by `listen` and passed to libzmq.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from fedmsg.exceptions import AddressInUse, ConfigError, FedmsgError

__all__ = ["File", "listen", "reserved"]

log = logging.getLogger("fedmsg.hub.monitoring")

_BACKLOG = 100
# Binding takes a millisecond; a stranger's lock on a folder must not stop a start.
_LOCK_TIMEOUT_S = 1.0
_LOCK_PAUSE_S = 0.02


class File(NamedTuple):
    """The file of a listening socket.

    Attributes:
        descriptor: The socket itself, for ``ZMQ_USE_FD``.
        identity: Device and inode, which differ for a file that another process has put there since.
    """

    path: str
    descriptor: int
    identity: tuple[int, int]

    def remove(self) -> None:
        """Remove the file, if it is still this one."""
        with contextlib.suppress(OSError):
            if _identity(os.lstat(self.path)) == self.identity:
                os.unlink(self.path)


def listen(path: str, mode: int | None, key: str) -> File:
    """Make a listening socket at a path; ``key`` is where the address was configured, for errors.

    A socket file of a process that has ended is replaced. The file has the permissions before a client can connect;
    None leaves them to the umask.

    Raises:
        AddressInUse: Another process listens there.
        ConfigError: There can be no socket, or there is something else.
    """
    try:
        with reserved(path, key):
            return _listening(path, mode)
    except FedmsgError:
        # Ours are system errors too.
        raise
    except OSError as error:
        raise ConfigError(f"{key}: ipc://{path} can't be bound: {error.strerror or error}") from error


@contextlib.contextmanager
def reserved(path: str, key: str) -> Iterator[None]:
    """Keep a path free for the block, which binds it; ``key`` is where the address was configured, for errors.

    A path that begins with ``@`` or is ``*`` has no file.

    The socket file of a process that has ended is removed.

    Raises:
        AddressInUse: Another process listens there.
        ConfigError: There is something else.
    """
    if path.startswith("@") or path == "*":
        yield
        return
    with _alone(os.path.dirname(path) or "."):
        _make_room(path, key)
        yield


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Keep out others that start at the same time: each of them might take the other's file for a stale one.

    Any process that can read the folder can hold this lock, so it is not waited for without end.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield  # there is no folder, or not for us to read: binding will report what matters
        return
    try:
        if not _lock(descriptor):
            log.warning("%s: another process holds a lock of this folder; continuing without the lock", folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a folder; whether that was possible in time."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOCK_PAUSE_S)
        else:
            return True


def _make_room(path: str, key: str) -> None:
    """Remove a stale socket file; raise for anything else that is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return  # binding reports what is wrong with the path
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"{key}: ipc://{path} can't be bound: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            # It listens and is busy, or we may not ask. Either way it is not ours to remove.
            pass
    raise AddressInUse(f"{key}: ipc://{path} can't be bound: Address already in use")


def _listening(path: str, mode: int | None) -> File:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(path)
        identity = _identity(os.lstat(path))
        # Until it listens, the kernel refuses connections.
        if mode is not None:
            os.chmod(path, mode)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return File(path, made.detach(), identity)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
