# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one ZeroMQ context that a process has, and what ``fork`` does to it.

All sockets of a process share one context, because a bound publisher is shared by threads
and a socket can't outlive its context. It is opened by the first user and closed with
the last. A forked child forgets its parent's context without touching it (the sockets in
it belong to the parent) and opens its own on first use; code that keeps sockets compares
``generation`` with the one that it opened them under.
"""

from __future__ import annotations

import _thread
import logging
import os
import queue
import resource
import sys
import threading
from collections.abc import Callable

import zmq

from fedmsg.exceptions import ConfigError

__all__ = ["acquire", "after_fork", "allow_open_files", "generation", "release", "terminate"]

#: Sockets that a context may have. ZeroMQ's own default, 1,023, is reached by some 300 listeners with a monitor each.
MAX_SOCKETS = 16_384
# Descriptors that everything else in the process may need besides.
_SPARE_DESCRIPTORS = 64

#: Grows by one in every forked child. Read it as ``process.generation``: it changes.
generation = 0

log = logging.getLogger("fedmsg.transport")

# What sockets hold is sent, or given up, before they are closed.
_TERMINATION_TIMEOUT = 2.0

_lock = threading.RLock()
_context: zmq.Context[zmq.Socket[bytes]] | None = None
_users = 0
# What a fork leaves behind is never freed in the child: freeing would close the parent's sockets.
_inherited: list[object] = []
_after_fork: list[Callable[[], None]] = []


def acquire(io_threads: int = 1) -> zmq.Context[zmq.Socket[bytes]]:
    """Open the context of this process, or count one more user of it.

    Every call needs one `release` after its sockets are closed.
    """
    global _context, _users
    with _lock:
        if _context is None:
            _context = zmq.Context(io_threads=io_threads)
            _context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        _users += 1
        return _context


def release(under: int) -> None:
    """End one use of the context; the last one terminates it.

    ``under`` is the ``generation`` of the `acquire`: a use from before a fork is ignored.
    """
    global _context, _users
    with _lock:
        if under != generation:
            return
        _users -= 1
        if _users:
            return
        context, _context = _context, None
    if context is not None:
        terminate(context)


def terminate(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """End a context whose sockets are closed.

    ZeroMQ waits for ever for a socket that is still open. One that a signal handler which raised kept
    from being closed must not hold up the process: it ends with the thread that waits for it.
    """
    if sys.is_finalizing():
        # No other thread runs any more, and with the process everything ends.
        return
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wait() -> None:
        context.term()
        ended.put(None)

    _thread.start_new_thread(wait, ())
    try:
        ended.get(timeout=_TERMINATION_TIMEOUT)
    except queue.Empty:
        log.warning("a socket was left open; it is closed with the process")


def allow_open_files(more: int, purpose: str) -> None:
    """Raise the soft limit of open files as far as needed, up to the hard one.

    Raises:
        ConfigError: The hard limit is too low.
    """
    needed = len(os.listdir("/proc/self/fd")) + more + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"{purpose} need about {needed} open files, and the hard limit of this process is {hard}: "
            "raise it (ulimit -Hn, LimitNOFILE= of systemd)"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else needed, hard))


def after_fork(forget: Callable[[], None]) -> None:
    """Register what a child calls to forget sockets, locks and threads of its parent."""
    _after_fork.append(forget)


def _in_child() -> None:
    global generation, _lock, _context, _users
    generation += 1
    _inherited.append(_context)
    # Another thread of the parent may have held the lock at the moment of the fork.
    _lock = threading.RLock()
    _context, _users = None, 0
    for forget in _after_fork:
        forget()


os.register_at_fork(after_in_child=_in_child)
