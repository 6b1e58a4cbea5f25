# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread that looks at publishing sockets while their publishers are busy elsewhere.

A process has at most one. It wakes when ZeroMQ has news for a socket (a subscription, a
lost connection), takes that socket's lock and lets the outlet read. Without it a broken
connection would be reported at the next publish, and the subscriptions that strangers
send to an idle publisher would pile up in memory.
"""

from __future__ import annotations

import selectors
import threading
import time

from fedmsg.transport import process
from fedmsg.transport.outlet import Outlet

__all__ = ["forget", "watch"]

# Re-entrant, because a garbage collection under it may close a forgotten publisher.
_lock = threading.RLock()
_selector: selectors.BaseSelector | None = None
_inherited: list[object] = []


def watch(outlet: Outlet) -> None:
    """Look at the outlet from now on, whenever there is something to see."""
    global _selector
    with _lock:
        if _selector is None:
            _selector = selectors.DefaultSelector()
            threading.Thread(target=_run, args=(_selector,), name="fedmsg-watcher", daemon=True).start()
        for descriptor in outlet.descriptors():
            _selector.register(descriptor, selectors.EVENT_READ, outlet)


def forget(descriptors: list[int]) -> None:
    """Stop looking, before these descriptors are closed."""
    with _lock:
        if _selector is not None:
            for descriptor in descriptors:
                _selector.unregister(descriptor)


def _run(selector: selectors.BaseSelector) -> None:
    while True:
        for key, _ in selector.select():
            outlet: Outlet = key.data
            with outlet.changed:
                if outlet.broken:
                    outlet.mend()
                while not outlet.closed and outlet.look(time.monotonic()):
                    pass


def _in_child() -> None:
    global _lock, _selector
    _inherited.append(_selector)
    _lock, _selector = threading.RLock(), None


process.after_fork(_in_child)
