# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the history for requests: pages, single messages, all of a query; no query runs longer than it may."""

from __future__ import annotations

import dataclasses
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from fedmsg.datagrepper.arguments import BadArgument
from fedmsg.datagrepper.asked import Asked, Cursor
from fedmsg.datanommer import models
from fedmsg.exceptions import FedmsgError, StoreError, UsageError
from fedmsg.filters import MessageFilter, TopicFilter
from fedmsg.store import database

__all__ = ["History", "Page", "QueryTooSlow", "count", "filters_of", "newest"]

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
_TIMEOUT = "datagrepper_timeout"
# Of each connection to SQLite.
_CACHE_KIB = 8 * 1024
# How many messages of a whole query are in memory at once.
_CHUNK = 200
# A glob that stands for more topics is rejected: databases take so many values.
_MOST_TOPICS = 10_000


class QueryTooSlow(FedmsgError, TimeoutError):
    """A query took longer than ``datagrepper.query_timeout``."""


@dataclasses.dataclass
class Page:
    """A page of messages.

    Attributes:
        messages: The rows.
        total: How many messages there are on all pages, or None where they were not counted.
        pages: How many pages, or None.
        cursor: Where the next page begins, or None on the last one.
    """

    messages: Sequence[models.Line]
    total: int | None
    pages: int | None
    cursor: Cursor | None


class History:
    """The database of the history, opened to read; where `datanommer.models` is open already, that one.

    Args:
        url: Its URL; a file in the state directory where it is None.
        setting: The name of the setting that has it, for errors.
        timeout: How long a query may take, in seconds.
        processes: How many processes share the database.

    Raises:
        ConfigError: The URL can't be used.
    """

    def __init__(self, url: str | None, setting: str, timeout: float, processes: int = 1) -> None:
        self.timeout = timeout
        # The name that programs and their tests look at, too.
        if not getattr(models.session, "_datanommer_initialized", False):
            place = url or models.default_url()
            # Each statement sees what was committed before it, in a transaction or not.
            engine = database.open_engine(place, setting, isolation_level="AUTOCOMMIT", **_pool_of(place, processes))
            sa.event.listen(engine, "do_connect", _only_existing)
            sa.event.listen(engine, "connect", _read_only)
            sa.event.listen(engine, "checkout", _check_open)
            database.forget_in_child(engine)
            models.init(engine=engine)
            # After that of the models, whose size is for one connection that writes.
            sa.event.listen(engine, "checkout", _limit_cache)

    @contextmanager
    def reading(self) -> Iterator[orm.Session]:
        """Yield a session whose statements end with an error when they take too long.

        Raises:
            QueryTooSlow: One did.
            StoreError: The database could not be read.
        """
        session = models.session()
        engine = session.get_bind().engine
        try:
            with (
                database.errors_mapped(engine, "can't be read"),
                _missing_tables_named(engine),
                _slowness_named(self.timeout),
                _limited(session, self.timeout),
            ):
                yield session
        finally:
            models.session.remove()

    # ------------------------------------------------------------ messages

    def search(self, asked: Asked) -> Page:
        """Return a page of messages."""
        rows, number = asked.given["rows_per_page"], asked.given["page"]
        with self.reading() as session:
            filters = filters_of(session, asked)
            if filters is None:
                return Page([], 0, 0, None)
            total = _estimate_of(session, asked, filters)
            skipped = (number - 1) * rows
            if total is not None and skipped >= total and asked.cursor is None:
                return Page([], total, -(-total // rows), None)
            is_counted = total is None and asked.given["count"] != "none"
            found = _find(asked, filters, limit=rows, offset=skipped, count=is_counted)
        place = found.cursor
        total = found.total if is_counted else total
        cursor = None if place is None else Cursor(asked.order, place, asked.start, asked.end)
        return Page(found.messages, total, None if total is None else -(-total // rows), cursor)

    def walk(self, asked: Asked) -> Iterator[Sequence[models.Line]]:
        """Yield all messages of a query, a chunk in memory at once."""
        place = None
        while True:
            with self.reading() as session:
                filters = filters_of(session, asked)
                if filters is None:
                    return
                found = _find(asked, filters, place=place, limit=_CHUNK)
            yield found.messages
            place = found.cursor
            if place is None:
                return

    def one(self, msg_id: str) -> models.Line | None:
        """Return the message with an id, the newest where there are several."""
        with self.reading():
            return next(iter(models.Message.find(msg_id=msg_id, limit=1, lines=True).messages), None)

    def count(self) -> int:
        """Return how many messages there are."""
        with self.reading():
            return count({})

    def newest_position(self) -> int:
        """Return the position of the newest message: what a stream begins after that has to miss nothing."""
        with self.reading() as session:
            return newest(session)

    def check(self) -> None:
        """Raise what keeps the database from being read."""
        with self.reading() as session:
            session.execute(sa.select(models.Message.id).limit(1))


def filters_of(session: orm.Session, asked: Asked) -> dict[str, Any] | None:
    """Return the filters as `datanommer.models` takes them; None where nothing can match.

    Raises:
        BadArgument: A filter can't be used.
    """
    filters: dict[str, Any] = asked.filters()
    if asked.start is not None:
        if asked.start > (asked.end or 0.0):
            return None
        filters |= {"start": asked.start, "end": asked.end}
    for name in ("topics", "not_topics"):
        if any("*" in topic for topic in filters[name]):
            found = _topics(session, name.removesuffix("s"), filters[name])
            if not found and name == "topics":
                return None
            filters[name] = found
    if asked.given.get("q"):
        filters["search"] = [asked.given["q"]]
    conditions = {name: filters.pop(name) for name in ("where", "not_where")}
    if any(conditions.values()):
        filters["matching"] = MessageFilter(**conditions)
        try:
            models.Message.make_query(matching=filters["matching"])
        except UsageError as error:
            raise BadArgument("where", str(error)) from error
    return filters


def newest(session: orm.Session) -> int:
    """Return the position of the newest message, within `History.reading`."""
    counter = models.DeclarativeBase.metadata.tables["message_positions"]
    return int(session.scalar(sa.select(counter.c.newest)) or 0)


def _topics(session: orm.Session, argument: str, patterns: list[str]) -> list[str]:
    """Return the topics that some globs stand for."""
    wanted = TopicFilter(patterns, strict=True)
    every = session.scalars(sa.select(models.DeclarativeBase.metadata.tables["topics"].c.topic))
    found = [topic for topic in every if wanted.matches(topic)]
    if len(found) > _MOST_TOPICS:
        raise BadArgument(argument, f"it stands for more than {_MOST_TOPICS} topics")
    return found


def count(filters: dict[str, Any]) -> int:
    """Return how many messages some filters match, within `History.reading`."""
    return models.Message.count(**filters)


def _find(asked: Asked, filters: dict[str, Any], *, place: str | None = None, **more: Any) -> Any:
    """Return messages from a place on, else from that of the request."""
    cursor = place or (asked.cursor and asked.cursor.place)
    try:
        return models.Message.find(cursor=cursor, order=asked.order, lines=True, **more, **filters)
    except UsageError as error:
        raise BadArgument("cursor", str(error)) from error


def _estimate_of(session: orm.Session, asked: Asked, filters: dict[str, Any]) -> int | None:
    """Return the total where an estimate is asked for, and the database makes one."""
    if asked.given["count"] != "estimated" or session.get_bind().dialect.name != "postgresql":
        return None
    return _estimate(session, models.Message.make_query(**filters))


def _estimate(session: orm.Session, query: Any) -> int:
    """Return how many rows the planner of PostgreSQL expects."""
    compiled = query.compile(session.connection(), compile_kwargs={"render_postcompile": True})
    plan: Any = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", compiled.params).scalar()
    return int(plan[0]["Plan"]["Plan Rows"])


# ---------------------------------------------------------------- connections


def _pool_of(url: str, processes: int) -> dict[str, Any]:
    """Return how many connections there may be: fewer than threads, which wait for each other."""
    if url.startswith("sqlite") and ":memory:" in url:
        return {}
    size, more = (max(_POOL_LEAST, most // processes) for most in (_POOL, _POOL_MORE))
    return {"pool_size": size, "max_overflow": more, "pool_timeout": 5.0}


def _only_existing(dialect: Any, _record: object, arguments: Sequence[Any], _more: object) -> None:
    """Let SQLite make no file: it would be empty, and those who store could not write it."""
    if dialect.name == "sqlite" and arguments and not _is_there(str(arguments[0])):
        raise dialect.loaded_dbapi.OperationalError("there is no such file; a hub that stores messages makes it")


def _is_there(place: str) -> bool:
    return place.startswith(("file:", ":memory:")) or Path(place).exists()


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
def _missing_tables_named(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        text = str(error.orig)
        if getattr(error.orig, "sqlstate", None) in _UNDEFINED or text.startswith(("no such table", "no such column")):
            where = engine.url.render_as_string(hide_password=True)
            raise StoreError(
                f"the database {where} has not all tables of the history ({text.splitlines()[0]}); "
                "datanommer-create-db makes them, datanommer-load --from reads those of another release"
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
