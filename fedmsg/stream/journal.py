# SPDX-License-Identifier: LGPL-2.1-or-later
"""SQLite's journal: what is appended goes there first, and is moved into the file from time to time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.stream.tables import Database, SQLAlchemyError

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Journal"]

log = logging.getLogger("fedmsg.stream")

# It is moved each time it has grown by so much: a larger one is slower, since each commit has to extend the file.
_BYTES = 4 << 20
# A commit writes whole pages, and so many bytes more than those of its messages.
_COMMIT_BYTES = 3 * 4096
# A reader that keeps it busy for longer is logged.
_BUSY_SECONDS = 10.0
_LOG_EVERY_SECONDS = 60.0


class Journal:
    """Moves the journal of an SQLite database into its file; in PostgreSQL there is nothing to do."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._bytes = 0
        self._busy_since: float | None = None
        self._warnings = RateLimitedLog(log, every=_LOG_EVERY_SECONDS)

    def grew(self, connection: sa.Connection, size: int) -> None:
        """Note that so many bytes were committed, and move the journal where these are enough."""
        self._bytes += size + _COMMIT_BYTES
        if not self._db.is_sqlite or self._bytes < _BYTES:
            return
        self._bytes = 0
        try:
            _, pages, moved = self._db.run(connection, "PRAGMA wal_checkpoint(PASSIVE)").one()
            connection.commit()
        except SQLAlchemyError as error:
            # The messages are stored all the same; a lasting fault shows itself at the next append.
            connection.rollback()
            problem = getattr(error, "orig", error)
            self._warnings.report("journal", f"the journal of {self._db.shown} can't be moved into it: {problem}")
            return
        self._note(pages, is_busy=moved < pages)

    def _note(self, pages: int, *, is_busy: bool) -> None:
        now = time.monotonic()
        if not is_busy:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now
        elif now - self._busy_since > _BUSY_SECONDS:
            seconds = now - self._busy_since
            text = f"a reader has kept the journal of {self._db.shown} busy for {seconds:.0f} s; it has {pages} pages"
            self._warnings.report("busy", text)
