# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread that reads the events of publishing sockets while no other thread does.

A process has at most one. It wakes when there is an event of a socket (a subscription, a
lost connection). Without it a broken connection would be reported at the next publish, and the
subscriptions that strangers send to an idle publisher would pile up in memory.
"""

from __future__ import annotations

import functools
import selectors
import threading
import time
from collections.abc import Callable

from fedmsg._util.service import start_thread
from fedmsg.transport.zmq import contexts

__all__ = ["forget", "watch"]

# Re-entrant, because a garbage collection under it may close a forgotten publisher.
_lock = threading.RLock()
_selector: selectors.BaseSelector | None = None
_inherited: list[object] = []


def watch(descriptors: list[int], visit: Callable[[], bool]) -> None:
    """Call a function from now on, whenever there is something to read.

    Args:
        descriptors: What becomes readable then.
        visit: Reads it, in the thread of the watcher; returns whether there is more.
    """
    global _selector
    with _lock:
        if _selector is None:
            selector = selectors.DefaultSelector()
            start_thread(functools.partial(_run, selector), "fedmsg-watcher")
            _selector = selector
        for descriptor in descriptors:
            _selector.register(descriptor, selectors.EVENT_READ, visit)


def forget(descriptors: list[int]) -> None:
    """Stop watching, before these descriptors are closed."""
    with _lock:
        if _selector is not None:
            for descriptor in descriptors:
                # A signal may have interrupted the opening before it got to `watch`.
                if descriptor in _selector.get_map():
                    _selector.unregister(descriptor)


def _run(selector: selectors.BaseSelector) -> None:
    while True:
        for key, _ in selector.select():
            while key.data():
                # Subscribers can keep this up; publishing threads must get the lock in between.
                time.sleep(0.001)


def _in_child() -> None:
    global _lock, _selector
    _inherited.append(_selector)
    _lock, _selector = threading.RLock(), None


contexts.after_fork(_in_child)
