# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a database for many at once, through connections that can't write, with queries that end in time."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from fedmsg.exceptions import FedmsgError
from fedmsg.store import database

__all__ = ["QueryTooSlow", "limited", "open_engine"]

# After so many steps of its machine SQLite asks whether to go on: about a millisecond.
_SQLITE_STEPS = 10_000
_QUERY_CANCELED = "57014"
_POOL = 20
_POOL_MORE = 40
# Of each where several processes share them.
_POOL_LEAST = 5
# What a connection that only reads knows: its time limit in milliseconds.
_TIMEOUT = "reading_timeout"


class QueryTooSlow(FedmsgError, TimeoutError):
    """A query took longer than it may."""


def open_engine(url: str, setting: str, processes: int = 1) -> sa.Engine:
    """Make an engine to read a database with; nothing is connected yet.

    Args:
        url: Its URL.
        setting: The setting that the URL is from.
        processes: How many processes share the database.

    Raises:
        ConfigError: The URL can't be used.
    """
    # Each statement sees what was committed before it, in a transaction or not.
    engine = database.open_engine(url, setting, isolation_level="AUTOCOMMIT", **_pool_of(url, processes))
    sa.event.listen(engine, "connect", _read_only)
    sa.event.listen(engine, "checkout", _check_open)
    database.forget_in_child(engine)
    return engine


@contextmanager
def limited(session: orm.Session, timeout: float) -> Iterator[None]:
    """Let the statements of a session end with an error when they take too long.

    Args:
        session: The session.
        timeout: How long a statement may take, in seconds.

    Raises:
        QueryTooSlow: One took longer.
        StoreError: The database could not be read.
    """
    engine = session.get_bind().engine
    with (
        database.errors_mapped(engine, "can't be read"),
        _slowness_named(timeout),
        _limited(session, timeout),
    ):
        yield


def _pool_of(url: str, processes: int) -> dict[str, Any]:
    """Return how many connections there may be: fewer than threads, which wait for each other."""
    if url.startswith("sqlite") and ":memory:" in url:
        return {}
    size, more = (max(_POOL_LEAST, most // processes) for most in (_POOL, _POOL_MORE))
    return {"pool_size": size, "max_overflow": more, "pool_timeout": 5.0}


def _read_only(connection: Any, record: Any) -> None:
    """Let nothing be written through a connection, whatever a query says."""
    cursor = connection.cursor()
    is_sqlite = type(connection).__module__.startswith("sqlite3")
    cursor.execute("PRAGMA query_only=ON" if is_sqlite else "SET default_transaction_read_only = on")
    cursor.close()
    connection.commit()
    record.info[_TIMEOUT] = None


def _check_open(connection: Any, _record: object, _proxy: object) -> None:
    """Let a new connection be made where the server has closed this one; to ask it would take as long as a query."""
    if hasattr(connection, "fileno"):
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        # Unasked, a server sends nothing but the end of the connection.
        if connection.closed or poll.poll(0):
            raise exc.InvalidatePoolError


@contextmanager
def _slowness_named(timeout: float) -> Iterator[None]:
    try:
        yield
    except exc.TimeoutError as error:
        raise QueryTooSlow("all connections to the database are in use") from error
    except exc.DBAPIError as error:
        if _is_too_slow(error):
            raise QueryTooSlow(f"the query took longer than {timeout:g} s") from error
        raise


@contextmanager
def _limited(session: orm.Session, timeout: float) -> Iterator[None]:
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        _limit_statements(connection, int(timeout * 1000))
        yield
        return
    raw: Any = connection.connection.dbapi_connection
    deadline = time.monotonic() + timeout
    raw.set_progress_handler(lambda: time.monotonic() > deadline, _SQLITE_STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


def _limit_statements(connection: sa.Connection, milliseconds: int) -> None:
    if _TIMEOUT not in connection.info:
        # The engine of a program, which does more with it.
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
    elif connection.info[_TIMEOUT] != milliseconds:
        connection.exec_driver_sql(f"SET statement_timeout = {milliseconds}")
        connection.info[_TIMEOUT] = milliseconds


def _is_too_slow(error: exc.DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == _QUERY_CANCELED or str(error.orig) == "interrupted"
