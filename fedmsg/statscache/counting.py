# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts messages with all plugins, in transactions that store how far each of them is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import orm

from fedmsg import meta
from fedmsg._util.text import quoted
from fedmsg.exceptions import StoreError, Unavailable
from fedmsg.statscache import configuration, tables
from fedmsg.statscache.database import create_tables, init_model
from fedmsg.statscache.items import KEY_BYTES, Item, Items
from fedmsg.statscache.ledger import Counted, Ledger
from fedmsg.statscache.slots import Slot, raise_if_away
from fedmsg.statscache.utils import init_plugins, made_again
from fedmsg.store import database

__all__ = ["Counting"]

log = logging.getLogger("fedmsg.statscache")

_T = TypeVar("_T")


class _Changed(Exception):
    """Another program has counted meanwhile, or our own last transaction has done so after all."""


class Counting:
    """Counts with all plugins; any thread may use it.

    Whatever goes wrong in a transaction, the next one first reads from the database how far that is. So it makes no
    difference whether a commit that was cut off has happened, nor whether two programs count at the same time.

    Args:
        config: The configuration.
        plugins: The plugins; those that are installed when not given.

    Attributes:
        slots: The plugins.
        is_started: Whether the history that was missed has been read.
        wants_history: Whether a plugin has to read history after that.

    Raises:
        ConfigError: The database or the beginning can't be understood.
    """

    def __init__(self, config: Mapping[str, Any], plugins: Iterable[Any] | None = None) -> None:
        self._config = config
        self._url = configuration.database_url(config)
        if not meta.processors:
            meta.make_processors(**config)
        epoch = configuration.epoch(config)
        found = init_plugins(config) if plugins is None else plugins
        can_go_back = configuration.can_go_back(config)
        self.slots = [Slot(one, made_again(one), epoch, can_go_back=can_go_back) for one in found]
        self._session = init_model(self._url)
        self._lock = threading.RLock()
        self._ledger = Ledger()
        self._number = 0
        self._is_open = False
        self._is_stale = True
        self.is_started = self.wants_history = False

    @property
    def engine(self) -> Any:
        """The engine of the database."""
        return self._session.get_bind()

    # ---------------------------------------------------------------- transactions

    def open(self) -> None:
        """Make the tables, once, and read how far each plugin is.

        Raises:
            Unavailable: The database is away.
            StoreError: It can't be used.
        """
        with self._lock:
            self._run(lambda _: None)

    def _run(self, work: Callable[[orm.Session], _T]) -> _T:
        """Do work in a transaction of its own, which goes on from what is stored.

        Raises:
            Unavailable: The database is away.
            StoreError: It does not take something.
        """
        try:
            with database.errors_mapped(self.engine, "can't be written"):
                if not self._is_open:
                    create_tables(self._url)
                    self._is_open = True
                return database.retried(lambda: self._until_stored(work))
        except StoreError as error:
            if database.is_away(error):
                raise Unavailable(str(error)) from error
            raise
        finally:
            self._session.remove()

    def _until_stored(self, work: Callable[[orm.Session], _T]) -> _T:
        while True:
            try:
                with database.before_commit() as committing:
                    return self._transaction(work, committing)
            except _Changed:
                continue

    def _transaction(self, work: Callable[[orm.Session], _T], committing: threading.Event) -> _T:
        session = self._session()
        try:
            number = tables.take(session)
            if self._is_stale:
                self._load(session)
            elif number != self._number + 1:
                raise _Changed
            self._number = number
            result = work(session)
            session.flush()
            committing.set()
            session.commit()
        except BaseException:
            # What is stored is not known any more, and is read before the next message is counted.
            self._is_stale = True
            for slot in self.slots:
                slot.rolled_back()
            session.rollback()
            raise
        return result

    def _load(self, session: orm.Session) -> None:
        """Read how far each plugin is; one that can't go on is left out."""
        number, progress, counted = tables.load(session)
        now, left = time.time(), []
        for slot in self.slots:
            try:
                with session.begin_nested():
                    slot.resume(session, progress.get(slot.ident), now)
            except Exception as error:
                raise_if_away(error)
                log.exception("the plugin %s can't be started, and counts nothing", quoted(slot.ident))
                slot.close()
            else:
                left.append(slot)
        self.slots = left
        tables.note(session, [slot.progress for slot in left], ())
        # Not those that begin: their histories are read before anything else is counted.
        self.wants_history |= self.is_started and any(slot.has_begun_anew for slot in left)
        self._ledger, self._number, self._is_stale = Ledger(counted), number, False

    # ---------------------------------------------------------------- counting

    def count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Count messages in one transaction, with how far they are; return how many were new to some plugin.

        Raises:
            Unavailable: The database is away.
            StoreError: It does not take something.
        """
        items = [Item(message, self._config) for message in messages]
        numbers = {item.origin.service: item.origin.number for item in items if item.origin.service}
        with self._lock:
            count: int
            moved, rows, gone, count = self._run(lambda session: self._count(session, items, numbers))
            for slot, progress in moved:
                slot.committed(progress)
            self._ledger.forget(gone)
            for row in rows:
                self._ledger.add(row)
        return count

    def _count(self, session: orm.Session, items: Sequence[Item], numbers: Mapping[str, int]) -> Any:
        known = self._ledger.known(items)
        once = Items({item.key: item for item in reversed(items)}.values())
        once.reverse()
        wanted_by: dict[Any, Items] = {}
        counted: dict[int, tuple[Items, set[str]]] = {}
        moved = []
        for slot in self.slots:
            view = slot.view(known)
            wanted = wanted_by[view] if view in wanted_by else wanted_by.setdefault(view, slot.wanted(once, known))
            if wanted:
                slot.count(session, wanted)
                counted.setdefault(id(wanted), (wanted, set()))[1].add(slot.label)
            moved.append((slot, slot.moved(once, wanted)))
        rows = self._rows(list(counted.values()))
        gone = self._ledger.forgettable() if rows else []
        moved = [(slot, _pruned(slot, progress, gone)) for slot, progress in moved]
        tables.note(session, [progress for slot, progress in moved if progress != slot.progress], rows)
        tables.note_numbers(session, numbers)
        tables.prune(session, gone)
        return moved, rows, gone, sum(len(row.keys) for row in rows) // KEY_BYTES

    def _rows(self, counted: Sequence[tuple[Items, set[str]]]) -> list[Counted]:
        """Return what the ledger is to remember: as a rule all messages were counted by the same plugins."""
        if len(counted) == 1:
            return [self._row(frozenset(counted[0][1]), counted[0][0])]
        by_item: dict[Item, set[str]] = {}
        for items, plugins in counted:
            for item in items:
                by_item.setdefault(item, set()).update(plugins)
        groups: dict[frozenset[str], list[Item]] = {}
        for item, found in by_item.items():
            groups.setdefault(frozenset(found), []).append(item)
        return [self._row(plugins, Items(some)) for plugins, some in groups.items()]

    def _row(self, plugins: frozenset[str], items: Items) -> Counted:
        return Counted(self._number, plugins, items.newest, b"".join(item.key for item in items))

    def refresh(self) -> None:
        """Have the plugins do what depends on the clock; raises as `count`."""
        with self._lock:
            if not any(slot.wants_refresh() for slot in self.slots):
                return
            self._run(self._refresh)

    def _refresh(self, session: orm.Session) -> None:
        for slot in self.slots:
            slot.refresh(session)

    # ---------------------------------------------------------------- how far it is

    def look_again(self, start: float) -> None:
        """Have the plugins look at the history again, as it is since an hour before a time."""
        with self._lock:
            for slot in self.slots:
                slot.look_again(start)

    def numbers(self) -> dict[str, int]:
        """Return the last number of each service that was counted; raises as `count`."""
        with self._lock:
            return self._run(tables.numbers)

    def totals(self) -> dict[str, int]:
        """Return on how many messages plugins have failed."""
        return {"lost": sum(slot.lost for slot in self.slots)}

    def close(self) -> None:
        """Close the plugins and the database; a second call does nothing."""
        with self._lock:
            for slot in self.slots:
                slot.close()
            self._session.remove()
            self.engine.dispose()


def _pruned(slot: Slot, progress: tables.Progress, gone: Sequence[Counted]) -> tables.Progress:
    """Return a progress that knows what is not remembered any more."""
    times = [row.newest for row in gone if slot.label in row.plugins]
    return progress._replace(pruned=max([progress.pruned, *times])) if times else progress
