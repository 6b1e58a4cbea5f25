# SPDX-License-Identifier: LGPL-2.1-or-later
"""Begins subscriptions at the relay, and stores the cursors of the durable ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.exceptions import FedmsgError
from fedmsg.stream import jobs
from fedmsg.stream.begin import Begin
from fedmsg.stream.names import Names
from fedmsg.stream.readers import Reader
from fedmsg.stream.worker import Worker

__all__ = ["Opening"]

log = logging.getLogger("fedmsg.stream")

# Seconds until the store is asked again after a failure.
_RETRY = 1.0

#: Called with the position after which a subscription begins; with None, a code and a reason where it does not.
Done = Callable[["int | None", str, str], None]


class Opening:
    """Finds out where subscriptions begin, and stores cursors, by a thread that may wait for the store.

    Args:
        stream: The stream.
        names: The durable names.
        worker: The thread.
        events: Where failures are counted and logged.
        limit: How many durable names there may be.
    """

    def __init__(self, stream: jobs.Readable, names: Names, worker: Worker, events: RateLimitedLog, limit: int) -> None:
        self._stream = stream
        self._names = names
        self._worker = worker
        self._events = events
        self._limit = limit
        self._is_saving = False
        self._retries: list[tuple[float, Reader, int, Done]] = []
        self._next_save = 0.0

    def ask(self, reader: Reader, done: Done) -> None:
        """Find out where a subscription begins, and call ``done``."""
        if reader.begin.last and reader.prefixes:
            self._search(reader, None, done)
        else:
            self._start(reader, done)

    def _search(self, reader: Reader, search: jobs.Search | None, done: Done) -> None:
        """Find the last messages of some topics, step by step: what others ask for gets its turn in between."""
        stream, name, last, prefixes = self._stream, reader.name, reader.begin.last or 0, reader.prefixes
        generation = reader.generation

        def work() -> jobs.Search | Begin:
            # Where a name is known, where to begin does not count.
            is_known = bool(name) and stream.cursor(name) is not None
            return Begin() if is_known else jobs.search_last(stream, last, prefixes, search)

        def take(result: jobs.Search | Begin | Exception) -> None:
            if reader.generation != generation:
                return
            if isinstance(result, Exception):
                self._report(result)
                self._retries.append((time.monotonic() + _RETRY, reader, generation, done))
            elif isinstance(result, Begin):
                reader.begin = result
                self._start(reader, done)
            else:
                self._search(reader, result, done)

        self._worker.ask(work, take)

    def _start(self, reader: Reader, done: Done) -> None:
        stream, names, begin, name, peer = self._stream, self._names, reader.begin, reader.name, reader.peer
        generation, limit = reader.generation, self._limit
        # It is stored by the job itself: later it might overwrite the cursor of a name that was removed and is new.
        unsaved = names.unsaved.pop(name, None)

        def work() -> tuple[int, int | None, float | None]:
            if not name:
                return jobs.position_of(stream, begin), None, None
            return jobs.start_durable(stream, name, begin, unsaved=unsaved, address=peer, limit=limit)

        def take(result: tuple[int, int | None, float | None] | Exception) -> None:
            if isinstance(result, Exception) and unsaved is not None:
                names.unsaved.setdefault(name, unsaved)
            if reader.generation != generation:
                return
            if isinstance(result, jobs.Refused):
                done(None, result.code, str(result))
            elif isinstance(result, Exception):
                self._report(result)
                self._retries.append((time.monotonic() + _RETRY, reader, generation, done))
            else:
                position, cursor, reader.missing_since = result
                if cursor is not None:
                    names.started(name, cursor)
                done(position, "", "")

        self._worker.ask(work, take)

    def _report(self, error: Exception) -> None:
        self._events.report("store", f"the stream can't be read, trying again: {error}")

    def tick(self, now: float) -> None:
        """Store the cursors that have moved, and try again what has failed; to be called several times a second."""
        due = [entry for entry in self._retries if entry[0] <= now]
        self._retries = [entry for entry in self._retries if entry[0] > now]
        for _, reader, generation, done in due:
            if reader.generation == generation:
                self.ask(reader, done)
        if not self._is_saving and self._names.unsaved and now >= self._next_save:
            self._save()

    def _save(self) -> None:
        self._is_saving = True
        names = self._names
        cursors = list(names.unsaved.values())
        readers = {cursor.name: names.served(cursor.name) for cursor in cursors}

        def take(result: list[str] | Exception) -> None:
            self._is_saving = False
            if isinstance(result, Exception):
                self._next_save = time.monotonic() + _RETRY
                self._events.report("store", f"cursors can't be stored, trying again: {result}")
                return
            names.saved(cursors)
            # `fedmsg-stream remove` has taken away what came into use just then; a reader that has come since begins
            # anew.
            in_use = {name for name in result if readers[name] is not None and names.served(name) is readers[name]}
            kept = [cursor for cursor in cursors if cursor.name in in_use]
            if kept:
                log.warning("%d durable subscriptions were removed while they are being read; they are kept", len(kept))
                self._worker.ask(lambda: self._stream.save_cursors(kept), self._note_kept)

        self._worker.ask(lambda: self._stream.move_cursors(cursors), take)

    def _note_kept(self, error: Exception | None) -> None:
        # The next acknowledgement of the reader tries again.
        if error is not None:
            self._report(error)

    def save_last(self) -> None:
        """Store what is not stored, in the calling thread: the server is stopping."""
        if self._names.unsaved:
            try:
                self._stream.move_cursors(list(self._names.unsaved.values()))
            except FedmsgError as error:
                log.error("cursors can't be stored, so messages after the stored ones will come again: %s", error)
