# SPDX-License-Identifier: LGPL-2.1-or-later
"""A history on each kind of database: its tables are made once for a module, and emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer import models


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def history_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a database of each kind in turn, for the tests of a module."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('history') / 'history.db'}"
        return
    cluster = request.getfixturevalue("postgresql")
    url = cluster.create()
    yield url
    cluster.drop(url)


@pytest.fixture(scope="module")
def history_engine(history_url: str) -> Iterator[sa.Engine]:
    """Return the engine of a database with the tables of the history."""
    models.session = orm.scoped_session(models.maker)
    models.init(history_url, create=True)
    engine = models.session.get_bind()
    assert isinstance(engine, sa.Engine)
    yield engine
    models.session.remove()
    engine.dispose()


def empty(engine: sa.Engine) -> None:
    """Remove all rows, and have the positions begin anew."""
    with engine.begin() as connection:
        for table in models.DeclarativeBase.metadata.sorted_tables:
            if table.name != "message_positions":
                connection.execute(sa.delete(table))
        connection.execute(sa.text("UPDATE message_positions SET newest = 0"))


@pytest.fixture
def history(history_engine: sa.Engine) -> Iterator[Any]:
    """Return the module of models, open, with nothing stored."""
    yield models
    models.session.remove()
    empty(history_engine)
