# SPDX-License-Identifier: LGPL-2.1-or-later
"""The models of statistics: their columns and forms, hostile texts, and their database."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from fedmsg.exceptions import ConfigError, StoreError
from fedmsg.statscache import models, plugins
from fedmsg.statscache.database import create_tables, init_model
from tests.satellites import statistics
from tests.satellites.statistics import START, Limits, Notes, Ranks, Shares, Visits

SECONDS = 1_796_040_000.0 - 43200


@pytest.fixture(scope="module")
def session(history_url: str) -> Iterator[orm.scoped_session[orm.Session]]:
    with statistics.opened(history_url) as found:
        yield found
        found.rollback()


@pytest.fixture
def rows(session: orm.scoped_session[orm.Session]) -> Iterator[orm.scoped_session[orm.Session]]:
    """Return a session, and undo what a test has done with it."""
    yield session
    session.rollback()


def written(session: Any, model: Any, *rows: dict[str, Any]) -> list[Any]:
    """Store rows, and return them as they are read."""
    session.add_all([model(**{"timestamp": START, **row}) for row in rows])
    session.flush()
    session.expire_all()
    return list(session.scalars(sa.select(model).order_by(*model.ordering())))


# ---------------------------------------------------------------- columns and forms


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Visits.model, ["id", "timestamp", "scalar"]),
        (Shares.model, ["id", "timestamp", "category", "scalar"]),
        (Notes.model, ["id", "timestamp", "category", "message"]),
        (Limits.model, ["id", "timestamp", "category", "category_constraint", "message"]),
    ],
    ids=["scalar", "categorized", "log", "constrained"],
)
def test_columns(model: Any, names: list[str]) -> None:
    assert model.columns() == names


def test_models_are_those_of_plugins() -> None:
    assert [getattr(plugins, name) for name in models.__all__ if name != "seconds"] == [
        getattr(models, name) for name in models.__all__ if name != "seconds"
    ]


def test_to_json(rows: Any) -> None:
    found = written(rows, Shares.model, {"category": "a", "scalar": 1}, {"category": "b", "scalar": -2.5})
    text = Shares.model.to_json(found)
    assert json.loads(text) == [
        {"timestamp": SECONDS, "category": "a", "scalar": 1},
        {"timestamp": SECONDS, "category": "b", "scalar": -2.5},
    ]
    assert '"scalar":1}' in text
    assert Shares.model.to_json([]) == "[]"


def test_json_has_no_number_that_is_none(rows: Any) -> None:
    found = written(rows, Shares.model, {"category": "a", "scalar": float("inf")})
    assert json.loads(Shares.model.to_json(found))[0]["scalar"] is None


def test_csv_is_rfc_4180(rows: Any) -> None:
    texts = ['a "quoted", text', "two\r\nlines", "plain", "é 漢"]
    found = written(rows, Notes.model, *({"category": text, "message": text} for text in texts))
    text = Notes.model.to_csv(found)
    assert text.endswith("\r\n")
    head, *body = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert head == ["timestamp", "category", "message"]
    assert body == [[str(SECONDS), one, one] for one in texts]
    assert Notes.model.to_csv([]) == '"timestamp","category","message"\r\n'


def test_csv_has_no_formula(rows: Any) -> None:
    texts = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "\uff1d1"]
    found = written(rows, Shares.model, *({"category": text, "scalar": -7} for text in texts))
    _, *body = csv.reader(io.StringIO(Shares.model.to_csv(found), newline=""))
    assert [row[1] for row in body] == [f"'{text}" for text in texts]
    # A number stays one.
    assert {row[2] for row in body} == {"-7"}


def test_collate(rows: Any) -> None:
    later = START + dt.timedelta(minutes=1)
    found = written(
        rows, Shares.model, {"category": "b", "scalar": 2}, {"category": "a", "scalar": 1},
        {"category": "a", "scalar": 10}, {"category": "b", "scalar": 5, "timestamp": later},
    )  # fmt: skip
    assert Shares.model.collate(found) == OrderedDict(
        [(SECONDS, OrderedDict(a=11, b=2)), (SECONDS + 60, OrderedDict(a=0, b=5))]
    )
    assert Shares.model.collate([]) == {}


# ---------------------------------------------------------------- what is stored


def test_a_time_with_a_zone_is_stored_in_utc(rows: Any) -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    (found,) = written(rows, Visits.model, {"timestamp": START.replace(tzinfo=zone), "scalar": 1})
    assert found.timestamp == START - dt.timedelta(hours=2)


@pytest.mark.parametrize("number", [0, -3, 2**52, 0.5], ids=str)
def test_a_number_is_read_as_it_was_written(rows: Any, number: float) -> None:
    (found,) = written(rows, Visits.model, {"scalar": number})
    assert (found.scalar, type(found.scalar)) == (number, type(number))


@pytest.mark.parametrize(
    ("text", "stored"),
    [("nul\0", "nul\ufffd"), ("half \ud800", "half \ufffd"), ("", ""), (7, "7"), ("<script>", "<script>")],
    ids=["nul", "half", "empty", "number", "script"],
)
def test_a_text_that_no_database_takes_is_stored_without_it(rows: Any, text: Any, stored: str) -> None:
    (found,) = written(rows, Notes.model, {"category": text, "message": text})
    assert (found.category, found.message) == (stored, stored)
    # It is found by what it was.
    assert rows.query(Notes.model).filter_by(category=text).count() == 1


def test_a_category_that_is_too_long_for_an_index_is_a_category(rows: Any) -> None:
    long = ["x" * 100_000, "x" * 100_000 + "y"]
    found = written(rows, Ranks.model, *({"category": text, "scalar": 1} for text in long))
    assert len({row.category for row in found}) == 2
    assert max(len(row.category) for row in found) <= 500
    assert rows.query(Ranks.model).filter_by(category=long[0]).count() == 1


def test_what_is_unique_is_stored_once(rows: Any) -> None:
    written(rows, Shares.model, {"category": "a", "scalar": 1}, {"category": "a", "scalar": 1})
    with pytest.raises(IntegrityError):
        written(rows, Ranks.model, {"category": "a", "scalar": 1}, {"category": "a", "scalar": 1})


def test_a_model_that_is_declared_again_is_usable(rows: Any) -> None:
    """As when a program loads its plugins twice."""
    again: Any = type("Visits", (models.ScalarModel,), {"__tablename__": "test_visits", "__unique__": ()})
    written(rows, again, {"scalar": 1})
    assert rows.query(Visits.model).count() == 1
    # The table is there for those that are made later, in the form that is known.
    assert models.BaseModel.metadata.tables["test_visits"] is again.__table__


def test_a_model_has_columns_as_its_author_likes(history_url: str) -> None:
    own: Any = type(
        "Owned",
        (models.BaseModel,),
        {"__tablename__": "test_owned", "host": sa.Column(sa.Unicode(50), index=True), "load": sa.Column(sa.Float())},
    )
    create_tables(history_url)
    with statistics.opened_again(history_url) as session:
        found = written(session, own, {"host": "h", "load": 0.5})
        assert json.loads(own.to_json(found)) == [{"timestamp": SECONDS, "host": "h", "load": 0.5}]
        session.rollback()


def test_a_model_without_a_table_name_has_one() -> None:
    made: Any = type("Some Name", (models.ScalarModel,), {})
    assert made.__tablename__ == "stats_some_name"


# ---------------------------------------------------------------- the database


def indexes(url: str, table: str) -> list[list[str | None]]:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        return [index["column_names"] for index in sa.inspect(engine).get_indexes(table)]
    finally:
        engine.dispose()


def test_tables_have_an_index_in_the_order_of_pages(history_url: str, session: object) -> None:
    assert ["timestamp", "id"] in indexes(history_url, "test_shares")
    assert ["timestamp"] in indexes(history_url, "test_visits")
    assert ["timestamp", "category"] in indexes(history_url, "test_ranks")


def test_a_table_of_before_gets_its_index(history_url: str, session: Any) -> None:
    (index,) = [one for one in Shares.model.__table__.indexes if "id" in one.columns]
    index.drop(session.get_bind())
    assert ["timestamp", "id"] not in indexes(history_url, "test_shares")
    create_tables(history_url)
    assert ["timestamp", "id"] in indexes(history_url, "test_shares")


def test_several_programs_make_the_tables_at_once(tmp_path: Path) -> None:
    url, failures = f"sqlite:///{tmp_path / 'new.db'}", list[StoreError]()

    def make() -> None:
        try:
            create_tables(url)
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ["timestamp", "id"] in indexes(url, "test_shares")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "statscache.sqlalchemy.uri: .*write a URL such as"),
        ("mysql://host/name", "statscache.sqlalchemy.uri: "),
        ("oracle://host/name", "statscache.sqlalchemy.uri: "),
    ],
    ids=["nonsense", "mysql", "oracle"],
)
def test_a_url_that_can_not_be_used_is_rejected(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        init_model(url)


def test_a_database_that_is_away_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be prepared"):
        create_tables(f"sqlite:///{tmp_path / 'none' / 'file.db'}")
