# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are replaced as a whole, extended line by line, or watched for change."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from pathlib import Path

__all__ = ["Stamp", "append", "is_trusted", "process_name", "replace", "stamp"]

#: What changes when a file does.
Stamp = tuple[int, int, int, int]


def stamp(path: str | Path) -> Stamp:
    """Return what tells this content of a file from its next.

    Raises:
        OSError: There is no such file.
    """
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


def is_trusted(status: os.stat_result) -> bool:
    """Whether only root and the user of this process can have written a file or folder.

    Args:
        status: The status of its open descriptor; that of a path may be of another file a moment later.
    """
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & stat.S_IWOTH


def replace(path: str | Path, content: bytes, *, mode: int = 0o640, durable: bool = True) -> None:
    """Write a file as a whole: a reader sees the old content or the new one, never a part.

    Args:
        path: The file.
        content: What it shall contain.
        mode: Its permissions.
        durable: Whether it has to survive a power cut, too; otherwise only the end of this process.

    Raises:
        OSError: It can't be written; nothing is left behind.
    """
    path = Path(path)
    name = f"{path.parent}/.{path.name}.{os.getpid()}.{threading.get_ident():x}"
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
    with Path(path).open("a+b", buffering=0) as file:
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


def process_name() -> str:
    """Return the name of this process as the kernel has it, which is what fedmsg 1.x named its folders by."""
    try:
        name = Path("/proc/self/comm").read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except OSError:
        # As the kernel would cut it.
        name = os.path.basename(sys.argv[0])[:15]
    name = name.replace("/", "_").replace("\0", "_")
    return "fedmsg" if name in {"", ".", ".."} else name
