# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps a child that a consumer has forked from going on as a hub.

Of the threads of its parent only the one that has forked goes on in the child. When the code of the consumer
or producer returns, or raises SystemExit, the child ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import NoReturn

__all__ = ["ForkGuard", "forks"]

_EXIT_STATUS_INTERRUPTED = 130
#: How often this process, or a parent of it, was forked from another one.
forks = 0


def _count_fork() -> None:
    global forks
    forks += 1


os.register_at_fork(after_in_child=_count_fork)


class ForkGuard:
    """Ends the process in a child that was forked after the guard was made."""

    __slots__ = ("forks",)

    def __init__(self) -> None:
        self.forks = forks

    @property
    def is_child(self) -> bool:
        """Whether this process is a child that was forked after the guard was made."""
        return self.forks != forks

    def check(self, error: BaseException | None = None) -> None:
        """End the process if it is a forked child, whose code has raised an error or returned."""
        if self.forks != forks:
            _end_process(error)


def _end_process(error: BaseException | None) -> NoReturn:
    status = _status(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    # What the parent does at its exit is not for the child to do.
    os._exit(status)


def _status(error: BaseException | None) -> int:
    """Return the exit status that Python has for an exception, and print the exception as Python does."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    with contextlib.suppress(OSError, ValueError):
        traceback.print_exception(error)
    return _EXIT_STATUS_INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
