# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opens the database of the history: one session for the process, and the migrations of its tables."""

from __future__ import annotations

import configparser
import logging
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import orm

import fedmsg.config
from fedmsg import datanommer
from fedmsg._util.text import one_line
from fedmsg.datanommer.models import containing, schema, terms
from fedmsg.exceptions import ConfigError
from fedmsg.store import database

__all__ = ["current_session", "default_url", "init", "maker", "session", "upgrade"]

log = logging.getLogger(__name__)

_SETTING = "datanommer.sqlalchemy.url"
_CACHE_KIB = 65_536
# A batch is of megabytes.
_CHECKPOINT_PAGES = 8000
_LOCK = 0x6665646D7368

#: Makes sessions; `init` binds it.
maker = orm.sessionmaker()
#: The session of the current thread.
session = orm.scoped_session(maker)


def current_session() -> orm.scoped_session[orm.Session]:
    """Return the session that all work is done with: tests put another one into the package."""
    found: orm.scoped_session[orm.Session] = sys.modules[str(__package__)].session
    return found


def default_url() -> str:
    """Return the URL of the history where none is configured: an SQLite file in the state directory."""
    return datanommer.default_url(fedmsg.config.load_config())


def init(
    uri: str | None = None,
    alembic_ini: str | None = None,
    engine: sa.Engine | None = None,
    create: bool = False,
) -> None:
    """Open the history; a second call warns and does nothing.

    Args:
        uri: Any SQLAlchemy URL.
        alembic_ini: A configuration of Alembic with more settings; the steps are always those of this package.
        engine: An engine instead of the URL.
        create: Whether tables are made, or brought up to date.

    Raises:
        ValueError: Both or none of ``uri`` and ``engine`` are given.
        ConfigError: The URL can't be used, or is of another kind of database. A ValueError.
        StoreError: The database can't be used. An IOError.
    """
    if (uri is None) == (engine is None):
        raise ValueError("init needs either uri or engine")
    current = current_session()
    if getattr(current, "_datanommer_initialized", False):
        log.warning("The history is open already; this call of init does nothing")
        return
    if engine is None:
        engine = database.open_engine(str(uri), _SETTING)
        database.forget_in_child(engine)
    database.well_known(engine, _SETTING, "a history")
    if engine.dialect.name == "sqlite" and not sa.event.contains(engine, "checkout", _set_up_sqlite):
        # Not at the connect: the engine of a program may have connections already.
        sa.event.listen(engine, "checkout", _set_up_sqlite)
    maker.configure(bind=engine)
    schema.DeclarativeBase.query = current.query_property()
    if create:
        upgrade(engine, alembic_ini)
    # Programs and their tests know this name.
    current._datanommer_initialized = True  # type: ignore[attr-defined]


def _set_up_sqlite(connection: Any, _record: object, _proxy: object) -> None:
    cursor = connection.cursor()
    # The index of ids is written to everywhere.
    cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    cursor.close()
    connection.create_function("fedmsg_has_words", 2, containing.has_words, deterministic=True)
    connection.create_function("fedmsg_meets", 2, terms.meets, deterministic=True)


def _alembic(path: str | None) -> Config:
    """Return the configuration of Alembic; what can't be read is reported before anything is changed."""
    config = Config(path)
    if path is None:
        return config
    try:
        if not Path(path).is_file():
            raise FileNotFoundError("there is no such file")
        # It is read when it is first asked for.
        config.get_main_option("script_location")
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = one_line(str(error))
        raise ConfigError(f"alembic_ini: {path} can't be read: {reason}; mend it, or leave it out") from error
    return config


def upgrade(engine: sa.Engine, alembic_ini: str | None = None) -> None:
    """Make the tables, or bring them up to date.

    Raises:
        ConfigError: The configuration of Alembic can't be read. A ValueError.
        StoreError: The database can't be used.
    """
    config = _alembic(alembic_ini)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with database.changing_tables(engine, _LOCK) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
