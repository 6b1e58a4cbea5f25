# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a batch is written: its messages, their ids, and the newest position, in one transaction.

Most batches of an idle relay are of one message, so each statement and each way to a server counts.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from fedmsg.stream.records import Stored

__all__ = ["Appender", "Batch"]

_HEAD = "UPDATE fedmsg_stream SET newest = ?, bytes = bytes + ? WHERE id = 1 AND newest = ?"
_MESSAGES = "INSERT INTO fedmsg_stream_messages (position, stored, topic, body, via) VALUES (?, ?, ?, ?, ?)"
_IDS = "INSERT INTO fedmsg_stream_recent_ids (position, stored, entries) VALUES (?, ?, ?)"

# One statement, which is a transaction of its own: one way to the server and back.
_ALL = b"""
WITH head AS (UPDATE fedmsg_stream SET newest = $1, bytes = bytes + $2 WHERE id = 1 AND newest = $3 RETURNING newest),
    ids AS (INSERT INTO fedmsg_stream_recent_ids (position, stored, entries) SELECT newest, $4, $5 FROM head)
INSERT INTO fedmsg_stream_messages (position, stored, topic, body, via)
    SELECT $3 + number, $4, topic, body, via
    FROM head, unnest($6, $7, $8) WITH ORDINALITY AS new (topic, body, via, number)
"""
_NAME = b"fedmsg_stream_append"
_INTEGER, _FLOAT, _BYTES, _TEXT, _BYTES_ARRAY, _TEXT_ARRAY = 20, 701, 17, 25, 1001, 1009
_TYPES = (_INTEGER, _INTEGER, _INTEGER, _FLOAT, _BYTES, _BYTES_ARRAY, _BYTES_ARRAY, _TEXT_ARRAY)
_BINARY = (1,) * len(_TYPES)

_pack_integer, _pack_float = struct.Struct(">q").pack, struct.Struct(">d").pack
# Of an array: dimensions, whether some are null, type, how many, number of the first.
_pack_array, _pack_length = struct.Struct(">iiIii").pack, struct.Struct(">i").pack
_NULL = _pack_length(-1)


class Batch:
    """What is added to a stream.

    Attributes:
        before: The newest position before.
        stored: When it is stored, in epoch seconds.
        results: What becomes of each message that came.
        rows: Of each new message its position, time, topic, body, and the streams that it has passed as text or None.
        entries: The entries of their ids.
        bytes: Of topics and bodies.
    """

    __slots__ = ("before", "bytes", "entries", "results", "rows", "stored")

    def __init__(self, before: int, stored: float) -> None:
        self.before, self.stored = before, stored
        self.results: list[Stored] = []
        self.rows: list[tuple[int, float, bytes, bytes, str | None]] = []
        self.entries: list[bytes] = []
        self.bytes = 0

    @property
    def newest(self) -> int:
        """The newest position with it."""
        return self.before + len(self.rows)


class Appender:
    """Writes batches, on a connection of the driver of a database.

    Args:
        driver: The module of the driver.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._is_sqlite = driver.__name__.startswith("sqlite3")

    def prepare(self, raw: Any) -> None:
        """Prepare a new connection; in PostgreSQL the tables must be there."""
        if not self._is_sqlite:
            self._check(raw.pgconn.prepare(_NAME, _ALL, _TYPES))

    def append(self, raw: Any, batch: Batch) -> bool:
        """Write a batch, which is not committed on SQLite; False where the stream ends elsewhere."""
        return self._append_to_sqlite(raw, batch) if self._is_sqlite else self._append_to_postgresql(raw, batch)

    @staticmethod
    def _append_to_sqlite(raw: Any, batch: Batch) -> bool:
        cursor = raw.cursor()
        # This comes first: it waits for another writer.
        cursor.execute(_HEAD, (batch.newest, batch.bytes, batch.before))
        if cursor.rowcount != 1:
            return False
        cursor.executemany(_MESSAGES, batch.rows)
        cursor.execute(_IDS, (batch.newest, batch.stored, b"".join(batch.entries)))
        return True

    def _append_to_postgresql(self, raw: Any, batch: Batch) -> bool:
        _, _, topics, bodies, vias = zip(*batch.rows, strict=True)
        values = [
            _pack_integer(batch.newest),
            _pack_integer(batch.bytes),
            _pack_integer(batch.before),
            _pack_float(batch.stored),
            b"".join(batch.entries),
            _array(_BYTES, topics),
            _array(_BYTES, bodies),
            _array(_TEXT, [None if via is None else via.encode() for via in vias]),
        ]
        # What the driver does around a statement would cost more than the statement.
        result = raw.pgconn.exec_prepared(_NAME, values, _BINARY, 1)
        self._check(result)
        return bool(result.command_tuples)

    def _check(self, result: Any) -> None:
        """Raise the error of the driver where a statement has failed."""
        pq, errors = self._driver.pq, self._driver.errors
        if result.status == pq.ExecStatus.COMMAND_OK:
            return
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        try:
            kind = errors.lookup(state.decode()) if state else self._driver.OperationalError
        except KeyError:
            kind = self._driver.OperationalError
        raise kind(pq.error_message(result))


def _array(kind: int, values: Sequence[bytes | None]) -> bytes:
    """Return an array in the binary format of PostgreSQL."""
    parts = [_pack_array(1, int(None in values), kind, len(values), 1)]
    for value in values:
        parts += (_NULL,) if value is None else (_pack_length(len(value)), value)
    return b"".join(parts)
