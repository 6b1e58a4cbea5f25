# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts of messages: by time, and by topic, category, user, package or agent."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg._web.arguments import BadArgument
from fedmsg.datagrepper.asked import Asked
from fedmsg.datagrepper.history import History, count, filters_of
from fedmsg.datanommer import models

__all__ = ["FACETS", "facets", "histogram", "windows"]

#: What messages can be counted by.
FACETS = ("topics", "categories", "users", "packages", "agents")
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 the columns are in UTC and have no zone
_DAY = 86400
_MOST_BUCKETS = 2000
_NICE = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, _DAY, 7 * _DAY, 30 * _DAY)
_MOST_SERIES = 50
_TOP = 10
_TOPIC_FILTERS = frozenset({"topics", "not_topics", "categories", "not_categories", "start", "end"})


def _tables() -> Any:
    return models.DeclarativeBase.metadata.tables


def _moment(seconds: float) -> dt.datetime:
    return _EPOCH + dt.timedelta(seconds=seconds)


# ---------------------------------------------------------------- by name


def _grouped(facet: str, filters: dict[str, Any]) -> tuple[Any, Any]:
    """Return the column of a facet, and the query around it whose rows are messages."""
    where = models.Message.make_query(**filters).whereclause
    where = sa.true() if where is None else where
    if facet in {"topics", "categories", "agents"}:
        column: Any = {
            "topics": models.Message.topic, "categories": models.Message.category, "agents": models.Message.agent_name,
        }[facet]  # fmt: skip
        return column, sa.select(column).where(where, column.is_not(None))
    kind, association = (
        (models.User, models.users_assoc_table) if facet == "users" else (models.Package, models.packages_assoc_table)
    )
    one = next(iter(association.c))
    column = kind.name
    query = sa.select(column).select_from(association).join(kind, kind.id == one)
    if {name for name, value in filters.items() if value} <= {"start", "end"}:
        if "start" in filters:
            between = association.c.msg_timestamp.between(_moment(filters["start"]), _moment(filters["end"]))
            query = query.where(between)
        return column, query
    joined = sa.and_(association.c.msg_timestamp == models.Message.timestamp, association.c.msg_id == models.Message.id)
    return column, query.join(models.Message, joined).where(where)


def _begins(column: Any, prefix: str) -> Any:
    return column.startswith(prefix, autoescape=True)


def facets(history: History, asked: Asked, names: Sequence[str], limit: int, prefix: str) -> dict[str, Any]:
    """Return for each facet its most frequent values with their counts.

    Args:
        history: The history.
        asked: Which messages.
        names: The facets.
        limit: How many values of each.
        prefix: What the values begin with.
    """
    found: dict[str, Any] = {}
    with history.reading() as session:
        filters = filters_of(session, asked)
        for name in names:
            found[name] = [] if filters is None else _facet(session, name, filters, limit, prefix)
    return found


def _facet(session: orm.Session, name: str, filters: dict[str, Any], limit: int, prefix: str) -> list[dict[str, Any]]:
    column, query = _grouped(name, filters)
    if prefix:
        query = query.where(_begins(column, prefix))
    number = sa.func.count()
    query = query.add_columns(number).group_by(column).order_by(number.desc(), column).limit(limit)
    return [{"name": value, "count": many} for value, many in session.execute(query)]


# ---------------------------------------------------------------- by time


def histogram(history: History, asked: Asked) -> dict[str, Any]:
    """Return how many messages there are in each bucket of time, altogether or by a facet.

    Where no time is asked for, it is from the first message that matches up to now.

    Raises:
        BadArgument: There would be too many buckets.
    """
    split_on = asked.given["split_on"]
    with history.reading() as session:
        filters = filters_of(session, asked)
        if filters is not None and asked.start is None:
            filters = _with_times(filters)
        if filters is None:
            filters, is_empty = {"start": asked.start or 0.0, "end": asked.start or 0.0}, True
        else:
            is_empty = False
        size, first, number = _buckets(filters["start"], filters["end"], asked.given)
        names: list[Any] = [""]
        if split_on and not is_empty:
            names = [one["name"] for one in _facet(session, split_on, filters, _TOP, "")]
        rows = [] if is_empty or not names else _rows(session, filters, size, split_on, names)
    series = {name: [0] * number for name in names}
    for place, name, many in rows:
        series[name or ""][min(max(place - first, 0), number - 1)] += many
    return {
        "start": filters["start"], "end": filters["end"], "bucket": size,
        "times": [(first + place) * size for place in range(number)],
        "series": [{"name": name, "counts": counts} for name, counts in series.items()],
        "total": sum(map(sum, series.values())),
    }  # fmt: skip


def _with_times(filters: dict[str, Any]) -> dict[str, Any] | None:
    """Return filters with the time from the first message that matches up to now; None where there is none."""
    first = models.Message.get_first(order="asc", **filters)
    if first is None:
        return None
    begin = (first.timestamp - _EPOCH).total_seconds()
    return {**filters, "start": begin, "end": max(begin, time.time())}


def _buckets(start: float, end: float, given: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return how many seconds a bucket has, the number of the first bucket since 1970, and how many there are."""
    wanted = given["buckets"]
    size = given["bucket"] or next((one for one in _NICE if (end - start) / one < wanted), 0)
    size = size or int((end - start) / wanted / _DAY + 1) * _DAY
    first = int(start // size)
    number = int(end // size) - first + 1
    if number > _MOST_BUCKETS:
        raise BadArgument("bucket", f"there would be {number} buckets, more than {_MOST_BUCKETS}; make it bigger")
    return size, first, number


def _rows(
    session: orm.Session, filters: dict[str, Any], size: int, split_on: str | None, names: Sequence[str]
) -> list[tuple[int, Any, int]]:
    """Return numbers of buckets, names, and how many messages."""
    by_day = size % _DAY == 0 and split_on in {None, "topics", "categories"}
    if by_day and {name for name, value in filters.items() if value} <= _TOPIC_FILTERS:
        return _rows_of_days(session, filters, size, split_on, names)
    return _counted(session, filters, size, split_on, names)


def _counted(
    session: orm.Session, filters: dict[str, Any], size: int, split_on: str | None, names: Sequence[str]
) -> list[tuple[int, Any, int]]:
    """Count messages one by one."""
    if split_on is None:
        where = models.Message.make_query(**filters).whereclause
        column: Any = sa.literal(None)
        query = sa.select(column).select_from(models.Message).where(sa.true() if where is None else where)
    else:
        column, query = _grouped(split_on, filters)
        query = query.where(column.in_(names))
    association = {"users": models.users_assoc_table, "packages": models.packages_assoc_table}.get(split_on or "")
    moment = models.Message.timestamp if association is None else association.c.msg_timestamp
    bucket = _bucket(session, moment, size).label("bucket")
    query = query.with_only_columns(bucket, column.label("name"), sa.func.count().label("many"))
    query = query.group_by(bucket, column) if split_on else query.group_by(bucket)
    return [(int(place), name, many) for place, name, many in session.execute(query)]


def _bucket(session: orm.Session, moment: Any, size: int) -> Any:
    """Return the number of the bucket that a time is in."""
    length: Any = sa.literal_column(str(size), sa.Integer())
    if session.get_bind().dialect.name == "sqlite":
        return sa.cast(sa.func.strftime("%s", moment), sa.Integer) // length
    return sa.cast(sa.func.floor(sa.extract("epoch", moment) / length), sa.BigInteger)


def _rows_of_days(
    session: orm.Session, filters: dict[str, Any], size: int, split_on: str | None, names: Sequence[str]
) -> list[tuple[int, Any, int]]:
    """Add up the counts of whole days, and count what is left at both ends."""
    first, last = int(-(-filters["start"] // _DAY)), int(filters["end"] // _DAY)
    if first >= last:
        return _counted(session, filters, size, split_on, names)
    ends = [
        {**filters, "start": filters["start"], "end": first * _DAY - 1e-6},
        {**filters, "start": float(last * _DAY), "end": filters["end"]},
    ]
    rows = [row for end in ends if end["start"] <= end["end"] for row in _counted(session, end, size, split_on, names)]
    days, topics = _tables()["day_counts"], _tables()["topics"]
    column = topics.c.topic if split_on == "topics" else topics.c.category
    query = (
        sa.select(days.c.start, column if split_on else sa.literal(None), sa.func.sum(days.c.count))
        .join(topics, topics.c.id == days.c.topic_id)
        .where(days.c.start >= _moment(first * _DAY), days.c.start < _moment(last * _DAY))
        .group_by(days.c.start, *([column] if split_on else []))
    )
    for name, place in (("topics", topics.c.topic), ("categories", topics.c.category)):
        if filters[name]:
            query = query.where(place.in_(filters[name]))
        if filters[f"not_{name}"]:
            query = query.where(place.not_in(filters[f"not_{name}"]))
    if split_on:
        query = query.where(column.in_(names))
    rows += [
        (int((start - _EPOCH).total_seconds()) // size, name, int(many)) for start, name, many in session.execute(query)
    ]
    return rows


def windows(
    history: History, asked: Asked, number: int, split_on: Sequence[str]
) -> tuple[list[float], dict[str, list[int]]]:
    """Return the ends of windows of equal length, and how many messages are in each, for each series.

    A series is a combination of the values of the facets that are split on: those that are asked for,
    else the most frequent ones.

    Raises:
        BadArgument: There would be too many series.
    """
    start, end = asked.start or 0.0, asked.end or 0.0
    edges = [start + (end - start) * place / number for place in range(number)] + [end]
    found: dict[str, list[int]] = {}
    with history.reading() as session:
        filters = filters_of(session, asked)
        if filters is None:
            return edges[1:], {"events": [0] * number}
        values = [_values(session, facet, filters) for facet in split_on]
        combinations = list(itertools.islice(itertools.product(*values), _MOST_SERIES + 1))
        if len(combinations) > _MOST_SERIES:
            raise BadArgument("split_on", f"there would be more than {_MOST_SERIES} series")
        for one in combinations:
            only = {facet: [value] for facet, value in zip(split_on, one, strict=True)}
            found[" & ".join(one) or "events"] = [
                count({**filters, **only, "start": low, "end": high if high == end else high - 1e-6})
                for low, high in itertools.pairwise(edges)
            ]
    return edges[1:], found


def _values(session: orm.Session, facet: str, filters: dict[str, Any]) -> list[str]:
    given: list[str] = filters[facet]
    if given or facet == "contains":
        return given
    return [one["name"] for one in _facet(session, facet, filters, _TOP, "")]
