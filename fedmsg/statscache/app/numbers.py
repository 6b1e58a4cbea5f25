# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads rows for requests: pages that stay as they are while numbers are added."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg._web.arguments import BadArgument
from fedmsg.statscache.database import SETTING
from fedmsg.statscache.models import BaseModel
from fedmsg.store import database, reading

__all__ = ["Numbers", "Page"]

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 as the columns have it


class Page(NamedTuple):
    """A page of rows.

    Attributes:
        rows: The rows.
        number: Its number, from 1.
        pages: How many pages there are.
        through: The id of the newest row that there was when the first page was read: its links leave out what
            came later, so that all of them are about the same rows.
    """

    rows: Sequence[Any]
    number: int
    pages: int
    through: int


# What to do where there are no tables.
_MISSING = "a hub that counts makes the tables"


class Numbers:
    """The database of statistics, opened to read.

    Args:
        url: Its URL.
        timeout: How long a query may take, in seconds.
        processes: How many processes share the database.

    Raises:
        ConfigError: The URL can't be used.
    """

    def __init__(self, url: str, timeout: float, processes: int) -> None:
        engine = reading.open_engine(url, SETTING, processes, missing=_MISSING)
        self._engine = database.well_known(engine, SETTING, "statistics")
        self._timeout, self._maker = timeout, orm.sessionmaker(self._engine)

    def close(self) -> None:
        """Close all connections; they are opened again when they are needed."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[orm.Session]:
        """Yield a session whose statements end with an error when they take too long.

        Raises:
            QueryTooSlow: One did.
            StoreError: The database could not be read.
        """
        with self._maker() as session, reading.limited(session, self._timeout, missing=_MISSING):
            yield session

    def page(self, model: type[BaseModel], given: Mapping[str, Any], rows_per_page: int) -> Page:
        """Return a page of the rows of a model.

        Args:
            model: The model.
            given: The arguments of the request.
            rows_per_page: How many rows a page has.

        Raises:
            BadArgument: There is no such page.
        """
        with self.reading() as session:
            through = given["through"]
            if through is None:
                through = session.scalar(sa.select(sa.func.max(model.id))) or 0
            wanted = [model.id <= through, *_between(model, given["start"], given["stop"])]
            total: int = session.scalar(sa.select(sa.func.count()).select_from(model).where(*wanted)) or 0
            if given["limit"] is not None:
                total = min(total, given["limit"])
            pages, skipped = -(-total // rows_per_page), (given["page"] - 1) * rows_per_page
            if skipped and skipped >= total:
                raise BadArgument("page", f"{given['page']} is behind the last one, {pages}")
            order = [column.desc() if given["order"] == "desc" else column for column in model.ordering()]
            found = sa.select(model).where(*wanted).order_by(*order).offset(skipped)
            rows = session.scalars(found.limit(min(rows_per_page, total - skipped))).all()
            session.expunge_all()
        return Page(rows, given["page"], pages, through)

    def check(self, models: Sequence[type[BaseModel]]) -> None:
        """Raise what keeps models from being read."""
        with self.reading() as session:
            session.execute(sa.select(1))
            for model in models:
                session.execute(sa.select(model.id).limit(1))


def _between(model: type[BaseModel], start: float | None, stop: float | None) -> list[Any]:
    found = []
    if start is not None:
        found.append(model.timestamp >= _moment(start))
    if stop is not None:
        found.append(model.timestamp <= _moment(stop))
    return found


def _moment(seconds: float) -> dt.datetime:
    return _EPOCH + dt.timedelta(seconds=seconds)
