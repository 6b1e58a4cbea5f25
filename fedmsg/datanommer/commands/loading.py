# SPDX-License-Identifier: LGPL-2.1-or-later
"""``datanommer-load``: stores messages out of a file, or of a database of the published datanommer."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, ClassVar

from fedmsg import meta
from fedmsg.commands import Declaration
from fedmsg.commands._options import flag
from fedmsg.datanommer.commands.base import DATABASE, HistoryCommand, with_progress
from fedmsg.exceptions import UsageError

__all__ = ["LoadCommand", "load"]


class LoadCommand(HistoryCommand):
    """Store messages out of a file, or of a database of datanommer 0.9 or 1.x.

    The file is what datanommer-dump wrote, of this release or of 1.x, or what fedmsg-tail --json
    printed; - is standard input. Messages that are there already are skipped, so that the
    command can be run again; from a database it goes on where it was. Status 1: some could
    not be stored.
    """

    name = "datanommer-load"
    argument = "file"
    extra_args: ClassVar[list[Declaration]] = [
        DATABASE,
        flag("--from", dest="source", metavar="URL", help="The database to read, instead of a file."),
    ]

    def run(self) -> int:
        """Store what there is; return the exit status.

        Raises:
            ConfigError: The other database can't be read.
            StoreError: A database can't be used.
            UsageError: There is no file, or it is something else.
        """
        path, source = self.config.get("file"), self.config["source"]
        if (path is None) == (source is None):
            raise UsageError("name either a file or a database: datanommer-load FILE, or datanommer-load --from URL")
        self.history.prepare(self.url)
        with self.history.opened(self.url):
            return self._load_from(source) if source is not None else self._load_file(str(path))

    def _load_from(self, url: str) -> int:
        stored = known = 0
        with self.history.opened_source(url) as source:
            wanted = self.history.Import(source)
            if wanted.after:
                self.log.info("going on after the message with the id %d", wanted.after)
            length = source.count(wanted.after) if sys.stderr is not None and sys.stderr.isatty() else None
            for count, new in with_progress(((part[0], part) for part in wanted.run()), length, "importing"):
                stored += new
                known += count - new
        print(f"{stored} messages stored, {known} were there already, of a database of datanommer {source.form.name}")
        return 1 if source.bad else 0

    def _load_file(self, path: str) -> int:
        if not meta.processors:
            meta.make_processors(**self.config)
        totals = [0, 0, 0]
        failure = ""
        with _opened(path) as file:
            try:
                for part in with_progress(_sized(file, self.history.load_file(file, self.config)), _size(file), path):
                    totals = [total + more for total, more in zip(totals, part, strict=True)]
            except ValueError as error:
                failure = str(error)
        print(f"{totals[0]} messages stored, {totals[1]} were there already, {totals[2]} can't be stored")
        if failure:
            raise UsageError(f"{path} is no list of messages, after {sum(totals)} of them: {failure}")
        return 1 if totals[2] else 0


def _opened(path: str) -> IO[str]:
    if path == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed: there is nothing to read")
        return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
    try:
        return open(path, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from error


def _size(file: IO[str]) -> int | None:
    try:
        return os.fstat(file.fileno()).st_size or None
    except OSError:
        # It is no file of the system.
        return None


def _sized(file: Any, parts: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    """Yield parts with how many bytes were read for each."""
    before = 0
    for part in parts:
        at = file.buffer.tell() if file.buffer.seekable() else 0
        yield at - before, part
        before = at


def load() -> None:
    """Run the command: the entry point of ``datanommer-load``."""
    sys.exit(LoadCommand().execute())
