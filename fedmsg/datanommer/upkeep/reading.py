# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the history for commands: the newest messages, counts, all of it in the order of time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from fedmsg.datanommer import models
from fedmsg.datanommer.models import Message, rows, values

__all__ = ["behind", "count", "latest", "now", "pages", "records", "stats"]

_PAGE = 1000
_LATEST_DAYS = 365


def now() -> dt.datetime:
    """Return the present as the columns have it."""
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)


def _categories() -> Iterator[str]:
    """Yield the categories that there are, in alphabetical order, by steps through the index."""
    last = ""
    asked = sa.select(sa.func.min(Message.category))
    found = models.session.scalar(asked)
    while found is not None:
        yield found
        last = found
        found = models.session.scalar(asked.where(Message.category > last))


def latest(topic: str | None, category: str | None, *, overall: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return the newest message of each category of the last 365 days, by category; or only of a topic, or of all."""
    since = now() - dt.timedelta(days=_LATEST_DAYS)
    asked = sa.select(Message).where(Message.timestamp >= since)
    asked = asked.order_by(Message.timestamp.desc(), Message.id.desc()).limit(1)
    if topic:
        queries = [asked.where(Message.topic == values.indexed_text(topic))]
    elif overall:
        queries = [asked]
    else:
        names = [category] if category else sorted(_categories())
        queries = [asked.where(Message.category == name) for name in names]
    found = [models.session.scalars(query).first() for query in queries]
    return [(message.category, message.as_dict()) for message in found if message is not None]


def stats(category: str | None, *, by_topic: bool) -> Iterator[tuple[str, int]]:
    """Yield how many messages there are of each category, or of each topic."""
    column = Message.topic if by_topic else Message.category
    asked = sa.select(column, sa.func.count()).group_by(column).order_by(column)
    if category:
        asked = asked.where(Message.category == category)
    yield from ((name, number) for name, number in models.session.execute(asked))


def _conditions(
    start: dt.datetime | None, end: dt.datetime | None, topic: str | None = None, category: str | None = None
) -> list[Any]:
    found: list[Any] = []
    if start is not None:
        found.append(Message.timestamp >= start)
    if end is not None:
        found.append(Message.timestamp <= end)
    if topic:
        found.append(Message.topic == values.indexed_text(topic))
    if category:
        found.append(Message.category == category)
    return found


def behind(key: tuple[dt.datetime, int]) -> tuple[Any, ...]:
    """Return the conditions for messages that come after one in the order of time."""
    moment, number = key
    return Message.timestamp >= moment, sa.or_(Message.timestamp > moment, Message.id > number)


def count(*wanted: Any) -> int:
    """Return how many messages `pages` would yield."""
    return models.session.scalar(sa.select(sa.func.count()).select_from(Message).where(*_conditions(*wanted))) or 0


def pages(
    start: dt.datetime | None,
    end: dt.datetime | None,
    topic: str | None = None,
    category: str | None = None,
    *,
    size: int = _PAGE,
) -> Iterator[Sequence[Message]]:
    """Yield messages in the order of time, some at a time; both times are included.

    No transaction is open between two pages, and a page is forgotten when the next one is asked for.
    """
    kind = sa.select(Message, Message.timestamp, Message.id)
    for page in _walk(kind, _conditions(start, end, topic, category), size):
        yield [row.Message for row in page]
        models.session.expunge_all()


def _walk(kind: Any, wanted: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield rows, which have a time and an id, in their order."""
    asked = kind.where(*wanted).order_by(Message.timestamp, Message.id).limit(size)
    found = models.session.execute(asked).all()
    while found:
        last = (found[-1].timestamp, found[-1].id)
        yield found
        models.session.rollback()
        found = models.session.execute(asked.where(*behind(last))).all()


def records(start: dt.datetime | None, end: dt.datetime | None) -> Iterator[dict[str, Any]]:
    """Yield messages as they are dumped: as they were published, and with what they can't be stored again without."""
    columns = Message.__table__.c
    kind = sa.select(columns.is_time_of_arrival, *(columns[name] for name in models.Line._fields))
    for page in _walk(kind, _conditions(start, end), _PAGE):
        for is_time_of_arrival, *given in page:
            message = models.Line._make(given)
            record = message.as_dict()
            if message.original is not None:
                record["original"] = message.original
            if is_time_of_arrival:
                record["stored"] = rows.seconds(message.timestamp)
            yield record
