# SPDX-License-Identifier: LGPL-2.1-or-later
"""Charts of very many categories: the largest by name, the rest in one, and no more times than can be summed up."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg.statscache.app import charts
from fedmsg.statscache.app.numbers import Numbers
from fedmsg.statscache.utils import init_plugins
from tests.satellites.statistics import opened

CATEGORIES = 100_000
HOURS = 6
HOUR = dt.timedelta(hours=1)

_NUMBERS = {
    "sqlite": "WITH RECURSIVE all_n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM all_n WHERE n < :last) SELECT n",
    "postgresql": "WITH all_n AS (SELECT generate_series(0, CAST(:last AS INTEGER)) AS n) SELECT n",
}


def fill(engine: sa.Engine, model: Any, moment: dt.datetime) -> None:
    """Write a row for each category: 1, and 1000 and more for the first ten."""
    source = _NUMBERS[engine.dialect.name].replace(
        ") SELECT n", ") SELECT :moment, 'category-' || n, CASE WHEN n < 10 THEN 1000 + n ELSE 1 END"
    )
    statement = sa.text(f"INSERT INTO {model.__tablename__} (timestamp, category, scalar) {source} FROM all_n")
    with engine.begin() as connection:
        found = statement.bindparams(sa.bindparam("moment", moment, sa.DateTime()))
        connection.execute(found, {"last": CATEGORIES - 1})


@pytest.mark.parametrize("most", [None, 1_000_000], ids=["as it is", "control"])
def test_chart_of_very_many_categories(most: int | None, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if most is not None:
        monkeypatch.setattr(charts, "_ROWS_MAX", most)
    with opened(database_url) as session:
        (plugin,) = [one for one in init_plugins({}) if one.ident == "volume-by-category-1h"]
        last = plugin.schedule.last()
        for hour in range(HOURS):
            fill(session.get_bind().engine, plugin.model, last - hour * HOUR)
        numbers = Numbers(database_url, 60.0, 1)
        try:
            found = charts.Charts(numbers).of(plugin)
        finally:
            numbers.close()
    # Half a million rows are those of five hours.
    assert len(found["times"]) == (60 if most else HOURS - 1)
    rest = found["series"].pop()
    assert [one["name"] for one in found["series"]] == [f"category-{number}" for number in range(9, 2, -1)]
    assert found["series"][0]["values"][-5:] == [1009] * 5
    assert rest["name"] == "all others"
    assert rest["values"][-5:] == [CATEGORIES - 10 + 1000 + 1001 + 1002] * 5
