# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plugin whose work takes long, and is done in threads."""

from __future__ import annotations

import logging
import os
import queue
from typing import Any

from fedmsg._util.service import ServiceThread
from fedmsg.statscache.plugins.base import BasePlugin
from fedmsg.statscache.plugins.futures import Queue

__all__ = ["AsyncPlugin"]

log = logging.getLogger("fedmsg.statscache")

_POLL_S = 0.5
_WAITING_MAX = 10_000
_ENQUEUE_TIMEOUT_S = 30.0


class AsyncPlugin(BasePlugin):
    """A plugin that does its work in threads: a subclass has `work` and `fill` too.

    `launch` calls `fill`, which returns the items that are to be done at the start, as the database has them.
    `enqueue` adds one, as from `process`, and `work` is called with each, in one of the threads. What it finds out
    waits in memory, with a lock of the plugin's own, until `update` writes it.

    Attributes:
        workers: How many threads.
    """

    workers: int = os.cpu_count() or 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._async_items: queue.Queue[Any] = queue.Queue(_WAITING_MAX)
        self._async_threads: list[_Worker] = []
        # Whether work is stuck, for all that is known: then nothing waits for it.
        self._async_stuck = False

    def work(self, item: Any) -> None:
        """Do the work of an item; what this raises is logged."""
        raise NotImplementedError(f"{type(self).__name__} has no work()")

    def fill(self, session: Any) -> Any:  # noqa: ARG002 - for subclasses
        """Return the items to begin with, or call `enqueue` with each."""
        return ()

    def enqueue(self, item: Any) -> None:
        """Have an item worked on; waits for a while where too many are waiting already.

        The hub waits meanwhile. So while not one item is worked off, further ones are rejected at once.

        Raises:
            Queue.OverflowError: There is no room for it. A plugin that passes this on loses that message.
        """
        try:
            self._async_items.put(item, timeout=0 if self._async_stuck else _ENQUEUE_TIMEOUT_S)
        except queue.Full:
            self._async_stuck = True
            raise Queue.OverflowError(f"{self._async_items.maxsize} items wait, and work() is stuck") from None
        self._async_stuck = False

    def launch(self, session: Any) -> None:
        """Start the threads, and fill the queue."""
        if self._async_threads:
            return
        for number in range(self.workers):
            thread = _Worker(self, number)
            thread.start()
            self._async_threads.append(thread)
        for item in self.fill(session) or ():
            self.enqueue(item)

    @property
    def pending(self) -> int:
        """How many items wait."""
        return self._async_items.qsize()

    def close(self) -> None:
        """Stop the threads; called when the hub stops."""
        threads, self._async_threads = self._async_threads, []
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(_POLL_S * 4)
            thread.close()

    def next_item(self) -> Any:
        """Return the next item, or raise `queue.Empty` after a while."""
        return self._async_items.get(timeout=_POLL_S)


class _Worker(ServiceThread):
    """Works on items, one after the other."""

    def __init__(self, plugin: AsyncPlugin, number: int) -> None:
        super().__init__(f"fedmsg-{type(plugin).__name__}-{number}")
        self._plugin = plugin

    def run(self) -> None:
        """Work until the stop."""
        self.ready()
        while not self.stopping:
            try:
                item = self._plugin.next_item()
            except queue.Empty:
                continue
            try:
                self._plugin.work(item)
            except Exception:
                log.exception("%s failed in work()", self._plugin.ident)
