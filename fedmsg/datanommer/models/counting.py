# SPDX-License-Identifier: LGPL-2.1-or-later
"""Totals: by the counts of days and months where these have the answer, else by counting in an index."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer.models import keys, query, schema
from fedmsg.datanommer.models.query import Filters

__all__ = ["total"]

_INSTANT = dt.timedelta(microseconds=1)
_DAY = dt.timedelta(days=1)


def total(session: orm.Session, model: Any, wanted: Filters) -> int:
    """Return how many messages there are."""
    if wanted.only("topics", "not_topics", "categories", "not_categories"):
        return int(session.scalar(_of_topics(model, wanted)) or 0)
    for name in ("users", "packages", "agents"):
        unwanted = getattr(wanted, f"not_{name}")
        if unwanted and not getattr(wanted, name) and not (wanted.contains or wanted.search):
            # Those that are left out are fewer than those that stay.
            rest = replace(wanted, **{f"not_{name}": None})
            return max(0, total(session, model, rest) - total(session, model, replace(rest, **{name: unwanted})))
    return int(
        session.scalar(sa.select(sa.func.count()).select_from(keys.select(session, model, wanted).subquery())) or 0
    )


def _of_topics(model: Any, wanted: Filters) -> Any:
    """Return the query for a sum of counts of months and days, and of what is left at both ends."""
    times = wanted.times
    ids = query.topic_ids(wanted)
    if times is None:
        return sa.select(_sum(schema.month_counts, ids, None))
    first, last = times[0], times[1] + _INSTANT
    days = _whole(first, last, _beginning_of_day, _DAY)
    if days is None:
        return sa.select(_messages(model, wanted, first, last))
    parts = [_messages(model, wanted, first, days[0]), _messages(model, wanted, days[1], last)]
    months = _whole(days[0], days[1], _beginning_of_month, 31 * _DAY)
    if months is None:
        parts.append(_sum(schema.day_counts, ids, days))
    else:
        parts += [
            _sum(schema.day_counts, ids, (days[0], months[0])), _sum(schema.month_counts, ids, months),
            _sum(schema.day_counts, ids, (months[1], days[1])),
        ]  # fmt: skip
    result = parts[0]
    for part in parts[1:]:
        result += part
    return sa.select(result)


def _beginning_of_day(moment: dt.datetime) -> dt.datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _beginning_of_month(moment: dt.datetime) -> dt.datetime:
    return _beginning_of_day(moment).replace(day=1)


def _whole(first: dt.datetime, last: dt.datetime, beginning: Any, longest: dt.timedelta) -> Any:
    """Return the whole days or months from a time to another one, which is excluded; None when there are none."""
    begin = beginning(first)
    if begin < first:
        begin = beginning(begin + longest)
    end = beginning(last)
    return (begin, end) if begin < end else None


def _sum(table: sa.Table, ids: Any, times: tuple[dt.datetime, dt.datetime] | None) -> Any:
    asked = sa.select(sa.func.coalesce(sa.func.sum(table.c.count), 0))
    if ids is not None:
        asked = asked.where(table.c.topic_id.in_(ids))
    if times is not None:
        asked = asked.where(table.c.start >= times[0], table.c.start < times[1])
    return asked.scalar_subquery()


def _messages(model: Any, wanted: Filters, first: dt.datetime, last: dt.datetime) -> Any:
    """Return the count of messages from a time to another one, which is excluded."""
    if first >= last:
        return sa.literal(0)
    of_topics = query.conditions(model, replace(wanted, start=None, end=None))
    asked = sa.select(sa.func.count())
    return asked.where(model.timestamp >= first, model.timestamp < last, *of_topics).scalar_subquery()
