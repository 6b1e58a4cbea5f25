# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small file that is replaced as a whole, twice for every message."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["Replaced"]

# Not forced to the disk, since that would be for every message: what counts is that the end of this
# process, whatever the moment, leaves a whole file.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o640


def _write(name: str, content: bytes) -> None:
    """Write over what is there, or into a new file."""
    descriptor = os.open(name, _FLAGS, _MODE)
    try:
        written = os.write(descriptor, content)
        while written < len(content):
            written += os.write(descriptor, content[written:])
        os.ftruncate(descriptor, written)
    finally:
        os.close(descriptor)


class Replaced:
    """A file that is replaced again and again, by one thread at a time.

    Beside it is kept a spare one, and the two change places. To rename a new file over an old one
    does the same, but makes some file systems write to the disk at once: a millisecond each time.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._spare = f"{path.parent}/.{path.name}.{os.getpid()}.spare"
        self._can_exchange = True
        # Those of processes that were killed.
        for spare in path.parent.glob(f".{path.name}.*.spare"):
            spare.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Write it as a whole, so that whoever reads it meanwhile sees the old content or the new one.

        Raises:
            OSError: It can't be written.
        """
        _write(self._spare, content)
        if not (self._can_exchange and self._exchange()):
            os.rename(self._spare, self._path)

    def _exchange(self) -> bool:
        """Let the files change places, if there are two and the file system can do it."""
        problem = _exchanging()(os.fsencode(self._spare), os.fsencode(self._path))
        if problem == errno.ENOENT:
            return False  # the first time
        self._can_exchange = not problem
        return self._can_exchange

    def close(self) -> None:
        """Remove the spare file; a second call does nothing."""
        with suppress(OSError):
            os.unlink(self._spare)


@functools.cache
def _exchanging() -> Callable[[bytes, bytes], int]:
    """Make what lets two files change places and gives the number of the error, 0 for none."""
    # Who keeps no status need not load it.
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an old or another C library
        return lambda one, other: errno.ENOSYS
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return lambda one, other: ctypes.get_errno() if rename(here, one, here, other, exchange) else 0
