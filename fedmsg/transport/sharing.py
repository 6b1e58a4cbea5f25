# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the threads of a process share: opened by the first user, closed by the last, and never used after a fork."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from fedmsg.transport.zmq import contexts

__all__ = ["Shareable", "Shared"]


class Shareable(Protocol):
    """What can be shared.

    Attributes:
        users: How many have opened it and not closed it yet.
    """

    users: int

    @property
    def alive(self) -> bool:
        """Whether it can be used; otherwise the next user gets another one."""

    def close(self) -> None:
        """Close it for all."""


T = TypeVar("T", bound=Shareable)


class Shared(Generic[T]):
    """One thing for each way to configure it."""

    def __init__(self) -> None:
        self._open: dict[tuple[object, ...], T] = {}
        self._lock = threading.RLock()
        self._inherited: list[object] = []
        contexts.after_fork(self._in_child)

    def open(self, identity: tuple[object, ...], make: Callable[[], T]) -> T:
        """Return what is open under an identity, or make it; each call needs one `release`."""
        with self._lock:
            found = self._open.get(identity)
            if found is None or not found.alive:
                found = self._open[identity] = make()
            found.users += 1
            return found

    def release(self, one: T) -> None:
        """End one use; the last one closes it."""
        with self._lock:
            one.users -= 1
            if one.users:
                return
            for identity in [key for key, value in self._open.items() if value is one]:
                del self._open[identity]
        one.close()

    def _in_child(self) -> None:
        # They belong to the parent, and are never closed here.
        self._inherited.append(dict(self._open))
        self._open.clear()
        self._lock = threading.RLock()
