# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks for what the history may lack: silent minutes, holes in numbers, duplicates; and how large it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fedmsg.datanommer import models
from fedmsg.datanommer.models import Message, partitions, schema
from fedmsg.datanommer.upkeep import reading

__all__ = ["check"]

#: How many findings of a kind are listed.
LISTED_MAX = 100
_MINUTE = dt.timedelta(minutes=1)


def check(start: dt.datetime, end: dt.datetime) -> dict[str, Any]:
    """Look at the messages between two times; return what was found, as JSON has it."""
    session = models.session()
    newest = session.scalar(sa.select(sa.func.max(Message.timestamp)))
    silent, silent_minutes = _limited(_silences(start, end))
    holes, missing = _limited(_holes(start, end))
    duplicates, doubled = _limited(_duplicates(start, end))
    return {
        "start": start.isoformat(),
        "end": end.isoformat(),
        "messages": reading.count(start, end),
        "newest": None if newest is None else newest.isoformat(),
        "lag": None if newest is None else round((reading.now() - newest).total_seconds(), 3),
        "silent_minutes": silent_minutes,
        "silent": silent,
        "missing": missing,
        "holes": holes,
        "doubled": doubled,
        "duplicates": duplicates,
        "streams": {one.name: one.position for one in session.scalars(sa.select(models.StreamCursor))},
        "services": {one.service: one.seq_id for one in session.scalars(sa.select(models.ServiceCursor))},
        "bytes": _size(),
        "topics": _growth(end),
    }


def _limited(found: Iterable[tuple[dict[str, Any], int]]) -> tuple[list[dict[str, Any]], int]:
    """Return the first findings, and the sum of all."""
    listed: list[dict[str, Any]] = []
    total = 0
    for one, count in found:
        total += count
        if len(listed) < LISTED_MAX:
            listed.append(one)
    return listed, total


def _silences(start: dt.datetime, end: dt.datetime) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the whole minutes without any message, those in a row as one; between the first and the last message."""
    session = models.session()
    if session.get_bind().dialect.name == "sqlite":
        minute: Any = sa.func.strftime("%Y-%m-%d %H:%M", Message.timestamp)
    else:
        minute = sa.func.date_trunc("minute", Message.timestamp)
    asked = sa.select(minute.label("minute")).where(Message.timestamp.between(start, end)).distinct().order_by("minute")
    before: dt.datetime | None = None
    for value in session.scalars(asked):
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
        if before is not None and moment - before > _MINUTE:
            found = {"from": (before + _MINUTE).isoformat(), "to": moment.isoformat()}
            yield found, (moment - before) // _MINUTE - 1
        before = moment


def _holes(start: dt.datetime, end: dt.datetime) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the numbers that are missing between those of a publisher.

    Which service a message is of is not in it. What has the same user and certificate is taken for one.
    """
    key = Message.username, Message.certificate
    numbers = (
        sa.select(
            Message.username,
            Message.seq_id.label("number"),
            sa.func.lag(Message.seq_id).over(partition_by=key, order_by=Message.seq_id).label("before"),
        )
        .where(Message.timestamp.between(start, end), Message.seq_id.is_not(None))
        .subquery()
    )
    asked = sa.select(numbers).where(numbers.c.number > numbers.c.before + 1).order_by(numbers.c.number)
    for user, number, before in models.session.execute(asked):
        yield {"username": user, "first": before + 1, "last": number - 1}, number - before - 1


def _duplicates(start: dt.datetime, end: dt.datetime) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the ids that several messages have."""
    asked = (
        sa.select(Message.msg_id, sa.func.count())
        .where(Message.timestamp.between(start, end))
        .group_by(Message.msg_id)
        .having(sa.func.count() > 1)
    )
    for msg_id, count in models.session.execute(asked):
        yield {"msg_id": msg_id, "count": count}, count - 1


def _size() -> int | None:
    """Return how many bytes the database has on disk; None where that is not known."""
    session = models.session()
    bind = session.get_bind().engine
    if bind.dialect.name == "sqlite":
        name = bind.url.database
        return sum(path.stat().st_size for path in Path(name).parent.glob(f"{Path(name).name}*")) if name else None
    if bind.dialect.name == "postgresql":
        tables = [partitions.name_of(month) for month in partitions.months(session.connection())]
        tables += [table.name for table in schema.DeclarativeBase.metadata.sorted_tables]
        asked = sa.select(sa.func.sum(sa.text("pg_total_relation_size(name::regclass)"))).select_from(
            sa.func.unnest(sa.cast(tables, sa.ARRAY(sa.Text()))).alias("name")
        )
        return int(session.scalar(asked) or 0)
    return None


def _growth(end: dt.datetime) -> list[dict[str, Any]]:
    """Return how many messages and bytes of content the last day has of each topic, the largest first."""
    size = sa.func.sum(sa.func.length(sa.cast(Message.msg, sa.Text())))
    asked = (
        sa.select(Message.topic, sa.func.count(), size)
        .where(Message.timestamp > end - dt.timedelta(days=1), Message.timestamp <= end)
        .group_by(Message.topic)
        .order_by(size.desc(), Message.topic)
    )
    return [
        {"topic": topic, "messages": count, "bytes": int(total or 0)}
        for topic, count, total in models.session.execute(asked.limit(LISTED_MAX))
    ]
