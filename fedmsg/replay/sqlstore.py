# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages kept in a database by SQLAlchemy: SQLite or PostgreSQL.

Numbers come from a row that counts, and that is changed in the same transaction that
stores the message: a writer that dies half-way has taken no number, and writers wait for
each other, whatever process or thread they are in.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc, orm

from fedmsg import encoding
from fedmsg.exceptions import ConfigError, QueryError, StoreError
from fedmsg.replay import protocol
from fedmsg.transport.zmq import contexts

__all__ = ["SqlMessage", "SqlStore", "connect"]

#: Finishes an envelope that has its number, for example by signing it; gives it, or a changed copy.
Finish = Callable[[dict[str, Any]], "dict[str, Any] | None"]

_T = TypeVar("_T")

# Of single numbers or ids; databases limit how many values a statement may have.
_MOST_LISTED = 10_000
# What a signed 64-bit column can hold.
_BIGGEST = 2**63 - 1
# How long to wait for another writer of an SQLite file, in seconds.
_PATIENCE = 30.0
# Messages are read from the database in batches of so many.
_BATCH = 1000

_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class _Base(orm.DeclarativeBase):
    """The tables of this module."""


class SqlMessage(_Base):
    """A stored message: the table that fedmsg 1.x has.

    Attributes:
        seq_id: Its number.
        uuid: Its ``msg_id``.
        topic: Its topic.
        timestamp: When it was published, in local time.
        msg: The envelope as JSON, with ``seq_id``; the bytes that were sent.
    """

    __tablename__ = "fedmsg_messages"
    __table_args__ = (
        sa.Index("ix_fedmsg_messages_uuid", "uuid"),
        sa.Index("ix_fedmsg_messages_timestamp", "timestamp"),
    )

    seq_id = orm.mapped_column(_Number, primary_key=True, autoincrement=False)
    uuid = orm.mapped_column(sa.String())
    topic = orm.mapped_column(sa.String())
    timestamp = orm.mapped_column(sa.DateTime())
    msg = orm.mapped_column(sa.Text())


class _Counter(_Base):
    """The last number that was given out, in the only row."""

    __tablename__ = "fedmsg_counter"

    id = orm.mapped_column(sa.Integer(), primary_key=True, autoincrement=False)
    last = orm.mapped_column(_Number, nullable=False)


_messages: sa.Table = SqlMessage.__table__  # type: ignore[assignment] # the type is FromClause, the thing a Table
_counter: sa.Table = _Counter.__table__  # type: ignore[assignment]

# Made once: to put them together takes as long as to have them done.
_TAKE = sa.update(_counter).values(last=_counter.c.last + sa.bindparam("count", type_=_Number))
_TAKE_AND_TELL = _TAKE.returning(_counter.c.last)
_LAST = sa.select(_counter.c.last)
_INSERT = sa.insert(_messages)

_stores: weakref.WeakSet[SqlStore] = weakref.WeakSet()
_inherited: list[object] = []


class SqlStore:
    """Keeps messages in a database, and finds them again.

    It makes the tables it needs; those of fedmsg 1.x are taken over. Several processes and
    threads may write to the same database.

    Args:
        engine: A SQLAlchemy engine for SQLite or PostgreSQL.

    Attributes:
        engine: The engine.
        session_class: Makes sessions on it.

    Raises:
        StoreError: The database can't be used. An IOError.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.session_class = orm.sessionmaker(engine)
        self._returning = bool(engine.dialect.update_returning) and engine.dialect.name != "sqlite"
        with _mapped(self, "can't be prepared"):
            # Who may only read the database can use one that is ready.
            if not _retried(self._is_ready):
                _retried(self._prepare)
        _stores.add(self)

    def _is_ready(self) -> bool:
        with self.engine.connect() as connection:
            inspector = sa.inspect(connection)
            if not all(inspector.has_table(table.name) for table in (_counter, _messages)):
                return False
            last = connection.execute(_LAST).scalar()
            highest = connection.execute(sa.select(sa.func.max(_messages.c.seq_id))).scalar()
            return last is not None and last >= (highest or 0)

    def _prepare(self) -> None:
        postgresql = self.engine.dialect.name == "postgresql"
        with self.engine.begin() as connection:
            if postgresql:
                # Two that make the same table at the same time get in each other's way.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x6665646D7367)))
            for table in (_counter, _messages):
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
            if postgresql:
                self._widen(connection)
            for index in sorted(_messages.indexes, key=lambda index: str(index.name)):
                connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
            highest = sa.select(sa.func.coalesce(sa.func.max(_messages.c.seq_id), 0)).scalar_subquery()
            behind = sa.update(_counter).where(_counter.c.last < highest).values(last=highest)
            connection.execute(behind)
            there = sa.exists().where(_counter.c.id == 1)
            first = sa.select(sa.literal(1), highest).where(~there)
            connection.execute(sa.insert(_counter).from_select(["id", "last"], first))

    def _widen(self, connection: sa.Connection) -> None:
        """Make room for ids and numbers in a table of fedmsg 1.x: an id has 41 characters, its column 36."""
        for column in sa.inspect(connection).get_columns(_messages.name):
            if column["name"] == "uuid" and getattr(column["type"], "length", None):
                connection.execute(sa.text("ALTER TABLE fedmsg_messages ALTER COLUMN uuid TYPE VARCHAR"))
            if column["name"] == "seq_id" and not isinstance(column["type"], sa.BigInteger):
                connection.execute(sa.text("ALTER TABLE fedmsg_messages ALTER COLUMN seq_id TYPE BIGINT"))

    # ---------------------------------------------------------------- writing

    def add(self, msg: Mapping[str, Any], finish: Finish | None = None) -> dict[str, Any]:
        """Number a message and store it.

        Args:
            msg: The envelope; it stays as it is.
            finish: Called with a copy that has its ``seq_id``, to sign it for example. What
                it returns, or what it makes of its argument, is stored; what it raises
                leaves everything as it was.

        Returns:
            The stored message. When this returns it is on disk.

        Raises:
            StoreError: It could not be stored. An IOError.
        """
        return self.add_many([msg], finish)[0]

    def add_many(self, messages: Iterable[Mapping[str, Any]], finish: Finish | None = None) -> list[dict[str, Any]]:
        """Number and store several messages in one transaction: all of them or none.

        Args:
            messages: The envelopes; they stay as they are.
            finish: Called for each of them, see `add`.

        Returns:
            The stored messages, numbered in the order they were given in.

        Raises:
            StoreError: They could not be stored. An IOError.
        """
        given = list(messages)
        with _mapped(self, "can't be written"):
            return _retried(lambda: self._add(given, finish))

    def _add(self, messages: list[Mapping[str, Any]], finish: Finish | None) -> list[dict[str, Any]]:
        stored = []
        with _before_commit() as committing, self.engine.begin() as connection:
            # Comes first: it is what makes other writers wait, and on SQLite what makes this one wait for them.
            last = self._take(connection, len(messages))
            for number, message in enumerate(messages, start=last - len(messages) + 1):
                numbered = {**message, "seq_id": number}
                stored.append((finish(numbered) or numbered) if finish is not None else numbered)
            if stored:
                rows = [_row(message) for message in stored]
                connection.execute(_INSERT, rows if len(rows) > 1 else rows[0])
            committing.set()
        return stored

    def _take(self, connection: sa.Connection, count: int) -> int:
        if self._returning:
            return int(connection.execute(_TAKE_AND_TELL, {"count": count}).scalar_one())
        connection.execute(_TAKE, {"count": count})
        return int(connection.execute(_LAST).scalar_one())

    # ---------------------------------------------------------------- reading

    def get(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Give the messages that a question asks for, in the order of their numbers.

        Args:
            query: Any of ``seq_id``, ``seq_ids``, ``seq_id_range``, ``msg_id``, ``msg_ids``,
                ``time``; several are alternatives. Empty, everything is asked for.

        Raises:
            QueryError: It is ill-formed, or there is nothing. A ValueError.
            StoreError: The database could not be read. An IOError.
        """
        return list(self.iter(query))

    def iter(self, query: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Give the same messages as `get` one after the other, however many there are."""
        for text in self.texts(query):
            yield encoding.loads(text)

    def texts(self, query: Mapping[str, Any]) -> Generator[str, None, None]:
        """Give the same messages as `iter` as the JSON texts that they are stored as."""
        found = False
        asked = sa.select(_messages.c.msg).order_by(_messages.c.seq_id)
        if query:
            asked = asked.where(sa.or_(*(_condition(key, value) for key, value in query.items())))
        with _mapped(self, "can't be read"), ExitStack() as stack:
            connection = _retried(lambda: self._connected(stack))
            for row in stack.enter_context(connection.execution_options(yield_per=_BATCH).execute(asked)):
                found = True
                yield row[0]
        if not found:
            raise QueryError(protocol.NO_MATCH)

    def _connected(self, stack: ExitStack) -> sa.Connection:
        """Give a connection on which something has just been read."""
        with _before_commit():
            connection = stack.enter_context(self.engine.connect())
            connection.execute(_LAST).close()
            return connection

    def last_number(self) -> int:
        """Give the number of the last message that was stored; 0 when there is none yet."""
        with _mapped(self, "can't be read"), self.engine.connect() as connection:
            return int(connection.execute(_LAST).scalar_one())

    def close(self) -> None:
        """Close the connections that are not in use; later use opens new ones."""
        self.engine.dispose()


def _row(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "seq_id": message["seq_id"],
        "uuid": message.get("msg_id"),
        "topic": message.get("topic"),
        "timestamp": _local_time(message.get("timestamp")),
        "msg": encoding.dumps(message),
    }


def _local_time(seconds: Any) -> dt.datetime | None:
    """Give a time as the table has it, since fedmsg 1.x: in local time, and without saying so."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return dt.datetime.fromtimestamp(seconds)  # noqa: DTZ006 see above
    except (ValueError, OverflowError, OSError):
        return None


# ---------------------------------------------------------------- questions


def _condition(key: str, value: Any) -> sa.ColumnElement[bool]:
    """Turn one part of a question into what the database is asked.

    Raises:
        QueryError: There is no such part, or its value is ill-formed.
    """
    try:
        make = _CONDITIONS[key]
    except KeyError:
        raise QueryError('Unsupported field: "key"') from None
    try:
        return make(value)
    except (TypeError, ValueError) as error:
        if isinstance(error, QueryError):
            raise
        # So spelt by fedmsg 1.x, and compared by programs.
        shown = "sed_id_range" if key == "seq_id_range" else key
        raise QueryError(f'Ill-format "{shown}" field') from error


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not an integer")
    # No column holds more, and no message has such a number.
    return max(-_BIGGEST, min(value, _BIGGEST))


def _text(value: Any) -> str:
    if type(value) is not str or "\x00" in value:
        raise TypeError("not text")
    value.encode()
    return value


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError("not a list")
    if len(value) > _MOST_LISTED:
        raise QueryError(f"A list may have {_MOST_LISTED} items: {protocol.ASK_FOR_LESS}")
    return list(value)


def _pair(value: Any) -> tuple[Any, Any]:
    first, last = _listed(value)
    return first, last


def _numbers_between(value: Any) -> sa.ColumnElement[bool]:
    first, last = map(_integer, _pair(value))
    return _messages.c.seq_id.between(first, last)


def _times_between(value: Any) -> sa.ColumnElement[bool]:
    since, until = map(_local_time, _pair(value))
    if since is None or until is None:
        raise TypeError("not a time")
    return _messages.c.timestamp.between(since, until)


_CONDITIONS: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "seq_id": lambda value: _messages.c.seq_id == _integer(value),
    "seq_ids": lambda value: _messages.c.seq_id.in_([_integer(number) for number in _listed(value)]),
    "seq_id_range": _numbers_between,
    "msg_id": lambda value: _messages.c.uuid == _text(value),
    "msg_ids": lambda value: _messages.c.uuid.in_([_text(one) for one in _listed(value)]),
    "time": _times_between,
}


# ---------------------------------------------------------------- the database


@contextmanager
def _mapped(store: SqlStore, what: str) -> Iterator[None]:
    """Turn the errors of the database into one of ours."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        # The last line of what the driver says, without the statement and its values.
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()
        where = store.engine.url.render_as_string(hide_password=True)
        raise StoreError(f"the store {where} {what}: {reason[0] if reason else type(error).__name__}") from error


class _ConnectionLost(exc.SQLAlchemyError):
    """A connection out of the pool had gone, as after a restart of the database; nothing was done by it."""


@contextmanager
def _before_commit() -> Iterator[threading.Event]:
    """Tell a connection that was lost before anything was committed from one of which nobody knows.

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


def _retried(work: Callable[[], _T]) -> _T:
    """Do a transaction, again where another writer was in the way or the connection was an old one."""
    deadline, tries = time.monotonic() + _PATIENCE, 3
    while True:
        try:
            return work()
        except _ConnectionLost:
            tries -= 1
            if not tries:
                raise
        except exc.OperationalError as error:
            if not _in_the_way(error) or time.monotonic() > deadline:
                raise
        # The driver has waited already; others get their turn.
        time.sleep(0.001)


def _in_the_way(error: exc.OperationalError) -> bool:
    # Serialization failure and deadlock of PostgreSQL; SQLite's driver names nothing before Python 3.11.
    return getattr(error.orig, "sqlstate", None) in {"40001", "40P01"} or "database is locked" in str(error.orig)


def connect(url: str) -> SqlStore:
    """Open the store at a SQLAlchemy URL.

    Args:
        url: Such as ``sqlite:////var/lib/fedmsg/store.db`` or ``postgresql+psycopg://user@host/name``.

    Raises:
        ConfigError: It is no such URL, or its driver is not installed.
        StoreError: The database can't be used.
    """
    try:
        parsed = sa.make_url(url)
        # Of the drivers for PostgreSQL the one that the extra brings.
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed)
    except (exc.ArgumentError, ImportError) as error:
        raise ConfigError(
            f"persistent_store: {error}; write a URL such as sqlite:////var/lib/fedmsg/store.db"
        ) from error
    set_up = {"sqlite": _set_up_sqlite, "postgresql": _set_up_postgresql}.get(engine.dialect.name)
    if set_up is not None:
        sa.event.listen(engine, "connect", set_up)
    return SqlStore(engine)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Let readers and a writer work at the same time, and a commit last."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(_PATIENCE * 1000)}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _set_up_postgresql(connection: Any, _record: object) -> None:
    """Let a writer that is frozen, or whose machine has gone, not keep the others waiting for ever."""
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{int(2 * _PATIENCE)}s'")
    cursor.close()
    connection.commit()


def _in_child() -> None:
    """Leave a parent's connections to the parent: a child opens its own."""
    for store in _stores:
        # Never freed here, since to free one is to close it.
        _inherited.append(store.engine.pool)
        store.engine.dispose(close=False)


contexts.after_fork(_in_child)
