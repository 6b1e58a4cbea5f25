# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are replaced as a whole, extended line by line, or watched for change."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:  # a relay starts without the 5 ms that it takes to load
    from pathlib import Path

__all__ = [
    "ExchangedFile",
    "Stamp",
    "append",
    "is_trusted",
    "open_regular",
    "process_name",
    "read_trusted",
    "replace",
    "stamp",
]

#: What changes when a file does.
Stamp = tuple[int, int, int, int]


def stamp(path: str | Path) -> Stamp:
    """Return a stamp that changes when the content of a file changes.

    Raises:
        OSError: There is no such file.
    """
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


def is_trusted(status: os.stat_result) -> bool:
    """Return whether only root and the user of this process can have written a file or folder.

    The status is that of its open descriptor: that of a path may be of another file a moment later.
    """
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & stat.S_IWOTH


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file to read it, without following a link and without waiting for the writer of a named pipe.

    Raises:
        OSError: It can't be read, or is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(descriptor, "rb")


def read_trusted(path: str | Path, most: int) -> bytes:
    """Read a file that only root and the user of this process can have written.

    Raises:
        PermissionError: Others can write it.
        OSError: It can't be read, is not a regular file, or is larger.
    """
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if not is_trusted(status):
            raise PermissionError(
                errno.EPERM,
                f"others can write it: chown {os.geteuid()} and chmod o-w it if it can be trusted",
                str(path),
            )
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
        return file.read(most)


def replace(path: str | Path, content: bytes, *, mode: int = 0o640, durable: bool = True) -> None:
    """Write a file as a whole: a reader sees the old content or the new one, never a part.

    A ``durable`` one survives a power cut, too; otherwise only the end of this process.

    Raises:
        OSError: It can't be written; nothing is left behind.
    """
    folder, base = os.path.split(path)
    name = os.path.join(folder, f".{base}.{os.getpid()}.{threading.get_ident():x}")
    # One that a killed process with the same numbers left.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            _write(descriptor, content)
            os.fchmod(descriptor, mode)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def append(path: str | Path, line: bytes) -> None:
    """Write a line to the end of a file, also when a crash has left half a line there.

    Raises:
        OSError: It can't be written; no part of the line stays.
    """
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line
        try:
            _write(file.fileno(), line)
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        written = os.write(descriptor, rest)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


class ExchangedFile:
    """A small file that is replaced for every message, by one thread at a time.

    A spare file is kept beside it, and the two change places. Renaming a new file over an old one
    does the same, but makes some file systems write to the disk at once: a millisecond each time.
    It is not forced to the disk: a reader sees a whole file whenever this process ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._spare = f"{path.parent}/.{path.name}.{os.getpid()}.spare"
        self._can_exchange = True
        # Those of processes that were killed.
        for spare in path.parent.glob(f".{path.name}.*.spare"):
            spare.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Write it as a whole: a reader sees the old content or the new one.

        Raises:
            OSError: It can't be written.
        """
        descriptor = os.open(self._spare, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        try:
            _write(descriptor, content)
            os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)
        if not (self._can_exchange and self._exchange()):
            os.rename(self._spare, self._path)

    def _exchange(self) -> bool:
        """Let the files change places, if there are two and the file system can do it."""
        problem = _rename_exchange()(os.fsencode(self._spare), os.fsencode(self._path))
        if problem == errno.ENOENT:
            return False  # the first time
        self._can_exchange = not problem
        return self._can_exchange

    def close(self) -> None:
        """Remove the spare file; a second call does nothing."""
        with contextlib.suppress(OSError):
            os.unlink(self._spare)


@functools.cache
def _rename_exchange() -> Callable[[bytes, bytes], int]:
    """Return a function that lets two files change places and returns the number of the error, 0 for none."""
    # Only who uses it pays for loading it.
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an old or another C library
        return lambda one, other: errno.ENOSYS
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return lambda one, other: ctypes.get_errno() if rename(here, one, here, other, exchange) else 0


def process_name() -> str:
    """Return the name of this process as the kernel has it, which is what fedmsg 1.x named its folders by."""
    try:
        with open("/proc/self/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().removesuffix("\n")
    except OSError:
        # As the kernel would cut it.
        name = os.path.basename(sys.argv[0])[:15]
    name = name.replace("/", "_").replace("\0", "_")
    return "fedmsg" if name in {"", ".", ".."} else name
