# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store that a publisher writes to: opened once in a process, and written in order.

Contexts of a process that use the same store share one `Writer`. What it stores it sends
before it stores the next, so that the threads of a process send in the order of the
numbers.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, FedmsgError, RefusedAtStart
from fedmsg.transport.zmq import contexts

__all__ = ["Writer", "close", "open_store", "open_writer"]

log = logging.getLogger("fedmsg.replay")

_open: dict[object, Writer] = {}
_lock = threading.RLock()
_inherited: list[object] = []


class _Job(NamedTuple):
    envelope: dict[str, Any]
    finish: Callable[[dict[str, Any]], dict[str, Any]]
    send: Callable[[], None]


class Writer:
    """Numbers, stores and sends messages, one after the other.

    Args:
        store: What keeps them: ``add(msg)`` numbers and stores a message, or, with a second
            argument, ``add(msg, finish)``, see `fedmsg.replay.sqlstore.SqlStore.add`.
        signed: Whether messages are signed, which the store has to let us do in between.

    Attributes:
        users: How many contexts use it.

    Raises:
        ConfigError: It has no ``add``.
        RefusedAtStart: It would store signed messages under numbers that are not signed.
    """

    def __init__(self, store: Any, *, signed: bool) -> None:
        self.store = store
        self.users = 0
        self._lock = threading.RLock()
        # Whether the thread that holds the lock is storing, further up its stack, and what it was asked meanwhile.
        self._inside = False
        self._deferred: deque[_Job] = deque()
        if not callable(getattr(store, "add", None)):
            raise ConfigError(f"persistent_store is {store!r}, which has no add(msg): write a URL or such an object")
        self._finishes = _takes_finish(store.add)
        self.check(signed=signed)

    def check(self, *, signed: bool) -> None:
        """Reject signing what this store would change afterwards.

        Raises:
            RefusedAtStart: It would.
        """
        if signed and not self._finishes:
            raise RefusedAtStart(
                f"sign_messages is on, and persistent_store is {self.store!r}, whose add(msg) would number a message "
                "that is signed already: let it have a second argument, add(msg, finish), and store finish(msg)"
            )

    def publish(
        self,
        envelope: dict[str, Any],
        finish: Callable[[dict[str, Any]], dict[str, Any]],
        send: Callable[[], None],
    ) -> None:
        """Number a message, store it and send it.

        ``finish`` gets the envelope with its number, and returns it as it is to be stored and sent; what it raises
        leaves the store as it was. ``send`` sends what it has made last.

        Called by a signal handler, or by a finaliser, of a thread that is storing at this
        moment, it leaves the message to what was interrupted.
        """
        if self._do(_Job(envelope, finish, send)):
            while self._deferred and self._do(self._deferred.popleft()):
                pass

    def _do(self, job: _Job) -> bool:
        """Run a job and those added meanwhile; return False when a caller further up the stack will run it."""
        with self._lock:
            if self._inside:
                self._deferred.append(job)
                return False
            self._inside = True
            try:
                self._store_and_send(job)
                while self._deferred:
                    self._store_and_send(self._deferred.popleft())
            finally:
                self._inside = False
        return True

    def _store_and_send(self, job: _Job) -> None:
        if self._finishes:
            self.store.add(job.envelope, job.finish)
        else:
            job.finish(self.store.add(job.envelope))
        job.send()

    def shut(self) -> None:
        """Send what was left over, and close a store that was opened here."""
        while self._deferred:
            try:
                self._do(self._deferred.popleft())
            except FedmsgError as error:
                log.error("a message of a signal handler or finaliser was not stored: %s", error)


def _takes_finish(add: Callable[..., Any]) -> bool:
    """Return whether a store's ``add`` has a second argument."""
    # Costs 10 ms, and only those who have such a store pay for it.
    import inspect

    try:
        inspect.signature(add).bind({}, lambda envelope: envelope)
    except TypeError:
        return False
    except ValueError:
        # Not written in Python, and nothing is known of it.
        return False
    return True


def open_store(config: Mapping[str, Any]) -> Any:
    """Return the configured store, and open it when only its URL is configured.

    Raises:
        ConfigError: The URL can't be used.
        StoreError: The database can't be used.
    """
    store = settings.get(config, "persistent_store")
    return plugins.lazy("store").connect(store) if isinstance(store, str) else store


def open_writer(config: Mapping[str, Any], *, signed: bool) -> Writer:
    """Open the configured store for a publisher, or share what this process has opened.

    Raises:
        ConfigError: The store can't be used.
        RefusedAtStart: It can't be used for signed messages.
        StoreError: The database can't be used.
    """
    configured = settings.get(config, "persistent_store")
    key = configured if isinstance(configured, str) else id(configured)
    with _lock:
        writer = _open.get(key)
        if writer is None:
            writer = Writer(open_store(config), signed=signed)
            _open[key] = writer
        else:
            writer.check(signed=signed)
        writer.users += 1
        return writer


def close(writer: Writer) -> None:
    """End one use of a writer; the last one closes a store that was opened by its URL."""
    with _lock:
        writer.users -= 1
        if writer.users:
            return
        for key in [key for key, value in _open.items() if value is writer]:
            del _open[key]
            writer.shut()
            # An object that was configured belongs to the code that has made it.
            if isinstance(key, str):
                writer.store.close()


def _in_child() -> None:
    global _lock
    _inherited.append(dict(_open))
    _open.clear()
    _lock = threading.RLock()


contexts.after_fork(_in_child)
