# SPDX-License-Identifier: LGPL-2.1-or-later
"""One plugin in the engine: what it is to count, how far it is, and what it has failed on."""

from __future__ import annotations

import copy
import datetime as dt
import logging
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from sqlalchemy import exc, orm

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.statscache.items import Item, Items
from fedmsg.statscache.sharing import PluginSession
from fedmsg.statscache.tables import Progress

__all__ = ["Slot", "raise_if_away", "seconds"]

log = logging.getLogger("fedmsg.statscache")

_UTC = dt.timezone.utc
#: How much of the past is read again, for messages that came late.
OVERLAP_S = 3600.0
# What SQLite reports where it is the statement that is wrong, and not the file or the disk.
_OF_THE_STATEMENT = ("no such", "near ", "table ", "duplicate column", "unrecognized", "incomplete", "wrong number")


_NO_STATE = frozenset({"config", "schedule", "model", "launched", "_async_items", "_async_stuck", "_async_threads"})


def _state(plugin: Any) -> dict[str, Any]:
    """Return a copy of what a plugin has in memory, as far as it can be copied."""
    found = {name: value for name, value in vars(plugin).items() if name not in _NO_STATE}
    for name, value in found.items():
        try:
            found[name] = copy.deepcopy(value)
        except Exception:  # noqa: BLE001 - a lock, or the like, which is equal to itself
            log.debug("%s can't be copied", name)
    return found


def seconds(moment: dt.datetime) -> float:
    """Return a time of a row as seconds since the epoch."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=_UTC)).timestamp()


class Slot:
    """Has a plugin, and counts with it.

    Args:
        plugin: The plugin.
        make: Makes another one of its kind.
        epoch: Where it begins when it has counted nothing yet; None where it counts new messages alone.
        can_go_back: Whether what it has counted can be read again.

    Attributes:
        progress: How far it is.
        lost: How many messages it has failed on.
        has_begun_anew: Whether it counts again what it has lost with a transaction.
    """

    def __init__(self, plugin: Any, make: Callable[[], Any], epoch: float | None, *, can_go_back: bool) -> None:
        self.plugin = plugin
        self.ident: str = plugin.ident
        self.progress = Progress(self.ident, since=epoch)
        self.lost = 0
        self.has_begun_anew = False
        self._make = make
        self._epoch = epoch
        self._can_go_back = can_go_back
        self._has_reset = callable(getattr(plugin, "reset", None)) and callable(getattr(plugin, "process_many", None))
        self._is_stale = False
        self._pending_lost = 0
        self._since: float | None = None
        self._looks_again = False
        self._events = RateLimitedLog(log)
        # What a plugin has in memory that has counted nothing.
        self._fresh: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """What the ledger knows it by: one that begins anew has counted nothing."""
        return f"{self.ident}#{self.progress.generation}"

    # ---------------------------------------------------------------- start

    def resume(self, session: orm.Session, progress: Progress | None, now: float) -> None:
        """Go on where the database says that it is; called at the start, and after a transaction that has failed."""
        plugin = self.plugin
        self.has_begun_anew = False
        if self._is_stale:
            self._is_stale = False
            self._close()
            self.plugin = plugin = self._make()
        # What it is called with has no commit that would end the transaction of all.
        shared: Any = PluginSession(session)
        if not plugin.launched:
            plugin.launch(shared)
            plugin.launched = True
            self._fresh = _state(plugin)
        self.progress = progress or self._first(shared, now)
        if progress is not None and not self._has_reset and self._holds_back(shared):
            self._begin_anew(shared)
        shared.finish()
        self._since = self._start(now)
        if progress is None and self._since is None:
            # It counts new messages alone: what was there before them is not missed at the next start either.
            self.progress = self.progress._replace(since=now)

    def _first(self, session: orm.Session, now: float) -> Progress:
        """Return where a plugin begins that has counted nothing, or in whose table another program has."""
        latest = self.plugin.latest(session)
        since = self._epoch
        if latest is not None:
            self.plugin.revert(latest, session)
            since = seconds(latest)
        delta = self.plugin.backlog_delta
        if since is not None and delta is not None:
            since = max(since, now - delta.total_seconds())
        return Progress(self.ident, since=since)

    def _holds_back(self, session: orm.Session) -> bool:
        """Return whether a plugin had counted what it had not written, and can count that again."""
        schedule, newest = self.plugin.schedule, self.progress.time
        if schedule is None or newest is None or not (self.progress.holds and self._can_go_back):
            return False
        latest = self.plugin.latest(session)
        return latest is None or seconds(latest) < seconds(schedule.last(dt.datetime.fromtimestamp(newest, _UTC)))

    def _begin_anew(self, session: orm.Session) -> None:
        """Have a plugin count again from its newest row on: it has lost what it held in memory."""
        latest, before = self.plugin.latest(session), self.progress
        since = before.since
        if latest is not None:
            self.plugin.revert(latest, session)
            since = seconds(latest)
        log.info("%s counts again what it had in memory, since %s", self.ident, since)
        self.progress = Progress(self.ident, before.generation + 1, since=since)
        self.has_begun_anew = True

    def _start(self, now: float) -> float | None:
        """Return the time from which it has to look at history."""
        at = self.progress
        if at.time is None:
            return at.since
        # Of that second itself it is not known what was counted.
        start = max(min(at.time, now) - OVERLAP_S, math.nextafter(at.pruned, math.inf))
        return start if at.since is None else max(start, at.since)

    @property
    def since(self) -> float | None:
        """The time from which it has to look at history; None where it does not."""
        return self._since

    def look_again(self, start: float) -> None:
        """Have it look at the history again, from a time on or an hour before it, for messages that came late."""
        self._looks_again = True
        if self._since is not None:
            self._since = max(self._since, start - OVERLAP_S, math.nextafter(self.progress.pruned, math.inf))

    # ---------------------------------------------------------------- counting

    def view(self, known: Mapping[bytes, frozenset[str]]) -> Hashable:
        """Return what `wanted` depends on: plugins that are equally far want the same messages."""
        at = self.progress
        return at.stream, at.position, self._since, self._looks_again and at.pruned, self.label if known else ""

    def wanted(self, items: Items, known: Mapping[bytes, frozenset[str]]) -> Items:
        """Return those of some messages that it has not counted, and is to count: the same list when it is all."""
        found = [item for item in items if self._wants(item, known)]
        return items if len(found) == len(items) else Items(found)

    def _wants(self, item: Item, known: Mapping[bytes, frozenset[str]]) -> bool:
        origin = item.origin
        if origin.stream and origin.stream == self.progress.stream:
            return origin.position > self.progress.position
        if known and self.label in known.get(item.key, ()):
            return False
        if not origin.is_past:
            return True
        if self._since is None or item.time < self._since:
            return False
        # While other messages are counted too, what is remembered may go back less far than when it began to look.
        return not self._looks_again or item.time > self.progress.pruned

    def count(self, session: orm.Session, items: Items) -> None:
        """Count messages, and write that; what it fails on is lost for this plugin alone."""
        try:
            with session.begin_nested():
                lost = self._process(items)
                self._update(session)
        except Exception as error:  # noqa: BLE001 - a plugin of others
            raise_if_away(error)
            self._report(error, "update")
            lost = self._one_by_one(session, items)
        self._pending_lost += lost

    def _process(self, items: Items) -> int:
        """Pass messages to the plugin; return on how many it has failed."""
        if self._has_reset:
            self.plugin.process_many(items)
            return 0
        lost, process = 0, self.plugin.process
        for item in items:
            try:
                # It may change what it gets.
                process(dict(item.envelope))
            except Exception as error:  # noqa: BLE001 - a plugin of others
                lost += 1
                self._report(error, "process")
        return lost

    def _update(self, session: orm.Session) -> None:
        """Have the plugin write what it has counted."""
        if self._has_reset:
            self.plugin.update(session)
            return
        shared = PluginSession(session)
        self.plugin.update(shared)
        shared.finish()

    def _one_by_one(self, session: orm.Session, items: Items) -> int:
        """Count messages each by itself, and leave out those that can't be; return how many these are."""
        lost = 0
        for item in items:
            if self._has_reset:
                self.plugin.reset()
            try:
                with session.begin_nested():
                    lost += self._process(Items([item]))
                    self._update(session)
            except Exception as error:  # noqa: BLE001 - a plugin of others
                raise_if_away(error)
                lost += 1
                self._report(error, "update")
        if self._has_reset:
            self.plugin.reset()
        return lost

    def _report(self, error: Exception, where: str) -> None:
        line = str(error).strip().partition("\n")[0]
        text = f"the plugin {self.ident} failed in {where}(): {type(error).__name__}: {line[:300]}"
        self._events.report(where, text, self.ident)

    def moved(self, items: Items, wanted: Items) -> Progress:
        """Return how far it is when it has looked at some messages and counted those that it wanted."""
        stream, position, newest = self.progress.stream, self.progress.position, self.progress.time
        for last in items.positions:
            if last[0] != stream or last[1] > position:
                stream, position = last
        if wanted:
            newest = wanted.newest if newest is None else max(newest, wanted.newest)
        return self.progress._replace(stream=stream, position=position, time=newest, holds=self._has_more())

    def _has_more(self) -> bool:
        """Return whether the plugin seems to have in memory what it has not written."""
        if self._has_reset:
            return False
        state = ((name, value) for name, value in vars(self.plugin).items() if name not in _NO_STATE)
        return bool(getattr(self.plugin, "pending", 0)) or any(value != self._fresh.get(name) for name, value in state)

    # ---------------------------------------------------------------- how the transaction ends

    def committed(self, progress: Progress) -> None:
        """Note that what was counted is stored."""
        self.progress = progress
        self.lost += self._pending_lost
        self._pending_lost = 0

    def rolled_back(self) -> None:
        """Note that what was counted is not stored: a plugin that can't forget that has to be made anew."""
        self._pending_lost = 0
        if self._has_reset:
            self.plugin.reset()
        else:
            self._is_stale = True

    def wants_refresh(self) -> bool:
        """Return whether there is something that depends on the clock, and is due."""
        wants = getattr(self.plugin, "wants_refresh", None)
        return bool(wants()) if wants is not None else not self._has_reset

    def refresh(self, session: orm.Session) -> None:
        """Have the plugin do what depends on the clock."""
        refresh = getattr(self.plugin, "refresh", None)
        try:
            with session.begin_nested():
                if refresh is not None:
                    refresh(session)
                elif not self._has_reset:
                    self._update(session)
        except Exception as error:  # noqa: BLE001 - a plugin of others
            raise_if_away(error)
            self._report(error, "update")

    def _close(self) -> None:
        close = getattr(self.plugin, "close", None)
        if close is not None:
            close()

    def close(self) -> None:
        """Stop what the plugin has running."""
        try:
            self._close()
        except Exception:
            log.exception("the plugin %s failed in close()", self.ident)


def raise_if_away(error: Exception) -> None:
    """Raise an error again that is the database's own: no plugin has failed then."""
    if not isinstance(error, exc.DBAPIError):
        return
    text = str(error.orig)
    of_sqlite = type(error.orig).__module__ == "sqlite3" and isinstance(error, exc.OperationalError)
    if error.connection_invalidated or (of_sqlite and not text.startswith(_OF_THE_STATEMENT)):
        raise error
