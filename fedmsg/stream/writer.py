# SPDX-License-Identifier: LGPL-2.1-or-later
"""Appending to a stream: on one connection, under the lock of the one relay that writes.

The newest position stands in a row of its own, which is changed in the transaction that stores the
messages: an append that fails half-way has taken no position, and an emptied stream goes on counting.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fedmsg.exceptions import StoreError
from fedmsg.store import database
from fedmsg.stream.appending import Appender, Batch
from fedmsg.stream.idindex import IdIndex
from fedmsg.stream.ids import first_position, identify, last_position, make_entry, newest_of, split, timestamp_of
from fedmsg.stream.journal import Journal
from fedmsg.stream.locks import AdvisoryLock, FileLock, WriterLock
from fedmsg.stream.records import Incoming, Stored
from fedmsg.stream.tables import Database, SQLAlchemyError
from fedmsg.transport.zmq import contexts

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Held", "Writer"]

# The clock may be set back by so much without the stream's times going back.
_CLOCK_STEP_SECONDS = 3600.0

# Of parents of this process; never freed, because freeing one closes it.
_inherited: list[object] = []


class Held(StoreError):
    """Another process holds the lock of the writer."""


class _Stale(SQLAlchemyError):
    """The newest position is not the one that this writer knows."""


class Writer:
    """Appends batches; one thread at a time.

    Args:
        db: The database.
        stream: The id of the stream.
        memory: How many ids of messages are kept in memory.

    Attributes:
        ids: The ids of the messages.
        oldest: The oldest kept position, as far as this process knows.
        duplicates: How many messages came that were there already.
        altered: How many came with the ``msg_id`` of another one and other bytes.
    """

    def __init__(self, db: Database, stream: str, memory: int) -> None:
        self._db = db
        self.ids = IdIndex(db, memory)
        self.oldest = 1
        self.duplicates = self.altered = 0
        self._lock: WriterLock = FileLock(f"{db.file}.lock") if db.is_sqlite else AdvisoryLock(stream)
        self._journal = Journal(db)
        self._appender = Appender(db.engine.dialect.loaded_dbapi)
        self._connection: sa.Connection | None = None
        self._generation = contexts.generation
        # None where it has to be read, and the recent ids with it.
        self._newest: int | None = None
        self._last_time = 0.0
        # A batch whose commit has an unknown outcome: the newest position with it, and its entries.
        self._unsure: tuple[int, bytes] | None = None
        # Positions that were stored by an append that has failed: reported as new once.
        self._unreported: set[int] = set()

    def close(self) -> None:
        """Close the connection and release the lock."""
        self._forget_of_parent()
        # A connection that was lost has lost its lock too.
        with suppress(SQLAlchemyError):
            self._lock.release(self._connection)
        self._drop()

    # ---------------------------------------------------------------- the connection

    def open(self) -> sa.Connection:
        """Return the connection that writes; a new one has taken the lock, and read what others have written.

        Raises:
            Held: Another process has the lock. A StoreError.
        """
        with database.errors_mapped(self._db.engine, "can't be written"):
            return self._open()

    def _open(self) -> sa.Connection:
        self._forget_of_parent()
        self._db.check_file()
        if self._connection is not None and not self._lock.is_held():
            self._drop()
        if self._connection is None:
            connection = self._db.writer()
            try:
                if not self._lock.take(connection):
                    raise Held(f"the stream in {self._db.shown} is in use by another relay")
                self._load(connection)
                with self._db.transaction(connection) as raw:
                    self._appender.prepare(raw)
            except BaseException:
                # Closed, not kept for others: it may have the lock.
                connection.invalidate()
                connection.close()
                raise
            self._connection = connection
        elif self._newest is None:
            self._load(self._connection)
        return self._connection

    def _forget_of_parent(self) -> None:
        """Leave the connection to the parent in a child that was forked: to close it would end it there too."""
        if self._generation != contexts.generation:
            _inherited.append(self._connection)
            self._generation, self._connection, self._newest = contexts.generation, None, None

    def _drop(self) -> None:
        connection, self._connection, self._newest = self._connection, None, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _load(self, connection: sa.Connection) -> None:
        """Read where the stream ends, and the recent ids."""
        with connection.begin():
            if self._db.is_sqlite:
                # What is read here may never have been synced, by a writer that was killed: this commit does it.
                self._db.run(connection, "UPDATE fedmsg_stream SET version = version")
            head = self._db.head(connection)
            statement = "SELECT stored FROM fedmsg_stream_messages WHERE position = ?"
            self._last_time = self._db.run(connection, statement, (head.newest,)).scalar() or 0.0
            self.ids.load(connection, head.newest)
            if self._unsure is not None and self.ids.has_batch(connection, *self._unsure):
                self._unreported.update(newest_of(entry) for entry in split(self._unsure[1]))
        self._unsure = None
        self._newest, self.oldest = head.newest, head.oldest

    # ---------------------------------------------------------------- appending

    def append(self, batch: Sequence[Incoming]) -> list[Stored]:
        """Store a batch in one transaction; see `StreamLog.append`."""
        with database.errors_mapped(self._db.engine, "can't be written"):
            try:
                return self._append(batch)
            except _Stale:
                pass
            except SQLAlchemyError as error:
                if not getattr(error, "connection_invalidated", False):
                    raise
            # Once more, because the connection was an old one, or something else has written.
            return self._append(batch)

    def _append(self, batch: Sequence[Incoming]) -> list[Stored]:
        try:
            connection = self._open()
            assert self._newest is not None
            self.ids.make_segment(connection, self._newest)
            with self._db.transaction(connection) as raw:
                added = self._sort_out(connection, batch)
                if added.rows:
                    self._store(raw, added)
        except BaseException:
            # The next one reads what is there.
            self._newest = None
            if self._db.is_sqlite or (self._connection is not None and self._connection.invalidated):
                self._drop()
            raise
        self._unsure = None
        if added.rows:
            self._newest, self._last_time = added.newest, added.stored
        self._journal.grew(connection, added.bytes)
        return added.results

    def _sort_out(self, connection: sa.Connection, batch: Sequence[Incoming]) -> Batch:
        """Find which messages are new, and assign their positions."""
        assert self._newest is not None
        position, stored = self._newest, self._time()
        added = Batch(position, stored)
        results, rows, entries, recent = added.results, added.rows, added.entries, self.ids.recent.entries
        identities = [identify(one.topic, one.body) for one in batch]
        older = self._older(connection, batch, identities) if self.ids.has_older else {}
        size = 0
        for (topic, body, via, _), (key, digest) in zip(batch, identities, strict=True):
            known = recent.get(key)
            if known is not None or key in older:
                found = self._known(connection, key, digest, known or b"", older.get(key, b""))
                if found is not None:
                    results.append(found)
                    continue
            position += 1
            entry = make_entry(key, position, digest)
            if known is None:
                recent[key] = entry
            else:
                self.ids.recent.add(key, entry)
            entries.append(entry)
            rows.append((position, stored, topic, body, " ".join(via) if via else None))
            results.append(Stored(position, True))
            size += len(topic) + len(body)
        added.bytes = size
        return added

    def _older(
        self, connection: sa.Connection, batch: Sequence[Incoming], identities: Sequence[tuple[bytes, bytes]]
    ) -> dict[bytes, bytes]:
        """Look up the ids that may be older than the memory."""
        since = self.ids.since
        keys = {
            key for one, (key, _) in zip(batch, identities, strict=True) if one.again or timestamp_of(one.body) < since
        }
        return self.ids.older(connection, keys) if keys else {}

    def _known(
        self, connection: sa.Connection, key: bytes, digest: bytes, recent: bytes, older: bytes
    ) -> Stored | None:
        """Return where a message is whose id is known; None for one with other bytes, which is new."""
        # The memory has two of them where the first has expired, or was moved to the older ones.
        position = last_position(recent, digest)
        is_expired = position is not None and position < self.oldest and self.ids.has_expired(connection, position)
        if position is None or is_expired:
            position = first_position(older, key, digest)
        if position is None:
            self.altered += not is_expired
            return None
        if position in self._unreported:
            self._unreported.discard(position)
            return Stored(position, True)
        self.duplicates += 1
        return Stored(position, False)

    def _time(self) -> float:
        """Return the time, which goes back only where the clock was far wrong."""
        now = time.time()
        return self._last_time if now < self._last_time < now + _CLOCK_STEP_SECONDS else now

    def _store(self, raw: Any, added: Batch) -> None:
        # From here on the commit may have happened, whatever is raised.
        self._unsure = added.newest, b"".join(added.entries)
        if not self._appender.append(raw, added):
            raise _Stale("another writer has appended to the stream")
