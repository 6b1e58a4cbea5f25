# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ids of the messages of a stream, on disk: a row for each new batch, older ones in segments.

Recent ids are in memory too, so that a new message costs no look into the database. What leaves
the memory is written in one go, as a segment that is split into buckets by the key: a look-up of
an old id reads one short row of each segment, and storing costs no writes all over a large index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from fedmsg.stream.ids import ENTRY, RecentIds, split, with_key

if TYPE_CHECKING:
    import sqlalchemy as sa

    from fedmsg.stream.tables import Database

__all__ = ["IdIndex"]

_BUCKETS = 4096
#: How long an id outlives its message, in seconds.
_OUTLIVES = 86_400.0


class IdIndex:
    """Finds the entries of a key; of one writer, and of any number of readers.

    Args:
        db: The database.
        memory: How many ids are kept in memory, and at most a quarter more.

    Attributes:
        recent: Those in memory; loaded by the writer alone.
        since: When the oldest of them was stored.
        has_older: Whether there are others.
    """

    def __init__(self, db: Database, memory: int) -> None:
        self._db = db
        self._memory = memory
        self._segment = max(1, memory // 4)
        self.recent = RecentIds()
        self.since = 0.0
        self.has_older = False
        # Up to this position ids are in segments, or have expired.
        self._moved = 0

    # ---------------------------------------------------------------- the writer

    def load(self, connection: sa.Connection, newest: int) -> None:
        """Read the recent ids into memory."""
        recent = RecentIds()
        rows = self._db.rows(connection, "SELECT entries FROM fedmsg_stream_recent_ids ORDER BY position", ())
        for (entries,) in rows:
            recent.fill(entries)
        self.recent = recent
        self._look(connection, newest)

    def _look(self, connection: sa.Connection, newest: int) -> None:
        statement = "SELECT position, stored, entries FROM fedmsg_stream_recent_ids ORDER BY position LIMIT 1"
        self._moved, self.since = newest, 0.0
        for position, stored, entries in self._db.rows(connection, statement, ()):
            self._moved, self.since = position - len(entries) // ENTRY, stored
        exists = self._db.run(connection, "SELECT EXISTS (SELECT 1 FROM fedmsg_stream_segments)").scalar()
        self.has_older = bool(exists)

    def has_batch(self, connection: sa.Connection, position: int, entries: bytes) -> bool:
        """Return whether exactly this batch was stored."""
        statement = "SELECT entries FROM fedmsg_stream_recent_ids WHERE position = ?"
        return any(found == entries for (found,) in self._db.rows(connection, statement, (position,)))

    def make_segment(self, connection: sa.Connection, newest: int) -> None:
        """Move the oldest ids out of memory into segments, in transactions of their own, where it has too many."""
        while newest - self._moved >= self._memory + self._segment:
            with connection.begin():
                entries, last, gone = self._oldest(connection)
                # A batch moves as a whole, and the memory keeps as many as it promises.
                if newest - last < self._memory:
                    return
                if len(entries) >= self._segment * ENTRY:
                    self._write_segment(connection, entries, last, gone)
                self._look(connection, newest)
            # Some may have expired, and were in memory alone.
            self.recent.forget(self._moved)

    def _oldest(self, connection: sa.Connection) -> tuple[bytes, int, float | None]:
        """Return the entries for a segment, or all where there are fewer.

        Returns:
            The entries, the position of the last, and when the message at it was removed.
        """
        found: list[bytes] = []
        count, last, gone = 0, 0, None
        statement = "SELECT position, entries, gone FROM fedmsg_stream_recent_ids ORDER BY position LIMIT ?"
        for position, entries, removed in self._db.rows(connection, statement, (self._segment,)):
            found.append(entries)
            last, gone = position, removed
            count += len(entries) // ENTRY
            if count >= self._segment:
                break
        return b"".join(found), last, gone

    def _write_segment(self, connection: sa.Connection, entries: bytes, last: int, gone: float | None) -> None:
        buckets: dict[int, list[bytes]] = defaultdict(list)
        for entry in split(entries):
            buckets[_bucket(entry)].append(entry)
        rows = [(bucket, last, b"".join(found)) for bucket, found in sorted(buckets.items())]
        self._db.run(connection, "INSERT INTO fedmsg_stream_segments (position, gone) VALUES (?, ?)", (last, gone))
        self._db.insert(connection, "fedmsg_stream_ids", "bucket, position, entries", rows)
        self._db.run(connection, "DELETE FROM fedmsg_stream_recent_ids WHERE position <= ?", (last,))

    # ---------------------------------------------------------------- looking up

    def older(self, connection: sa.Connection, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return what is no longer in memory: for each key that is there the entries of its bucket, by position."""
        found: dict[bytes, bytes] = {}
        if self._db.is_sqlite:
            statement = (
                "SELECT entries FROM fedmsg_stream_ids WHERE bucket = ? AND instr(entries, ?) > 0 ORDER BY position"
            )
            for key in keys:
                rows = self._db.rows(connection, statement, (_bucket(key), key))
                if entries := b"".join([entries for (entries,) in rows]):
                    found[key] = entries
            return found
        # In one go, because each question takes its way to the server and back.
        statement = (
            "SELECT wanted.key, ids.entries FROM unnest(?::bigint[], ?::bytea[]) AS wanted (bucket, key)"
            " JOIN fedmsg_stream_ids AS ids ON ids.bucket = wanted.bucket AND position(wanted.key IN ids.entries) > 0"
            " ORDER BY ids.position"
        )
        for key, entries in self._db.rows(connection, statement, ([_bucket(key) for key in keys], list(keys))):
            found[key] = found.get(key, b"") + entries
        return found

    def find(self, connection: sa.Connection, key: bytes) -> bytes:
        """Return all entries of a key, in the order of positions; for those who have no memory of recent ones."""
        if self._db.is_sqlite:
            statement = "SELECT entries FROM fedmsg_stream_recent_ids WHERE instr(entries, ?) > 0 ORDER BY position"
        else:
            statement = (
                "SELECT entries FROM fedmsg_stream_recent_ids AS ids WHERE position(? IN entries) > 0"
                " ORDER BY ids.position"
            )
        older = self.older(connection, [key]).get(key, b"")
        recent = b"".join([entries for (entries,) in self._db.rows(connection, statement, (key,))])
        return with_key(older + recent, key)

    def has_expired(self, connection: sa.Connection, position: int) -> bool:
        """Return whether the entry of a position, of which the memory knows, has been removed."""
        statement = (
            "SELECT position, entries FROM fedmsg_stream_recent_ids WHERE position >= ? ORDER BY position LIMIT 1"
        )
        rows = self._db.rows(connection, statement, (position,))
        return not any(last - len(entries) // ENTRY < position for last, entries in rows)

    # ---------------------------------------------------------------- removal

    def mark_gone(self, connection: sa.Connection, first: int, last: int, now: float) -> None:
        """Note that the messages from one position to another were removed: their ids expire a day after."""
        statement = "UPDATE fedmsg_stream_recent_ids SET gone = ? WHERE position >= ? AND position <= ?"
        self._db.run(connection, statement, (now, first, last))
        # There are few of them. One may have been made at the very moment when its last message was removed.
        statement = "UPDATE fedmsg_stream_segments SET gone = ? WHERE position <= ? AND gone IS NULL"
        self._db.run(connection, statement, (now, last))

    def expire(self, connection: sa.Connection, now: float) -> None:
        """Remove ids that have expired: a segment at most, and as many batches as it could have."""
        run = self._db.run
        limit = None
        statement = "SELECT position, gone FROM fedmsg_stream_recent_ids ORDER BY position LIMIT ?"
        for position, gone in self._db.rows(connection, statement, (min(self._segment, 1000),)):
            if gone is None or gone > now - _OUTLIVES:
                break
            limit = position
        if limit is not None:
            run(connection, "DELETE FROM fedmsg_stream_recent_ids WHERE position <= ?", (limit,))
        segment = run(
            connection, "SELECT min(position) FROM fedmsg_stream_segments WHERE gone < ?", (now - _OUTLIVES,)
        ).scalar()
        if segment is None:
            return
        run(connection, "DELETE FROM fedmsg_stream_segments WHERE position = ?", (segment,))
        if self._db.is_sqlite:
            # Row by row along the primary key: an index for this would cost more at each segment.
            statement = "DELETE FROM fedmsg_stream_ids WHERE bucket = ? AND position = ?"
            run(connection, statement, [(bucket, segment) for bucket in range(_BUCKETS)])
        else:
            run(connection, "DELETE FROM fedmsg_stream_ids WHERE position = ?", (segment,))


def _bucket(key: bytes) -> int:
    return key[0] << 4 | key[1] >> 4
