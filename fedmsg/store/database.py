# SPDX-License-Identifier: LGPL-2.1-or-later
"""Databases by SQLAlchemy: the one place that opens a URL, retries transactions, and maps errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import exc

from fedmsg.exceptions import ConfigError, StoreError
from fedmsg.transport.zmq import contexts

__all__ = [
    "before_commit",
    "changing_tables",
    "driver",
    "errors_mapped",
    "forget_in_child",
    "is_away",
    "open_engine",
    "require_file",
    "retried",
    "well_known",
]

_T = TypeVar("_T")

# How long to wait for another writer of an SQLite file.
_BUSY_TIMEOUT_SECONDS = 30.0
# How often a transaction is retried after its connection was lost, or another writer took its number.
_TRIES = 3
_EXAMPLE = "sqlite:////var/lib/fedmsg/store.db"

_engines: WeakSet[sa.Engine] = WeakSet()
_inherited: list[object] = []


def open_engine(url: str, setting: str, **options: Any) -> sa.Engine:
    """Make an engine for a database, with options of SQLAlchemy; nothing is connected yet.

    Raises:
        ConfigError: It is no such URL, or its driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
        # Of the drivers for PostgreSQL the one that the extra brings.
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.port is not None and not 0 < parsed.port < 65536:
            raise ValueError(f"{parsed.port} is not a port")
        engine = sa.create_engine(parsed, **options)
    # A port that is not a number is a ValueError; arguments that the driver does not know a TypeError.
    except (exc.ArgumentError, ImportError, ValueError, TypeError) as error:
        raise ConfigError(f"{setting}: {_first_line(error)}; write a URL such as {_EXAMPLE}") from error
    set_up = {"sqlite": _set_up_sqlite, "postgresql": _set_up_postgresql}.get(engine.dialect.name)
    if set_up is not None:
        sa.event.listen(engine, "connect", set_up)
    return engine


def require_file(engine: sa.Engine, hint: str) -> None:
    """Let SQLite make no file where there is none: those who only read would be in the way of those who store.

    Args:
        engine: An engine of any kind of database.
        hint: What makes the file, for the error.
    """
    sa.event.listen(engine, "do_connect", partial(_check_file, hint))


def _check_file(hint: str, dialect: Any, _record: object, arguments: Sequence[Any], _more: object) -> None:
    if dialect.name == "sqlite" and arguments:
        place = str(arguments[0])
        if not place.startswith(("file:", ":memory:")) and not Path(place).exists():
            raise dialect.loaded_dbapi.OperationalError(f"there is no such file; {hint}")


def well_known(engine: sa.Engine, setting: str, what: str) -> sa.Engine:
    """Return an engine that is of a kind of database that we are tested with.

    Args:
        engine: The engine.
        setting: The setting that its URL is from.
        what: What is to be kept there.

    Raises:
        ConfigError: It is of another kind.
    """
    if engine.dialect.name not in {"sqlite", "postgresql"}:
        raise ConfigError(f"{setting}: {what} can't be kept in {engine.dialect.name}; use sqlite or postgresql")
    return engine


@contextmanager
def changing_tables(engine: sa.Engine, lock: int) -> Iterator[sa.Connection]:
    """Begin a transaction in which tables are made: of several programs one after the other does that.

    Args:
        engine: The database.
        lock: Who is kept out on PostgreSQL; on SQLite it is every writer.

    Raises:
        StoreError: The database can't be used.
    """
    with errors_mapped(engine, "can't be prepared"), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        elif engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Set up SQLite so that readers and a writer work at the same time, and a commit is durable."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(_BUSY_TIMEOUT_SECONDS * 1000)}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _set_up_postgresql(connection: Any, _record: object) -> None:
    """Limit how long a writer that is frozen, or whose machine has gone, keeps the others waiting."""
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{int(2 * _BUSY_TIMEOUT_SECONDS)}s'")
    cursor.close()
    connection.commit()


# ---------------------------------------------------------------- errors and retries


@contextmanager
def errors_mapped(engine: sa.Engine, what: str) -> Iterator[None]:
    """Turn the errors of a database into StoreError."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"the store {where} {what}: {_first_line(getattr(error, 'orig', None) or error)}") from error


def _first_line(error: BaseException) -> str:
    """Return what a driver reports, without the statement and its values."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def driver(connection: sa.Connection) -> Iterator[Any]:
    """Yield the connection of the driver, which is quicker with many rows; its errors become those of SQLAlchemy."""
    raw, dialect = connection.connection.dbapi_connection, connection.dialect
    errors = dialect.loaded_dbapi.Error
    try:
        yield raw
    except errors as error:
        is_lost = dialect.is_disconnect(error, raw, None)
        if is_lost:
            connection.invalidate(error)
        raise exc.DBAPIError.instance(
            None, None, error, errors, connection_invalidated=is_lost, dialect=dialect
        ) from error


# SQLSTATE classes: the data, a constraint, a limit of the program.
_OF_THE_DATA = ("22", "23", "54")


def is_away(error: StoreError) -> bool:
    """Return whether a database can't be used at present, whatever is to be written to it."""
    cause = error.__cause__
    if isinstance(cause, _ConnectionLost | exc.TimeoutError):
        return True
    if not isinstance(cause, exc.DBAPIError) or isinstance(cause, exc.DataError | exc.IntegrityError):
        return False
    state = getattr(cause.orig, "sqlstate", None)
    if isinstance(state, str):
        return not state.startswith(_OF_THE_DATA)
    return isinstance(cause, exc.OperationalError) or cause.connection_invalidated


class _ConnectionLost(exc.SQLAlchemyError):
    """A connection of the pool was lost, as after a restart of the database; it has changed nothing."""


@contextmanager
def before_commit() -> Iterator[threading.Event]:
    """Distinguish a connection that was lost before a commit from one of which the outcome is not known.

    Yields:
        What to set before the commit.
    """
    committing = threading.Event()
    try:
        yield committing
    except exc.DBAPIError as error:
        if error.connection_invalidated and not committing.is_set():
            raise _ConnectionLost(str(error.orig)) from error
        raise


def retried(work: Callable[[], _T]) -> _T:
    """Run a transaction; retry it when another writer was in the way or the connection was an old one."""
    deadline, tries = time.monotonic() + _BUSY_TIMEOUT_SECONDS, _TRIES
    while True:
        try:
            return work()
        except (_ConnectionLost, exc.IntegrityError):
            # The second: a writer that does not use our counter has taken the same number.
            tries -= 1
            if not tries:
                raise
        except exc.OperationalError as error:
            if not _is_blocked(error) or time.monotonic() > deadline:
                raise
        # The driver has waited already; others get their turn.
        time.sleep(0.001)


def _is_blocked(error: exc.OperationalError) -> bool:
    # Serialization failure and deadlock of PostgreSQL; SQLite's driver names nothing before Python 3.11.
    return getattr(error.orig, "sqlstate", None) in {"40001", "40P01"} or "database is locked" in str(error.orig)


# ---------------------------------------------------------------- fork


def forget_in_child(engine: sa.Engine) -> None:
    """Leave the connections of an engine to this process when it forks: a child opens its own."""
    _engines.add(engine)


def _in_child() -> None:
    for engine in _engines:
        # Never freed here, because freeing one closes it.
        _inherited.append(engine.pool)
        engine.dispose(close=False)


contexts.after_fork(_in_child)
