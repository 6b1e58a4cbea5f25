# SPDX-License-Identifier: LGPL-2.1-or-later
"""The database of a stream: its tables, its connections, and the statements in the two dialects."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from fedmsg.exceptions import ConfigError, StoreError
from fedmsg.store import database

__all__ = ["Database", "Head", "SQLAlchemyError"]

#: What a database raises; `database.errors_mapped` makes a StoreError of it.
SQLAlchemyError = exc.SQLAlchemyError

_T = TypeVar("_T")

# Of the tables; a database with a higher one was made by a newer fedmsg.
_VERSION = 1
#: Held in PostgreSQL while tables are made, until the end of the transaction.
_LOCK_TABLES = "SELECT pg_advisory_xact_lock(110386840822119)"
_WRITER_CACHE_KIB = 65_536

# Two of them are of ids: a row for each new batch, and the older ones in segments by age, each
# split by the first 12 bits of the key.
_TABLES = """
CREATE TABLE IF NOT EXISTS fedmsg_stream (
    id INTEGER PRIMARY KEY, version INTEGER NOT NULL, stream TEXT NOT NULL,
    newest BIGINT NOT NULL, oldest BIGINT NOT NULL, bytes BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS fedmsg_stream_messages (
    {position} PRIMARY KEY, stored {real} NOT NULL, topic {blob} NOT NULL, body {blob} NOT NULL, via TEXT);
CREATE TABLE IF NOT EXISTS fedmsg_stream_recent_ids (
    {position} PRIMARY KEY, stored {real} NOT NULL, entries {blob} NOT NULL, gone {real});
CREATE TABLE IF NOT EXISTS fedmsg_stream_segments ({position} PRIMARY KEY, gone {real});
CREATE TABLE IF NOT EXISTS fedmsg_stream_ids (
    bucket BIGINT NOT NULL, position BIGINT NOT NULL, entries {blob} NOT NULL, PRIMARY KEY (bucket, position)){rowid};
CREATE TABLE IF NOT EXISTS fedmsg_stream_cursors (
    name TEXT PRIMARY KEY, position BIGINT NOT NULL, seen {real} NOT NULL, address TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fedmsg_stream_upstreams (
    stream TEXT PRIMARY KEY, position BIGINT NOT NULL, there BIGINT NOT NULL, seen {real} NOT NULL,
    address TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fedmsg_stream_missing (
    name TEXT PRIMARY KEY, position BIGINT NOT NULL, since {real} NOT NULL)
"""
_TYPES = {
    "sqlite": {"position": "position INTEGER", "real": "REAL", "blob": "BLOB", "rowid": " WITHOUT ROWID"},
    "postgresql": {"position": "position BIGINT", "real": "DOUBLE PRECISION", "blob": "BYTEA", "rowid": ""},
}
_FOR_POSTGRESQL = (
    "CREATE INDEX IF NOT EXISTS fedmsg_stream_ids_position ON fedmsg_stream_ids (position)",
    # Digests can't be compressed.
    "ALTER TABLE fedmsg_stream_recent_ids ALTER COLUMN entries SET STORAGE EXTERNAL",
)
# A server that has gone without a word is noticed after so long; what the URL says counts first.
_LIBPQ = {
    "connect_timeout": "10", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}  # fmt: skip

_COPY_HEAD = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_END = b"\xff\xff"
_COUNT, _LENGTH = struct.Struct(">h").pack, struct.Struct(">i").pack
_INTEGER = struct.Struct(">iq").pack


class Head(NamedTuple):
    """What is counted of a stream.

    Args:
        newest: Its newest position; 0 when nothing was ever stored.
        oldest: The oldest kept position; newest + 1 when nothing is kept.
        bytes: Of topics and bodies that are kept.
    """

    newest: int
    oldest: int
    bytes: int


class Database:
    """Opens the database of a stream, makes its tables, and runs statements.

    Args:
        url: Its SQLAlchemy URL.

    Attributes:
        engine: The engine, for transactions.
        is_sqlite: Whether it is SQLite, else PostgreSQL.

    Raises:
        ConfigError: The URL is no such URL, or of another kind of database.
        StoreError: The database can't be used, or is damaged.
    """

    def __init__(self, url: str) -> None:
        self.engine = database.open_engine(url, "relay_store")
        name = self.engine.dialect.name
        if name not in _TYPES:
            raise ConfigError(f"relay_store: a stream can't be kept in {name}; use sqlite or postgresql")
        self.is_sqlite = name == "sqlite"
        if self.is_sqlite:
            file = self.engine.url.database or ""
            if file in {"", ":memory:"} or file.startswith("file:"):
                raise ConfigError("relay_store: name a file, such as sqlite:////var/lib/fedmsg-relay/stream.db")
            # One file has one lock, whatever links lead to it.
            self.file = os.path.realpath(file)
            sa.event.listen(self.engine, "do_connect", self._check_before)
            # Counts only before the first table, and before the journal is set.
            sa.event.listen(self.engine, "connect", _set_auto_vacuum, insert=True)
        else:
            sa.event.listen(self.engine, "do_connect", _set_libpq)
            sa.event.listen(self.engine, "connect", _set_synchronous)
        # Of the file, once the stream in it was checked.
        self._identity: tuple[int, int] | None = None
        self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        database.forget_in_child(self.engine)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.engine.dispose()

    @property
    def shown(self) -> str:
        """The URL without its password, for texts."""
        return self.engine.url.render_as_string(hide_password=True)

    # ---------------------------------------------------------------- tables

    def prepare(self, *, create: bool = True) -> str:
        """Make what is missing of the tables, check them, and return the id of the stream.

        Raises:
            StoreError: The database can't be used; or there is no stream in it, and none is to be made.
        """
        # To open a file that is not there would make it.
        if not create and self.is_sqlite and not os.path.exists(self.file):
            raise StoreError(f"there is no stream in {self.shown}: the file is not there")
        with database.errors_mapped(self.engine, "can't be prepared"):
            if not database.retried(self._is_ready):
                if not create:
                    raise StoreError(f"there is no stream in {self.shown}: start a relay with it first")
                database.retried(self._make)
        stream = self.read(self._checked, "can't be prepared")
        if self.is_sqlite:
            self._identity = _identity_of(self.file)
        return stream

    def check_file(self) -> None:
        """Check that the file of SQLite is still the one in which the stream was found.

        What is written to a file that was removed or replaced is gone with the process.

        Raises:
            StoreError: It is not.
        """
        if self._identity is not None and _identity_of(self.file) != self._identity:
            raise StoreError(
                f"the store {self.shown} can't be used: its file was removed or replaced while it was in use;"
                " put it back, or start the relay again"
            )

    def _check_before(self, *_: object) -> None:
        """Keep a new connection from making the file anew, and from reading another one."""
        self.check_file()

    def _is_ready(self) -> bool:
        with self.engine.connect() as connection:
            # The last one that is made.
            if not sa.inspect(connection).has_table("fedmsg_stream_missing"):
                return False
            return bool(self.run(connection, "SELECT count(*) FROM fedmsg_stream").scalar())

    def _make(self) -> None:
        with self.engine.begin() as connection:
            if not self.is_sqlite:
                self.run(connection, _LOCK_TABLES)
            tables = _TABLES.format(**_TYPES[self.engine.dialect.name]).split(";")
            for statement in (*tables, *(() if self.is_sqlite else _FOR_POSTGRESQL)):
                self.run(connection, statement)
            self.run(
                connection,
                "INSERT INTO fedmsg_stream (id, version, stream, newest, oldest, bytes)"
                " VALUES (1, ?, ?, 0, 1, 0) ON CONFLICT (id) DO NOTHING",
                (_VERSION, uuid.uuid4().hex),
            )

    def _checked(self, connection: sa.Connection) -> str:
        """Compare the head with the messages, at the price of two looks into an index."""
        # One statement sees one state, while another process writes.
        version, stream, newest, oldest, last, first = self.run(
            connection,
            "SELECT version, stream, newest, oldest, (SELECT max(position) FROM fedmsg_stream_messages),"
            " (SELECT min(position) FROM fedmsg_stream_messages) FROM fedmsg_stream WHERE id = 1",
        ).one()
        if version > _VERSION:
            raise StoreError(f"the store {self.shown} was made by a newer fedmsg: its version is {version}")
        is_empty = last is None and oldest == newest + 1
        if not is_empty and (first, last) != (oldest, newest):
            shown = "none" if last is None else f"{first} to {last}"
            raise StoreError(
                f"the store {self.shown} is damaged: it should have the positions {oldest} to {newest}"
                f" and has {shown}; restore it, or use a new one"
            )
        return str(stream)

    def head(self, connection: sa.Connection) -> Head:
        """Read what is counted."""
        return Head(*self.run(connection, "SELECT newest, oldest, bytes FROM fedmsg_stream WHERE id = 1").one())

    # ---------------------------------------------------------------- statements

    def run(self, connection: sa.Connection, statement: str, values: Any = ()) -> Any:
        """Run a statement, with ``?`` where its values go; a list of values runs it for each of them."""
        return connection.exec_driver_sql(statement if self.is_sqlite else statement.replace("?", "%s"), values)

    def rows(self, connection: sa.Connection, statement: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query as the driver has them, which is quicker."""
        with database.driver(connection) as raw:
            # Bytes come in text otherwise, twice as long.
            cursor = raw.cursor() if self.is_sqlite else raw.cursor(binary=True)
            try:
                cursor.execute(statement if self.is_sqlite else statement.replace("?", "%s"), values)
                # The other driver has the whole answer already, and is quicker with all of it.
                yield from cursor if self.is_sqlite else cursor.fetchall()
            finally:
                cursor.close()

    def insert(self, connection: sa.Connection, table: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of int and bytes; in PostgreSQL by COPY."""
        if self.is_sqlite:
            marks = ", ".join("?" for _ in columns.split(","))
            self.run(connection, f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608 names of ours
        else:
            self._copy(connection, table, columns, map(_copied, rows))

    @contextmanager
    def transaction(self, connection: sa.Connection) -> Iterator[Any]:
        """Yield the connection of the driver for one transaction, which is quicker than one of SQLAlchemy."""
        with database.driver(connection) as raw:
            try:
                yield raw
                raw.commit()
            except BaseException:
                raw.rollback()
                raise

    def _copy(self, connection: sa.Connection, table: str, columns: str, parts: Iterable[bytes]) -> None:
        content = b"".join([_COPY_HEAD, *parts, _COPY_END])
        statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"
        with database.driver(connection) as raw, raw.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(content)

    def read(self, work: Callable[[sa.Connection], _T], what: str = "can't be read") -> _T:
        """Read on a connection of this call, retried where the connection was an old one.

        Raises:
            StoreError: The database could not be read.
        """

        def read() -> _T:
            with database.before_commit(), self._reading.connect() as connection:
                return work(connection)

        with database.errors_mapped(self.engine, what):
            return database.retried(read)

    def write(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Run a transaction that may be run twice, on a connection of this call.

        Raises:
            StoreError: The database could not be written.
        """

        def write() -> _T:
            with database.before_commit(), self.engine.begin() as connection:
                return work(connection)

        with database.errors_mapped(self.engine, "can't be written"):
            return database.retried(write)

    def script(self, connection: sa.Connection, statement: str) -> None:
        """Run a statement of SQLite to its end, outside of any transaction.

        The driver ends others after one step where they return rows without columns.
        """
        with database.driver(connection) as raw:
            raw.executescript(statement)

    def writer(self) -> sa.Connection:
        """Open the connection that appends."""
        connection = self.engine.connect()
        if self.is_sqlite:
            self.run(connection, f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}")
            # This one moves the journal into the file by itself.
            self.run(connection, "PRAGMA wal_autocheckpoint=0")
            connection.commit()
        return connection


def _identity_of(path: str) -> tuple[int, int] | None:
    """Return device and number of a file, in which one of the same name differs; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set_auto_vacuum(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Of a file that is in use it would wait for the writer, and change nothing.
    if cursor.execute("PRAGMA page_count").fetchone()[0] == 0:
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    cursor.close()


def _set_libpq(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
    for key, value in _LIBPQ.items():
        options.setdefault(key, value)


def _set_synchronous(connection: Any, _record: object) -> None:
    """Let a commit return only when it is on disk, whatever the server is set to."""
    cursor = connection.cursor()
    if cursor.execute("SHOW synchronous_commit").fetchone()[0] in {"off", "local"}:
        cursor.execute("SET synchronous_commit = on")
    cursor.close()
    connection.commit()


def _copied(row: tuple[int | bytes, ...]) -> bytes:
    """Return a row in the binary format of COPY."""
    parts = [_COUNT(len(row))]
    for value in row:
        parts += (_INTEGER(8, value),) if isinstance(value, int) else (_LENGTH(len(value)), value)
    return b"".join(parts)
