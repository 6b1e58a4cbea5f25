# SPDX-License-Identifier: LGPL-2.1-or-later
"""The partitions of PostgreSQL: one a month, made before it is needed, none for what belongs nowhere."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from fedmsg.datanommer import models
from tests.satellites import histories
from tests.satellites.messages import message

PARTITIONS = """SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class
    WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'messages'::regclass) ORDER BY relname"""


@pytest.fixture
def engine(postgresql_url: str) -> Iterator[sa.Engine]:
    with histories.opened(postgresql_url) as engine:
        yield engine


def partitions(engine: sa.Engine) -> dict[str, str]:
    """Return the names of the partitions, and what goes into them."""
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text(PARTITIONS))}


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc).timestamp()


def bound(first: str, end: str) -> str:
    return f"FOR VALUES FROM ('{first} 00:00:00') TO ('{end} 00:00:00')"


def test_each_month_has_one_and_the_next_month_too(engine: sa.Engine) -> None:
    for moment in ("2023-11-30T23:59:59.999999", "2023-11-01T00:00:00", "2023-12-01T00:00:00"):
        models.add(message(timestamp=at(moment)))
    assert partitions(engine) == {
        "messages_2023_11": bound("2023-11-01", "2023-12-01"),
        "messages_2023_12": bound("2023-12-01", "2024-01-01"),
        # Nothing is in it yet.
        "messages_2024_01": bound("2024-01-01", "2024-02-01"),
    }
    with engine.connect() as connection:
        asked = sa.text("SELECT tableoid::regclass::text, count(*) FROM messages GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in connection.execute(asked)] == [("messages_2023_11", 2), ("messages_2023_12", 1)]


def test_the_one_of_the_next_month_is_there_before_its_first_message(engine: sa.Engine) -> None:
    """So that at midnight nothing has to be made."""
    models.add(message(timestamp=at("2024-02-29T23:59:59")))
    before = partitions(engine)
    made: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(*arguments: object) -> None:
        made.extend([str(arguments[2])] if str(arguments[2]).startswith("CREATE TABLE") else [])

    assert list(before) == ["messages_2024_02", "messages_2024_03"]
    models.add(message(timestamp=at("2024-03-01T00:00:00")))
    assert [one.split()[2] for one in made] == ["messages_2024_04"]
    assert list(partitions(engine)) == [*before, "messages_2024_04"]
    # The control: another one of March makes nothing.
    models.add(message(timestamp=at("2024-03-31T23:59:59")))
    assert len(made) == 1


def test_odd_times_make_no_partitions(engine: sa.Engine) -> None:
    """There is none from 1969 or of 9999, and no default one."""
    for odd in (-1, 0, at("1999-12-31T23:59:59"), 2.5e11, "soon"):
        models.add(message(timestamp=odd))
    models.add(message(timestamp=at("2000-01-01T00:00:00")))
    found = partitions(engine)
    assert len(found) == 4
    now = dt.datetime.now(dt.timezone.utc)
    assert {"messages_2000_01", "messages_2000_02", f"messages_{now:%Y_%m}"} <= set(found)
    assert "DEFAULT" not in found.values()
    assert models.Message.grep()[0] == 6
