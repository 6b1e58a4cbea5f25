# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of pytest for programs that use the history: a database of their own, emptied after each test.

Load them in a ``conftest.py``::

    pytest_plugins = ["fedmsg.datanommer.models.testing"]

The database is an SQLite file, unless the program has a fixture ``datanommer_db_url`` of its own::

    @pytest.fixture(scope="session")
    def datanommer_db_url(postgresql_proc):
        return f"postgresql://postgres@localhost:{postgresql_proc.port}/history"
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer import models
from fedmsg.datanommer.models import texts
from fedmsg.store import database

__all__ = ["datanommer_db", "datanommer_db_engine", "datanommer_db_url", "datanommer_models", "empty"]


@pytest.fixture(scope="session")
def datanommer_db_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of the database: an SQLite file that is new in each run."""
    return f"sqlite:///{tmp_path_factory.mktemp('datanommer') / 'history.db'}"


@pytest.fixture(scope="session")
def datanommer_db_engine(datanommer_db_url: str) -> Iterator[sa.Engine]:
    """Return the engine of the database, whose tables are made."""
    engine = database.open_engine(datanommer_db_url, "datanommer_db_url")
    models.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def datanommer_db(datanommer_db_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """Return the engine; the module of models uses it in this test, after which the tables are empty."""
    monkeypatch.setattr(models, "session", orm.scoped_session(models.maker))
    models.init(engine=datanommer_db_engine)
    yield datanommer_db_engine
    models.session.remove()
    models.clear_cache()
    empty(datanommer_db_engine)


@pytest.fixture
def datanommer_models(datanommer_db: sa.Engine) -> ModuleType:  # noqa: ARG001 it is there for what it does
    """Return the module of models, open, with nothing stored."""
    return models


def empty(engine: sa.Engine) -> None:
    """Remove all that is stored; the positions begin anew."""
    with engine.begin() as connection:
        texts.clear(connection)
        for table in models.DeclarativeBase.metadata.sorted_tables:
            if table.name == "message_positions":
                connection.execute(sa.update(table).values(newest=0))
            else:
                connection.execute(sa.delete(table))
