# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream in a database: messages at the positions 1, 2, 3 and so on, without gaps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fedmsg._util.service import Closeable
from fedmsg.stream import reading, removal
from fedmsg.stream.records import Chunk, Cursor, Entry, HandedOn, Incoming, Missing, Stored
from fedmsg.stream.tables import Database
from fedmsg.stream.writer import Held, Writer

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Chunk", "Cursor", "Entry", "Incoming", "Stored", "StreamLog"]

# How often a lock that another process holds is tried.
_LOCK_EVERY_SECONDS = 0.1
# More cursors than there can be.
_ALL = 2**31
# Of so many streams of other relays it is kept up to where messages were handed on.
_UPSTREAMS_MAX = 100


class StreamLog(Closeable):
    """Keeps messages in order, in SQLite or PostgreSQL, and reads them from any position.

    Any thread may use it: writers wait for each other, and each reader has a connection of its own.

    Args:
        url: A SQLAlchemy URL such as ``sqlite:////var/lib/fedmsg-relay/stream.db``.
        memory: How many ids of messages are kept in memory, to find a message that comes again.
        create: Whether to make the stream where there is none.

    Attributes:
        stream: The random id of the stream, made with it.

    Raises:
        ConfigError: The URL can't be used. A ValueError.
        StoreError: The database can't be used. An IOError.
    """

    def __init__(self, url: str, *, memory: int = 100_000, create: bool = True) -> None:
        self._closed = True  # until there is something to close
        self._db = Database(url)
        # Of those who write in this process: SQLite's own waiting would take longer.
        self._writing = threading.RLock()
        try:
            self.stream: str = self._db.prepare(create=create)
        except BaseException:
            self._db.close()
            raise
        self._writer = Writer(self._db, self.stream, memory)
        self._closed = False

    def _close(self) -> None:
        with self._writing:
            self._writer.close()
            self._db.close()

    # ---------------------------------------------------------------- appending

    def acquire(self, timeout: float) -> bool:
        """Take the lock of the one relay that writes to this stream; `append` does so where it was not done.

        After a lost connection `append` takes it again before it writes.

        Returns:
            Whether it is held now; False when another process still holds it after so many seconds.

        Raises:
            StoreError: The database can't be used.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self._writing:
                    self._writer.open()
                return True
            except Held:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(_LOCK_EVERY_SECONDS, left))

    def append(self, batch: Sequence[Incoming]) -> list[Stored]:
        """Store messages in one transaction: all of them or none; they are on disk when this returns.

        A message that is there already is not stored again. It is the same when topic and body are,
        and with the body its ``msg_id``. Recent ones are always found, older ones where ``again``
        says so or the message has an old timestamp.

        Returns:
            The position of each, in the order of the batch.

        Raises:
            StoreError: They could not be stored, or another relay has the stream. The same batch may
                be appended again, whether or not it is stored: the next answer is the right one.
        """
        with self._writing:
            return self._writer.append(batch) if batch else []

    # ---------------------------------------------------------------- reading

    def read(self, after: int, prefixes: Sequence[bytes] = (), *, rows: int = 1000, max_bytes: int = 4 << 20) -> Chunk:
        """Read messages after a position, in order.

        Args:
            after: The position before the first that is wanted.
            prefixes: Only topics that begin with one of these; all when there is none.
            rows: Return no more than so many. With prefixes, ten times as many positions are looked at.
            max_bytes: Return no more of topics and bodies together, but always one message.

        Returns:
            The messages; continue after its ``looked_at``, which is not below ``after``.

        Raises:
            StoreError: The stream could not be read.
        """
        wanted = tuple(prefixes)
        return self._db.read(
            lambda connection: reading.chunk(self._db, connection, after, wanted, rows=rows, max_bytes=max_bytes)
        )

    def first(self) -> int:
        """Return the oldest kept position; the newest and one where nothing is kept."""
        return self._db.read(self._db.head).oldest

    def newest(self) -> int:
        """Return the newest position; 0 when nothing was ever stored."""
        return self._db.read(self._db.head).newest

    last = newest

    def find(self, msg_id: str) -> int | None:
        """Return the position of the first message with an id; None where there is none.

        The message itself may have been removed: its id is kept a day longer.
        """
        return self._db.read(lambda connection: reading.find(self._db, self._writer.ids, connection, msg_id))

    def topics(self, until: int, rows: int) -> list[tuple[int, bytes]]:
        """Return positions and topics of the newest messages up to a position, the newest first, at most so many."""
        statement = (
            "SELECT position, topic FROM fedmsg_stream_messages WHERE position <= ? ORDER BY position DESC LIMIT ?"
        )
        return self._db.read(lambda connection: [*self._db.rows(connection, statement, (until, rows))])

    def after_time(self, since: float) -> int:
        """Return the position after which the messages begin that were stored at or after a time."""
        return self._db.read(lambda connection: reading.bisect(self._db, connection, self._db.head(connection), since))

    def statistics(self) -> dict[str, Any]:
        """Return figures that are counted while writing, so that they cost nothing however large the stream is.

        Returns:
            ``first`` and ``newest`` position, how many ``messages`` and ``bytes`` of topics and bodies are
            kept; and of this process ``duplicates``, messages that were there already, and
            ``altered``, those with the ``msg_id`` of another one and other bytes.
        """
        head = self._db.read(self._db.head)
        return {
            "first": head.oldest,
            "newest": head.newest,
            "messages": head.newest + 1 - head.oldest,
            "bytes": head.bytes,
            "duplicates": self._writer.duplicates,
            "altered": self._writer.altered,
        }

    # ---------------------------------------------------------------- removal

    def prune(self, *, age: float, max_bytes: int, messages: int, until: int = 0, rows: int = 1000) -> int:
        """Remove the oldest messages that are too many, in one small step; call it again until it returns 0.

        It needs no lock: a command may do it while a relay appends.

        Args:
            age: Remove what was stored more than so many seconds ago; 0 for no limit.
            max_bytes: Keep so many bytes of topics and bodies; 0 for no limit.
            messages: Keep so many messages; 0 for no limit.
            until: Remove up to this position in any case, included.
            rows: Remove no more than so many in this step.

        Returns:
            How many were removed.

        Raises:
            StoreError: The database could not be written.
        """
        return self._remove(removal.Limits(age, max_bytes, messages, until), rows)

    def trim(self, until: int) -> int:
        """Remove the messages up to a position, included; returns how many these were."""
        removed = 0
        while step := self._remove(removal.Limits(until=until), 1000):
            removed += step
        return removed

    def _remove(self, limits: removal.Limits, rows: int) -> int:
        with self._writing:
            # Other processes may remove, too.
            removed, self._writer.oldest = self._db.write(
                lambda connection: removal.remove(self._db, self._writer.ids, connection, limits, rows)
            )
            if self._db.is_sqlite:
                self._db.write(lambda connection: removal.shrink(self._db, connection))
        return removed

    # ---------------------------------------------------------------- cursors

    def cursor(self, name: str) -> Cursor | None:
        """Return the cursor of a durable subscription; None where there is no such name."""
        statement = "SELECT name, position, seen, address FROM fedmsg_stream_cursors WHERE name = ?"
        row = self._db.read(lambda connection: self._db.run(connection, statement, (name,)).first())
        return Cursor(*row) if row else None

    def cursors(self, after: str = "", limit: int = _ALL) -> list[Cursor]:
        """Return cursors by name: a page of them, after a name."""
        statement = (
            "SELECT name, position, seen, address FROM fedmsg_stream_cursors WHERE name > ? ORDER BY name LIMIT ?"
        )
        rows = self._db.read(lambda connection: self._db.run(connection, statement, (after, limit)).all())
        return [Cursor(*row) for row in rows]

    def cursors_behind(self, limit: int) -> tuple[int, list[Cursor]]:
        """Return how many cursors there are, and those with the largest lag."""
        count = "SELECT count(*) FROM fedmsg_stream_cursors"
        statement = "SELECT name, position, seen, address FROM fedmsg_stream_cursors ORDER BY position LIMIT ?"

        def read(connection: sa.Connection) -> tuple[int, list[Cursor]]:
            rows = self._db.run(connection, statement, (limit,)).all()
            return self._db.run(connection, count).scalar() or 0, [Cursor(*row) for row in rows]

        return self._db.read(read)

    def move_cursors(self, cursors: Iterable[Cursor]) -> list[str]:
        """Write cursors that are there, in one transaction.

        Returns:
            The names of those that are not there: they have been removed, and stay so.

        Raises:
            StoreError: The database could not be written.
        """
        rows = [(cursor.position, cursor.seen, cursor.address, cursor.name) for cursor in cursors]
        statement = "UPDATE fedmsg_stream_cursors SET position = ?, seen = ?, address = ? WHERE name = ?"
        if not rows:
            return []
        with self._writing:
            moved = self._db.write(lambda connection: self._db.run(connection, statement, rows).rowcount)
        return [] if moved == len(rows) else [row[-1] for row in rows if self.cursor(row[-1]) is None]

    def save_cursors(self, cursors: Iterable[Cursor]) -> None:
        """Write cursors, in one transaction; those that are not there yet are made.

        Raises:
            StoreError: The database could not be written.
        """
        rows = [tuple(cursor) for cursor in cursors]
        statement = (
            "INSERT INTO fedmsg_stream_cursors (name, position, seen, address) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET position = excluded.position, seen = excluded.seen,"
            " address = excluded.address"
        )
        if rows:
            with self._writing:
                self._db.write(lambda connection: self._db.run(connection, statement, rows))

    def remove_cursor(self, name: str) -> bool:
        """Remove a cursor, and return whether there was one."""

        def remove(connection: sa.Connection) -> bool:
            self._db.run(connection, "DELETE FROM fedmsg_stream_missing WHERE name = ?", (name,))
            return bool(self._db.run(connection, "DELETE FROM fedmsg_stream_cursors WHERE name = ?", (name,)).rowcount)

        with self._writing:
            return self._db.write(remove)

    def missing(self, name: str) -> Missing | None:
        """Return what a durable subscription can't have of the stream; None where nothing is known of it."""
        statement = "SELECT name, position, since FROM fedmsg_stream_missing WHERE name = ?"
        row = self._db.read(lambda connection: self._db.run(connection, statement, (name,)).first())
        return Missing(*row) if row else None

    def save_missing(self, missing: Missing) -> None:
        """Write what a durable subscription can't have of the stream.

        Raises:
            StoreError: The database could not be written.
        """
        statement = (
            "INSERT INTO fedmsg_stream_missing (name, position, since) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET position = excluded.position, since = excluded.since"
        )
        with self._writing:
            self._db.write(lambda connection: self._db.run(connection, statement, tuple(missing)))

    # ---------------------------------------------------------------- other relays

    def handed_on(self) -> list[HandedOn]:
        """Return up to where messages were handed on to other relays, the latest last."""
        statement = "SELECT stream, position, there, seen, address FROM fedmsg_stream_upstreams ORDER BY seen"
        rows = self._db.read(lambda connection: self._db.run(connection, statement).all())
        return [HandedOn(*row) for row in rows]

    def save_handed_on(self, done: HandedOn) -> None:
        """Write up to where messages were handed on to another relay.

        Raises:
            StoreError: The database could not be written.
        """
        statement = (
            "INSERT INTO fedmsg_stream_upstreams (stream, position, there, seen, address) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (stream) DO UPDATE SET position = excluded.position, there = excluded.there,"
            " seen = excluded.seen, address = excluded.address"
        )
        # Another relay may show a new stream as often as it likes.
        bound = (
            "DELETE FROM fedmsg_stream_upstreams WHERE stream NOT IN"
            " (SELECT stream FROM fedmsg_stream_upstreams ORDER BY seen DESC LIMIT ?)"
        )

        def write(connection: sa.Connection) -> None:
            self._db.run(connection, statement, tuple(done))
            self._db.run(connection, bound, (_UPSTREAMS_MAX,))

        with self._writing:
            self._db.write(write)
