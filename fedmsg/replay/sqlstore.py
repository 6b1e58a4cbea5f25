# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages in a database: SQLite or PostgreSQL.

Numbers come from a row that counts. It is changed in the same transaction that stores the message:
a writer that dies half-way has taken no number, and writers wait for each other, whatever process
or thread they are in. The row follows the table, because others may write there too: fedmsg 1.x,
whose numbers come from the table itself, or an administrator.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, orm

from fedmsg import encoding
from fedmsg.exceptions import QueryError
from fedmsg.replay import protocol
from fedmsg.store import Finish, Position, database

__all__ = ["SqlMessage", "SqlStore", "connect"]

# Of single numbers or ids; databases limit how many values a statement may have.
_LISTED_MAX = 10_000
# What a signed 64-bit column can hold.
_NUMBER_MAX = 2**63 - 1
# Messages are read from the database in batches of so many.
_READ_BATCH = 1000

_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class _Base(orm.DeclarativeBase):
    """The tables of this module."""


class SqlMessage(_Base):
    """A stored message: the table that fedmsg 1.x has.

    Attributes:
        uuid: Its ``msg_id``.
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
    """The last number that was assigned, in the only row."""

    __tablename__ = "fedmsg_counter"

    id = orm.mapped_column(sa.Integer(), primary_key=True, autoincrement=False)
    last = orm.mapped_column(_Number, nullable=False)


_messages: sa.Table = SqlMessage.__table__  # type: ignore[assignment] # the type is FromClause, the thing a Table
_counter: sa.Table = _Counter.__table__  # type: ignore[assignment]

# Made once: to put them together takes as long as to have them done.
_LAST = sa.select(_counter.c.last)
_INSERT = sa.insert(_messages)
#: Held in PostgreSQL while tables are made, until the end of the transaction.
_LOCK_TABLES = sa.select(sa.func.pg_advisory_xact_lock(0x6665646D7367))
_HIGHEST = sa.select(sa.func.coalesce(sa.func.max(_messages.c.seq_id), 0)).scalar_subquery()


class SqlStore:
    """Keeps messages in a database, and finds them again.

    It makes the tables it needs; those of fedmsg 1.x are taken over. Several processes and
    threads may write to the same database.

    Args:
        engine: A SQLAlchemy engine for SQLite or PostgreSQL.

    Attributes:
        session_class: Makes sessions on it.

    Raises:
        StoreError: The database can't be used. An IOError.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.session_class = orm.sessionmaker(engine)
        self._is_postgresql = engine.dialect.name == "postgresql"
        self._is_returning = bool(engine.dialect.update_returning) and engine.dialect.name != "sqlite"
        greatest = sa.func.max if engine.dialect.name == "sqlite" else sa.func.greatest
        # The last number: of the counter, or of the table where others have written since.
        self._newest = greatest(_counter.c.last, _HIGHEST)
        self._take: sa.Update | None = None
        with database.errors_mapped(engine, "can't be prepared"):
            # A user who may only read the database can use one that is ready.
            if not database.retried(self._is_ready):
                database.retried(self._prepare)
        database.forget_in_child(engine)

    def _is_ready(self) -> bool:
        with self.engine.connect() as connection:
            inspector = sa.inspect(connection)
            if not all(inspector.has_table(table.name) for table in (_counter, _messages)):
                return False
            return connection.execute(_LAST).scalar() is not None

    def _prepare(self) -> None:
        with self.engine.begin() as connection:
            if self._is_postgresql:
                # Two that make the same table at the same time block each other.
                connection.execute(_LOCK_TABLES)
            for table in (_counter, _messages):
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
            if self._is_postgresql:
                self._widen(connection)
                self._make_sequence(connection)
            for index in sorted(_messages.indexes, key=lambda index: str(index.name)):
                connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
            behind = sa.update(_counter).where(_counter.c.last < _HIGHEST).values(last=_HIGHEST)
            connection.execute(behind)
            there = sa.exists().where(_counter.c.id == 1)
            first = sa.select(sa.literal(1), _HIGHEST).where(~there)
            connection.execute(sa.insert(_counter).from_select(["id", "last"], first))

    def _widen(self, connection: sa.Connection) -> None:
        """Make room for ids and numbers in a table of fedmsg 1.x: an id has 41 characters, its column 36."""
        for column in sa.inspect(connection).get_columns(_messages.name):
            if column["name"] == "uuid" and getattr(column["type"], "length", None):
                connection.execute(sa.text("ALTER TABLE fedmsg_messages ALTER COLUMN uuid TYPE VARCHAR"))
            if column["name"] == "seq_id" and not isinstance(column["type"], sa.BigInteger):
                connection.execute(sa.text("ALTER TABLE fedmsg_messages ALTER COLUMN seq_id TYPE BIGINT"))

    def _taking(self) -> sa.Update:
        """Make the statement that takes numbers, and see what the table needs for it."""
        take = sa.update(_counter).values(last=self._newest + sa.bindparam("count", type_=_Number))
        if self._is_postgresql and (sequence := self._sequence()):
            return take.returning(_counter.c.last, sa.func.setval(sequence, _counter.c.last))
        return take.returning(_counter.c.last) if self._is_returning else take

    def _sequence(self) -> str | None:
        """Return the sequence that fedmsg 1.x takes its numbers from, in PostgreSQL; made where it is missing.

        The result is None where this user may not move it, and so fedmsg 1.x can't write to the table after us.
        """
        try:
            with self.engine.begin() as connection:
                name = self._find_sequence(connection) or self._make_sequence(connection)
                is_ours = sa.select(sa.func.has_sequence_privilege(name, "UPDATE"))
                return name if connection.execute(is_ours).scalar() else None
        except exc.ProgrammingError:
            # The table belongs to another user.
            return None

    @staticmethod
    def _find_sequence(connection: sa.Connection) -> str | None:
        name: str | None = connection.execute(
            sa.select(sa.func.pg_get_serial_sequence(_messages.name, "seq_id"))
        ).scalar()
        return name

    def _make_sequence(self, connection: sa.Connection) -> str:
        name = f"{_messages.name}_seq_id_seq"
        connection.execute(_LOCK_TABLES)
        if self._find_sequence(connection) is None:
            connection.execute(sa.text(f"CREATE SEQUENCE {name} OWNED BY {_messages.name}.seq_id"))
            default = f"ALTER TABLE {_messages.name} ALTER COLUMN seq_id SET DEFAULT nextval('{name}')"
            connection.execute(sa.text(default))
        return name

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

        Raises:
            StoreError: They could not be stored. An IOError.
        """
        batch = list(messages)
        if not batch:
            return []
        with database.errors_mapped(self.engine, "can't be written"):
            if self._take is None:
                self._take = database.retried(self._taking)
            return database.retried(lambda: self._add(batch, finish))

    append = add_many

    def _add(self, messages: list[Mapping[str, Any]], finish: Finish | None) -> list[dict[str, Any]]:
        stored = []
        with database.before_commit() as committing, self.engine.begin() as connection:
            # Comes first: it is what makes other writers wait, and on SQLite what makes this one wait for them.
            last = self._take_numbers(connection, len(messages))
            for number, message in enumerate(messages, start=last - len(messages) + 1):
                numbered = {**message, "seq_id": number}
                stored.append((finish(numbered) or numbered) if finish is not None else numbered)
            rows = [_row(message) for message in stored]
            connection.execute(_INSERT, rows if len(rows) > 1 else rows[0])
            committing.set()
        return stored

    def _take_numbers(self, connection: sa.Connection, count: int) -> int:
        """Take so many numbers; returns the last of them."""
        assert self._take is not None
        taken = connection.execute(self._take, {"count": count})
        return int((taken if self._is_returning else connection.execute(_LAST)).one()[0])

    def trim(self, until: Position) -> int:
        """Remove the messages up to a number, included; their numbers are not assigned again.

        Raises:
            StoreError: The database could not be written. An IOError.
        """

        def remove() -> int:
            with self.engine.begin() as connection:
                connection.execute(sa.update(_counter).values(last=self._newest))
                return int(connection.execute(sa.delete(_messages).where(_messages.c.seq_id <= until)).rowcount)

        with database.errors_mapped(self.engine, "can't be written"):
            return database.retried(remove)

    # ---------------------------------------------------------------- reading

    def get(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the messages that a query asks for, in the order of their numbers.

        Args:
            query: Any of ``seq_id``, ``seq_ids``, ``seq_id_range``, ``msg_id``, ``msg_ids``,
                ``time``; several are alternatives. Empty, everything is asked for.

        Raises:
            QueryError: It is ill-formed, or there is nothing. A ValueError.
            StoreError: The database could not be read. An IOError.
        """
        return list(self.iter(query))

    def iter(self, query: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Yield the same messages as `get` one after the other, however many there are."""
        for text in self.texts(query):
            yield encoding.loads(text)

    def texts(self, query: Mapping[str, Any]) -> Generator[str, None, None]:
        """Yield the same messages as `iter` as the JSON texts that they are stored as."""
        found = False
        asked = sa.select(_messages.c.msg).order_by(_messages.c.seq_id)
        if query:
            asked = asked.where(sa.or_(*(_condition(key, value) for key, value in query.items())))
        for row in self._rows(asked):
            found = True
            yield row[0]
        if not found:
            raise QueryError(protocol.NO_MATCH)

    def read(
        self,
        after: Position = 0,
        until: Position | None = None,
        prefixes: Iterable[str] = (),
        limit: int | None = None,
    ) -> Iterator[tuple[Position, str]]:
        """Yield messages as JSON with their numbers, in order.

        Raises:
            StoreError: The database could not be read. An IOError.
        """
        columns = _messages.c
        asked = sa.select(columns.seq_id, columns.msg).order_by(columns.seq_id).where(columns.seq_id > after)
        if until is not None:
            asked = asked.where(columns.seq_id <= until)
        if wanted := list(prefixes):
            asked = asked.where(sa.or_(*(sa.func.substr(columns.topic, 1, len(one)) == one for one in wanted)))
        yield from map(tuple, self._rows(asked if limit is None else asked.limit(limit)))

    def _rows(self, asked: sa.Select[Any]) -> Iterator[sa.Row[Any]]:
        with database.errors_mapped(self.engine, "can't be read"), ExitStack() as stack:
            connection = database.retried(lambda: self._connected(stack))
            yield from stack.enter_context(connection.execution_options(yield_per=_READ_BATCH).execute(asked))

    def _connected(self, stack: ExitStack) -> sa.Connection:
        """Return a connection on which something has just been read."""
        with database.before_commit():
            connection = stack.enter_context(self.engine.connect())
            connection.execute(_LAST).close()
            return connection

    def last_number(self) -> int:
        """Return the number of the last message that was stored; 0 when there is none yet."""
        with database.errors_mapped(self.engine, "can't be read"), self.engine.connect() as connection:
            return int(connection.execute(sa.select(self._newest)).scalar_one())

    last = last_number

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
    """Return a time as the table has it since fedmsg 1.x: in local time, without a time zone."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return dt.datetime.fromtimestamp(seconds)  # noqa: DTZ006 see above
    except (ValueError, OverflowError, OSError):
        return None


# ---------------------------------------------------------------- queries


def _condition(key: str, value: Any) -> sa.ColumnElement[bool]:
    """Return the condition in SQL for one part of a query.

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
        # fedmsg 1.x spells it so, and programs compare it.
        shown = "sed_id_range" if key == "seq_id_range" else key
        raise QueryError(f'Ill-format "{shown}" field') from error


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not an integer")
    # No column holds more, and no message has such a number.
    return max(-_NUMBER_MAX, min(value, _NUMBER_MAX))


def _text(value: Any) -> str:
    if type(value) is not str or "\x00" in value:
        raise TypeError("not text")
    value.encode()
    return value


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError("not a list")
    if len(value) > _LISTED_MAX:
        raise QueryError(f"A list may have {_LISTED_MAX} items: {protocol.ASK_FOR_LESS}")
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


def connect(url: str) -> SqlStore:
    """Open the store at a SQLAlchemy URL.

    Args:
        url: Such as ``sqlite:////var/lib/fedmsg/store.db`` or ``postgresql+psycopg://user@host/name``.

    Raises:
        ConfigError: It is no such URL, or its driver is not installed.
        StoreError: The database can't be used.
    """
    return SqlStore(database.open_engine(url, "persistent_store"))
