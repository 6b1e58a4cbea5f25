# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages on disk: those a hub had not handled when it stopped, and those whose handling failed for good.

Both are files with a JSON object per line, one file for each consumer. What stands in a file that others
can write to is not believed: its messages are checked again before they are handled.
"""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedmsg import encoding
from fedmsg._util import files
from fedmsg.exceptions import ConfigError
from fedmsg.transport.base import Delivery

__all__ = ["DeadLetters", "MessageFile", "Spool", "SpooledMessage", "record"]

log = logging.getLogger("fedmsg.hub")


class SpooledMessage(Delivery):
    """A message from a file, handled like any other."""

    __slots__ = ("checked", "origin", "since")

    def __init__(
        self, path: Path, frame: bytes, data: bytes, origin: MessageFile, *, checked: bool = False, since: float = 0.0
    ) -> None:
        super().__init__(str(path), frame, data)
        self.origin = origin
        self.checked = checked
        self.since = since

    def topic(self) -> str:
        """Return its topic, also where its body is no envelope."""
        return self.frame.decode("utf-8", "replace")

    def envelope(self) -> Any:
        """Decode it.

        Raises:
            MessageError: It was not checked before, and is not an envelope, or not one for its topic.
        """
        return json.loads(self.data) if self.checked else super().envelope()

    def ack(self) -> None:
        """Remove it from its file."""
        self.origin.settle()

    def nack(self, error: BaseException | None = None, *, requeue: bool = False) -> None:  # noqa: ARG002 - the signature is that of Delivery
        """Remove it from its file, unless it is to be delivered again."""
        if not requeue:
            self.origin.settle()


def record(item: Any, *, checked: bool = False, **more: Any) -> str:
    """Return a message as a line of a file.

    Raises:
        TypeError: It was put on the queue by a program, and can't become JSON.
        ValueError: The same.
    """
    if isinstance(item, Delivery):
        frame, data = item.frame, item.data
        checked = checked or (isinstance(item, SpooledMessage) and item.checked)
    else:
        body = item["body"] if isinstance(item, dict) else item.body
        frame = str(item["topic"] if isinstance(item, dict) else item.topic).encode("utf-8", "surrogateescape")
        # Text stays as it is; a dict has been decoded.
        data = encoding.dumps(body).encode() if isinstance(item, dict) else str(body).encode("utf-8", "surrogateescape")
        checked = True
    # Bytes that are not UTF-8 become lone surrogates, which JSON can escape.
    row = {"topic": frame.decode("utf-8", "surrogateescape"), "body": data.decode("utf-8", "surrogateescape")}
    since = item.since if isinstance(item, SpooledMessage) else time.time()
    return json.dumps({**row, "checked": checked, "since": since, **more}) + "\n"


class MessageFile:
    """A file of messages of one consumer."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pending = 0
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._path is not None

    def _read(self, path: Path) -> list[SpooledMessage]:
        """Read the messages in a file, without lines that a crash has cut off.

        Raises:
            OSError: It can't be read.
            UnicodeDecodeError: It is not UTF-8.
        """
        found = []
        with io.TextIOWrapper(files.open_regular(path), encoding="utf-8") as lines:
            trusted = files.is_trusted(os.fstat(lines.fileno()))
            if not trusted:
                log.warning("%s can be written by others: its messages are checked again", path)
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    frame = row["topic"].encode("utf-8", "surrogateescape")
                    data = row["body"].encode("utf-8", "surrogateescape")
                    checked, since = row.get("checked") is True, float(row.get("since", 0.0))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    log.error("%s: line %d is not a message and is skipped", path, number)
                    continue
                if not trusted:
                    checked, since = False, time.time()
                found.append(self._message(frame, data, row, checked=checked, since=since))
        return found

    def _message(self, frame: bytes, data: bytes, row: dict[str, Any], **more: Any) -> SpooledMessage:  # noqa: ARG002 - for subclasses
        assert self._path is not None
        return SpooledMessage(self._path, frame, data, self, **more)

    def _remove_partial_files(self) -> None:
        """Remove what a process that was killed while it wrote has left."""
        if self._path is not None:
            for partial in self._path.parent.glob(f".{self._path.name}.*"):
                partial.unlink(missing_ok=True)

    def settle(self) -> None:
        """Count one of its messages as finished; the file is removed after the last one."""
        with self._lock:
            self._pending -= 1
            if self._pending == 0:
                self._remove()

    def _remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _path_of(folder: str | None, kind: type) -> Path | None:
    """Return the path of the file for a consumer of some class; None where there is no folder for it."""
    name = f"{kind.__module__}.{kind.__qualname__}.jsonl".replace("/", "-").replace("<", "").replace(">", "")
    return Path(folder) / files.process_name() / name if folder else None


class Spool(MessageFile):
    """What a consumer had not handled when its hub stopped."""

    def __init__(self, folder: str | None, kind: type) -> None:
        super().__init__(_path_of(folder, kind))

    def load(self) -> list[SpooledMessage]:
        """Return the messages of the last run. The file stays until all of them are handled.

        Raises:
            ConfigError: The file can't be read.
        """
        self._remove_partial_files()
        if self._path is None or not self._path.exists():
            return []
        try:
            found = self._read(self._path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"state_directory: {self._path} can't be read: {error}") from error
        self._pending = len(found)
        if not found:
            self._remove()
        return found

    def save(self, items: Iterable[Any]) -> int:
        """Write what is to be handled after the next start.

        Raises:
            OSError: The file can't be written.
        """
        if self._path is None:
            return 0
        lines, lost = [], 0
        for item in items:
            try:
                lines.append(record(item))
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                lost += 1
                log.error("a message can't be kept for the next start: %s", error)
        with self._lock:
            # A message that finishes after this must not remove the new file.
            self._pending = 0
            if lines:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                files.replace(self._path, "".join(lines).encode())
            else:
                self._remove()
        return lost


class DeadLetters(MessageFile):
    """Messages whose handling failed for good."""

    def __init__(self, folder: str | None, kind: type) -> None:
        super().__init__(_path_of(folder, kind))

    def add(self, item: Any, error: BaseException, tries: int) -> bool:
        """Append a message and its error to the file; whether that was possible."""
        if self._path is None:
            return False
        try:
            reason = f"{type(error).__name__}: {error}"
            # Only valid messages are handled.
            line = record(item, checked=True, reason=reason, tries=tries, failed_at=time.time())
            with self._lock:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                files.append(self._path, line.encode())
        except (OSError, TypeError, ValueError, KeyError, AttributeError) as problem:
            log.error("a message that could not be handled is lost, %s can't be written: %s", self._path, problem)
            return False
        return True

    def requeue(self) -> list[SpooledMessage]:
        """Return all of them to be tried again; one that fails again is appended again.

        Raises:
            ConfigError: The file can't be read.
        """
        if self._path is None:
            return []
        self._remove_partial_files()
        trying = self._trying()
        try:
            if self._path.exists() and trying.exists():
                # Left by a process that crashed while it tried them.
                found = self._read(trying) + self._read(self._path)
                files.replace(trying, "".join(map(record, found)).encode())
                self._path.unlink()
            elif self._path.exists():
                self._path.replace(trying)
            found = self._read(trying) if trying.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"dead_letter_directory: {self._path} can't be read: {error}") from error
        self._pending = len(found)
        return found

    def _trying(self) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + ".trying")

    def _remove(self) -> None:
        self._trying().unlink(missing_ok=True)

    def put_back(self, items: Iterable[SpooledMessage]) -> None:
        """Keep of those that were to be tried again the ones that there was no time for.

        Raises:
            OSError: The file can't be written; it then still has all of them.
        """
        with self._lock:
            if self._pending > 0:
                self._pending = 0
                files.replace(self._trying(), "".join(map(record, items)).encode())
