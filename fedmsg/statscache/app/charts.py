# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the charts of the dashboard show: the newest times, and of many categories the largest."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.exceptions import FedmsgError
from fedmsg.statscache.app.numbers import Numbers
from fedmsg.statscache.models import BaseModel, seconds
from fedmsg.statscache.plugins import BasePlugin

__all__ = ["Charts"]

_TIMES = 60
_SERIES = 7
_RANKS = 20
_TEXTS = 30
_LONGEST_TEXT = 300
# So many rows are summed up in a second or so: where there are more, fewer times are shown.
_ROWS_MAX = 500_000
# For so long, or so many times as long as it took to read, all who look are shown the same.
_KEPT_SECONDS = 2.0
_KEPT_FACTOR = 5

Chart = dict[str, Any]


class Charts:
    """Reads what charts show; many who look at one cost no more than one who does.

    Args:
        numbers: The database.
    """

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._kept: dict[str, tuple[float, Chart | FedmsgError]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def of(self, plugin: BasePlugin) -> Chart:
        """Return the chart of a plugin: its kind, and its times with their series, its ranks, or its texts."""
        with self._locks.setdefault(plugin.ident, threading.Lock()):
            until, found = self._kept.get(plugin.ident, (0.0, {}))
            began = time.monotonic()
            if began >= until:
                try:
                    with self._numbers.reading() as session:
                        found = _read(session, plugin)
                # Those who wait for it are not to try the same, one after the other.
                except FedmsgError as error:
                    found = error
                now = time.monotonic()
                self._kept[plugin.ident] = now + max(_KEPT_SECONDS, _KEPT_FACTOR * (now - began)), found
        if isinstance(found, FedmsgError):
            raise found
        return found


def _read(session: orm.Session, plugin: BasePlugin) -> Chart:
    model: type[BaseModel] = plugin.model
    newest = session.scalar(sa.select(sa.func.max(model.timestamp)))
    if newest is None:
        return {"kind": "empty"}
    types = {name: _type_of(model.__table__.c[name].type) for name in model.columns()[2:]}
    names = [name for name, kind in types.items() if issubclass(kind, (int, float))]
    if "category" in types and "scalar" in types:
        return _categories(session, plugin, newest)
    if names:
        return _columns(session, plugin, newest, names)
    return _texts(session, model, list(types))


def _type_of(kind: Any) -> type[Any]:
    """Return the type that the values of a column have."""
    try:
        found: type[Any] = getattr(kind, "impl_instance", kind).python_type
    # Of kinds of databases of their own nothing is known.
    except NotImplementedError:
        return str
    return found


# ---------------------------------------------------------------- by time


def _times(plugin: BasePlugin, session: orm.Session, newest: dt.datetime) -> tuple[list[dt.datetime], float | None]:
    """Return the times that are shown, and the seconds between them where they are equal."""
    if plugin.schedule is not None and plugin.schedule.interval:
        step = plugin.schedule.interval
        # What is in the future has a wrong clock; where nothing comes, that is seen.
        last = min(plugin.schedule.last(), newest + _TIMES * step)
        return [last - number * step for number in range(_TIMES - 1, -1, -1)], step.total_seconds()
    moments = sa.select(plugin.model.timestamp).distinct().order_by(plugin.model.timestamp.desc()).limit(_TIMES)
    return sorted(session.scalars(moments)), None


def _columns(session: orm.Session, plugin: BasePlugin, newest: dt.datetime, names: Sequence[str]) -> Chart:
    """Return the numbers of columns by time."""
    model, (times, step) = plugin.model, _times(plugin, session, newest)
    columns = [getattr(model, name) for name in names]
    found = sa.select(model.timestamp, *(sa.func.sum(column) for column in columns))
    rows = session.execute(found.where(_within(model, times)).group_by(model.timestamp))
    numbers = {row[0]: row[1:] for row in rows}
    nothing = [0] * len(names)
    series = [
        {"name": name, "values": [numbers.get(moment, nothing)[place] for moment in times]}
        for place, name in enumerate(names)
    ]
    return _by_time(times, step, series)


def _categories(session: orm.Session, plugin: BasePlugin, newest: dt.datetime) -> Chart:
    """Return the numbers of the largest categories by time; of one time the largest of it."""
    model, (times, step) = plugin.model, _times(plugin, session, newest)
    total = sa.func.sum(model.scalar)
    largest = sa.select(model.category, total).group_by(model.category).order_by(total.desc(), model.category)
    if session.scalar(sa.select(sa.func.min(model.timestamp))) == newest:
        ranks = session.execute(largest.limit(_RANKS)).all()
        return {"kind": "ranks", "time": seconds(newest), "ranks": [[name[:_LONGEST_TEXT], n] for name, n in ranks]}
    times = _affordable(session, model, times)
    within = _within(model, times)
    names = [name for name, _ in session.execute(largest.where(within).limit(_SERIES))]
    each = sa.select(model.timestamp, model.category, total).where(within, model.category.in_(names))
    numbers = {(row[0], row[1]): row[2] for row in session.execute(each.group_by(model.timestamp, model.category))}
    series: list[dict[str, Any]] = [
        {"name": name[:_LONGEST_TEXT], "values": [numbers.get((moment, name), 0) for moment in times]} for name in names
    ]
    sums = session.execute(sa.select(model.timestamp, total).where(within).group_by(model.timestamp))
    every: dict[dt.datetime, float] = {row[0]: row[1] for row in sums}
    rest = [every.get(moment, 0) - sum(one["values"][place] for one in series) for place, moment in enumerate(times)]
    if any(rest):
        series.append({"name": "all others", "values": rest})
    return _by_time(times, step, series)


def _affordable(session: orm.Session, model: Any, times: list[dt.datetime]) -> list[dt.datetime]:
    """Return the newest of some times, as many as don't have too many rows in all; one at least."""
    newest_first = sa.select(model.timestamp).where(_within(model, times)).order_by(model.timestamp.desc())
    too_old = session.scalar(newest_first.offset(_ROWS_MAX).limit(1))
    return times if too_old is None else [moment for moment in times if moment > too_old] or times[-1:]


def _within(model: Any, times: Sequence[dt.datetime]) -> Any:
    return model.timestamp.between(times[0], times[-1])


def _by_time(times: Sequence[dt.datetime], step: float | None, series: Sequence[Chart]) -> Chart:
    return {"kind": "times", "times": [seconds(moment) for moment in times], "step": step, "series": series}


# ---------------------------------------------------------------- texts


def _texts(session: orm.Session, model: type[BaseModel], names: Sequence[str]) -> Chart:
    """Return the newest rows as texts."""
    order = [column.desc() for column in model.ordering()]
    columns = [getattr(model, name) for name in names]
    rows = session.execute(sa.select(model.timestamp, *columns).order_by(*order).limit(_TEXTS))
    texts = [[seconds(row[0]), *(str(value)[:_LONGEST_TEXT] for value in row[1:] if value is not None)] for row in rows]
    return {"kind": "texts", "texts": texts}
