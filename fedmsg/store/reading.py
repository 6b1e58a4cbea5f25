# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a database for many at once, through connections that can't write, with queries that end in time."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from fedmsg.exceptions import FedmsgError, StoreError
from fedmsg.store import database

__all__ = ["QueryTooSlow", "limit_cache", "limited", "open_engine"]

# After so many steps of its machine SQLite asks whether to go on: about a millisecond.
_SQLITE_STEPS = 10_000
_QUERY_CANCELED = "57014"
# A column, a table.
_UNDEFINED = frozenset({"42703", "42P01"})
# As long as so much of the time is left, a statement gets all of it.
_MOSTLY = 0.9
_POOL = 20
_POOL_MORE = 40
# Of each where several processes share them.
_POOL_LEAST = 5
# What a connection that only reads knows: its time limit in milliseconds.
_TIMEOUT = "reading_timeout"
# Of each connection to SQLite.
_CACHE_KIB = 8 * 1024


class QueryTooSlow(FedmsgError, TimeoutError):
    """A query took longer than it may."""


def open_engine(url: str, setting: str, processes: int, *, missing: str) -> sa.Engine:
    """Make an engine to read a database with; nothing is connected yet.

    Args:
        url: Its URL.
        setting: The setting that the URL is from.
        processes: How many processes share the database.
        missing: What to do where there is no file of SQLite, for the error.

    Raises:
        ConfigError: The URL can't be used.
    """
    # Each statement sees what was committed before it, in a transaction or not.
    engine = database.open_engine(url, setting, isolation_level="AUTOCOMMIT", **_pool_of(url, processes))
    database.require_file(engine, missing)
    sa.event.listen(engine, "connect", _read_only)
    sa.event.listen(engine, "checkout", _check_open)
    database.forget_in_child(engine)
    return engine


def limit_cache(engine: sa.Engine) -> None:
    """Have connections to SQLite keep less in memory than the one that writes, whose size the models set."""
    sa.event.listen(engine, "checkout", _limit_cache)


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


def _limit_cache(connection: Any, _record: object, _proxy: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}").close()


def _check_open(connection: Any, _record: object, _proxy: object) -> None:
    """Let a new connection be made where the server has closed this one; to ask it would take as long as a query."""
    if hasattr(connection, "fileno"):
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        # Unasked, a server sends nothing but the end of the connection.
        if connection.closed or poll.poll(0):
            raise exc.InvalidatePoolError


@contextmanager
def limited(session: orm.Session, timeout: float, *, missing: str) -> Iterator[None]:
    """Limit how long all statements of a session may take together.

    Args:
        session: The session.
        timeout: How many seconds they have.
        missing: What to do where tables or columns are missing, for the error.

    Raises:
        QueryTooSlow: They took longer.
        StoreError: The database could not be read.
    """
    engine = session.get_bind().engine
    with (
        database.errors_mapped(engine, "can't be read"),
        _missing_tables_named(engine, missing),
        _slowness_named(timeout),
        _limited(session, timeout),
    ):
        yield


@contextmanager
def _missing_tables_named(engine: sa.Engine, missing: str) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        text = str(error.orig)
        if getattr(error.orig, "sqlstate", None) in _UNDEFINED or text.startswith(("no such table", "no such column")):
            where = engine.url.render_as_string(hide_password=True)
            raise StoreError(
                f"the database {where} has not all tables that are needed ({text.splitlines()[0]}); {missing}"
            ) from error
        raise


@contextmanager
def _slowness_named(timeout: float) -> Iterator[None]:
    try:
        yield
    except exc.TimeoutError as error:
        raise QueryTooSlow("all connections to the database are in use") from error
    except exc.DBAPIError as error:
        if _is_too_slow(error):
            raise _too_slow(timeout) from error
        raise


@contextmanager
def _limited(session: orm.Session, timeout: float) -> Iterator[None]:
    connection = session.connection()
    deadline = time.monotonic() + timeout
    if connection.dialect.name == "postgresql":
        _limit_statements(connection, int(timeout * 1000))
        limit = partial(_limit_rest, deadline, timeout)
        sa.event.listen(connection, "before_cursor_execute", limit)
        try:
            yield
        finally:
            sa.event.remove(connection, "before_cursor_execute", limit)
        return
    raw: Any = connection.connection.dbapi_connection
    raw.set_progress_handler(lambda: time.monotonic() > deadline, _SQLITE_STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


def _limit_statements(connection: sa.Connection, milliseconds: int, cursor: Any = None) -> None:
    execute = connection.exec_driver_sql if cursor is None else cursor.execute
    if _TIMEOUT not in connection.info:
        # The engine of a program, which does more with it.
        execute(f"SET LOCAL statement_timeout = {milliseconds}")
    elif connection.info[_TIMEOUT] != milliseconds:
        execute(f"SET statement_timeout = {milliseconds}")
        connection.info[_TIMEOUT] = milliseconds


def _limit_rest(deadline: float, timeout: float, connection: sa.Connection, cursor: Any, *_: object) -> None:
    """Leave a statement what those before it have left of the time: a chart is made of hundreds."""
    rest = deadline - time.monotonic()
    if rest <= 0:
        raise _too_slow(timeout)
    # Most are quick, and need no statement of their own for it.
    if rest < timeout * _MOSTLY:
        _limit_statements(connection, max(1, int(rest * 1000)), cursor)


def _too_slow(timeout: float) -> QueryTooSlow:
    return QueryTooSlow(f"the query took longer than {timeout:g} s")


def _is_too_slow(error: exc.DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == _QUERY_CANCELED or str(error.orig) == "interrupted"
