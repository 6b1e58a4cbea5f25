# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread that looks at publishing sockets while their publishers are busy elsewhere.

A process has at most one. It wakes when ZeroMQ has news for a socket (a subscription, a
lost connection), and visits its publisher. Without it a broken
connection would be reported at the next publish, and the subscriptions that strangers
send to an idle publisher would pile up in memory.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable

from fedmsg.transport.zmq import contexts

__all__ = ["forget", "watch"]

# Re-entrant, because a garbage collection under it may close a forgotten publisher.
_lock = threading.RLock()
_selector: selectors.BaseSelector | None = None
_inherited: list[object] = []


def watch(descriptors: list[int], visit: Callable[[], bool]) -> None:
    """Visit a publisher from now on, whenever there is something to see.

    Args:
        descriptors: What becomes readable then.
        visit: Takes a look, in the thread of the watcher; answers whether there is more to see.
    """
    global _selector
    with _lock:
        if _selector is None:
            _selector = selectors.DefaultSelector()
            threading.Thread(target=_run, args=(_selector,), name="fedmsg-watcher", daemon=True).start()
        for descriptor in descriptors:
            _selector.register(descriptor, selectors.EVENT_READ, visit)


def forget(descriptors: list[int]) -> None:
    """Stop looking, before these descriptors are closed."""
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
                # Subscribers can keep this up; those who publish must get at the lock in between.
                time.sleep(0.001)


def _in_child() -> None:
    global _lock, _selector
    _inherited.append(_selector)
    _lock, _selector = threading.RLock(), None


contexts.after_fork(_in_child)
