# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opens the database of the statistics, and makes the tables of the models that plugins have."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.statscache.models import BaseModel
from fedmsg.store import database

__all__ = ["SETTING", "create_tables", "init_model"]

#: The setting that the URL comes from, for errors.
SETTING = "statscache.sqlalchemy.uri"
_LOCK = 0x7374617473


def _open(url: str) -> sa.Engine:
    engine = database.well_known(database.open_engine(url, SETTING), SETTING, "statistics")
    database.forget_in_child(engine)
    return engine


def init_model(url: str) -> orm.scoped_session[orm.Session]:
    """Return a session for each thread; nothing is connected yet.

    Raises:
        ConfigError: The URL can't be used, or is of another kind of database. A ValueError.
    """
    return orm.scoped_session(orm.sessionmaker(bind=_open(url)))


def create_tables(url: str) -> None:
    """Make the tables and indexes of all models that are known by now, where there are none yet.

    Raises:
        ConfigError: The URL can't be used, or is of another kind of database. A ValueError.
        StoreError: The database can't be used. An IOError.
    """
    engine = _open(url)
    try:
        with database.changing_tables(engine, _LOCK) as connection:
            tables = BaseModel.metadata.sorted_tables
            BaseModel.metadata.create_all(connection, tables=tables)
            for table in tables:
                for index in table.indexes:
                    # Tables of before may have none.
                    index.create(connection, checkfirst=True)
    finally:
        engine.dispose()
