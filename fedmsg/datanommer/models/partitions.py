# SPDX-License-Identifier: LGPL-2.1-or-later
"""The partitions of the messages in PostgreSQL, one for each month, made before they are needed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import sqlalchemy as sa

__all__ = ["drop", "ensure", "months", "name_of", "names", "next_month"]


def name_of(month: dt.date) -> str:
    """Return the name of the partition of a month."""
    return f"messages_{month:%Y_%m}"


def months(connection: sa.Connection) -> list[dt.datetime]:
    """Return the months that have a partition, the oldest first."""
    found = connection.scalars(
        sa.text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'messages'::regclass")
    )
    return sorted(dt.datetime.strptime(name, "messages_%Y_%m") for name in found)  # noqa: DTZ007 the columns have no zone


def next_month(month: dt.datetime) -> dt.datetime:
    """Return the beginning of the month after this one."""
    return dt.datetime.combine(_next(month), dt.time())


def drop(connection: sa.Connection, month: dt.date) -> None:
    """Remove the partition of a month with all that is in it."""
    connection.exec_driver_sql(f"DROP TABLE {name_of(month)}")


def _next(month: dt.date) -> dt.date:
    return (month.replace(day=28) + dt.timedelta(days=4)).replace(day=1)


def _needed(times: Iterable[dt.datetime]) -> set[dt.date]:
    months = {moment.date().replace(day=1) for moment in times}
    return months | {_next(max(months))} if months else months


def names(times: Iterable[dt.datetime]) -> list[str]:
    """Return the names of the partitions that `ensure` makes for messages of these times."""
    return sorted(map(name_of, _needed(times)))


def ensure(connection: sa.Connection, times: Iterable[dt.datetime]) -> None:
    """Make the partitions that messages of these times go into, and the one of the month after the last of them.

    A table is made and then attached, without a lock on the others.
    """
    months = _needed(times)
    if not months:
        return
    asked = sa.select(
        sa.func.unnest(sa.cast(sorted(map(name_of, months)), sa.ARRAY(sa.Text()))).label("name")
    ).subquery()
    there = set(connection.scalars(sa.select(asked.c.name).where(sa.func.to_regclass(asked.c.name).is_not(None))))
    for month in sorted(months):
        if (name := name_of(month)) not in there:
            # Names and dates of ours.
            connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
            connection.exec_driver_sql(
                f"ALTER TABLE messages ATTACH PARTITION {name} FOR VALUES FROM ('{month}') TO ('{_next(month)}')"
            )
