# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages a consumer has handled lately, on disk, so that a catch-up leaves them out."""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["Handled"]

# More than may wait for a consumer by default, for those may all be among what is caught up with.
_KEPT = 20_000
_LONGEST = 200


class Handled:
    """The ids of the last messages, a line for each in a file that is appended to.

    Not safe for several threads at once.

    Args:
        path: The file.
        log: Where trouble is told.
        kept: How many ids are kept.

    Raises:
        OSError: The file can't be opened.
    """

    def __init__(self, path: Path, log: logging.Logger, kept: int = _KEPT) -> None:
        self._path = path
        self._log = log
        self._kept = kept
        self._ids: dict[str, None] = {}
        self._failing = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self._lines = self._load()

    def _load(self) -> int:
        """Read the file, or as much of its end as counts."""
        most = 2 * self._kept * (_LONGEST + 1)
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, most, max(0, size - most))
        whole, _, torn = content.rpartition(b"\n")
        if torn:  # by a crash
            os.ftruncate(self._file, size - len(torn))
        lines = whole.decode(errors="replace").split("\n") if whole else []
        for line in lines[-self._kept :]:
            self._ids[line] = None
        return len(lines)

    def __contains__(self, msg_id: object) -> bool:
        return msg_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, msg_id: str) -> None:
        """Note that a message was handled; failing to is told in the log."""
        if len(msg_id) > _LONGEST or not msg_id.isprintable() or self._file < 0:
            return
        self._ids.pop(msg_id, None)
        self._ids[msg_id] = None
        if len(self._ids) > self._kept:
            del self._ids[next(iter(self._ids))]
        try:
            os.write(self._file, f"{msg_id}\n".encode())
            self._lines += 1
            if self._lines > 2 * self._kept:
                self._rewrite()
        except (OSError, UnicodeEncodeError) as error:
            if not self._failing:
                self._log.error("can't note in %s what was handled: %s", self._path, error)
            self._failing = True
        else:
            self._failing = False

    def _rewrite(self) -> None:
        """Begin a new file with the ids that count."""
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.write_text("".join(f"{msg_id}\n" for msg_id in self._ids), encoding="utf-8")
        os.rename(fresh, self._path)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._lines = len(self._ids)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()
