# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages on disk: those that a hub had not come to when it stopped, and those that nobody could handle.

Both are files with a JSON object per line, one file for each consumer.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from fedmsg import encoding
from fedmsg._util.files import process_name, replace
from fedmsg.exceptions import ConfigError
from fedmsg.transport.base import Delivery

__all__ = ["DeadLetters", "KeptMessage", "Leftovers"]

log = logging.getLogger("fedmsg.hub")


class Origin(Protocol):
    """Where kept messages come from."""

    def handled(self) -> None:
        """Note that one of them is done with."""


class KeptMessage(Delivery):
    """A message from a file, to be handled like any other.

    Args:
        path: The file.
        frame: Its topic, unread.
        data: Its body, unread.
        origin: Who wants to know when it is done with.
        checked: Whether it was found good when it came, or did not come from outside.
        since: When it was written down, in seconds since the epoch.
    """

    __slots__ = ("checked", "origin", "since")

    def __init__(
        self, path: Path, frame: bytes, data: bytes, origin: Origin, *, checked: bool = False, since: float = 0.0
    ) -> None:
        super().__init__(str(path), frame, data)
        self.origin = origin
        self.checked = checked
        self.since = since

    def topic(self) -> str:
        """Its topic, also where its body is no envelope."""
        return self.frame.decode("utf-8", "replace")

    def envelope(self) -> Any:
        """Decode it.

        Raises:
            MessageError: It was not looked at before, and is not an envelope, or not one for its topic.
        """
        return json.loads(self.data) if self.checked else super().envelope()


def _record(item: Any, *, checked: bool = False, **more: Any) -> str:
    """Write a message down in a line.

    Raises:
        TypeError: It was put in by hand, and can't become JSON.
        ValueError: The same.
    """
    if isinstance(item, Delivery):
        frame, data = item.frame, item.data
        checked = checked or (isinstance(item, KeptMessage) and item.checked)
    else:
        body = item["body"] if isinstance(item, dict) else item.body
        frame = str(item["topic"] if isinstance(item, dict) else item.topic).encode("utf-8", "surrogateescape")
        # As text it stays as it is; what is in a dict has been decoded.
        data = encoding.dumps(body).encode() if isinstance(item, dict) else str(body).encode("utf-8", "surrogateescape")
        checked = True
    # Bytes that are no UTF-8 become lone surrogates, which JSON can escape.
    row = {"topic": frame.decode("utf-8", "surrogateescape"), "body": data.decode("utf-8", "surrogateescape")}
    since = item.since if isinstance(item, KeptMessage) else time.time()
    return json.dumps({**row, "checked": checked, "since": since, **more}) + "\n"


def _read(path: Path, origin: Origin) -> list[KeptMessage]:
    """Read the messages in a file, leaving out lines that a crash has cut off."""
    kept = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                frame = row["topic"].encode("utf-8", "surrogateescape")
                data = row["body"].encode("utf-8", "surrogateescape")
                checked, since = row.get("checked") is True, float(row.get("since", 0.0))
            except (ValueError, KeyError, TypeError, AttributeError):
                log.error("%s: line %d is no message, it is left out", path, number)
            else:
                kept.append(KeptMessage(path, frame, data, origin, checked=checked, since=since))
    return kept


def _file_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}.jsonl".replace("/", "-").replace("<", "").replace(">", "")


class Leftovers:
    """What a consumer had not handled when its hub stopped.

    Args:
        folder: Where state is kept; None keeps none.
        kind: The class of the consumer.
    """

    def __init__(self, folder: str | None, kind: type) -> None:
        self._path = Path(folder) / process_name() / _file_name(kind) if folder else None
        self._pending = 0
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._path is not None

    def load(self) -> list[KeptMessage]:
        """Give what is left from the last time. The file stays until all of it is handled.

        Raises:
            ConfigError: The file can't be read.
        """
        if self._path is None or not self._path.exists():
            return []
        try:
            kept = _read(self._path, self)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"state_directory: {self._path} can't be read: {error}") from error
        self._pending = len(kept)
        if not kept:
            self._path.unlink(missing_ok=True)
        return kept

    def handled(self) -> None:
        """Note that one of these is done with; the file goes with the last of them."""
        with self._lock:
            self._pending -= 1
            if self._pending == 0 and self._path is not None:
                self._path.unlink(missing_ok=True)

    def save(self, items: Iterable[Any]) -> int:
        """Write down what is to be handled next time.

        Returns:
            How many messages could not be written down.

        Raises:
            OSError: The file can't be written.
        """
        if self._path is None:
            return 0
        lines, lost = [], 0
        for item in items:
            try:
                lines.append(_record(item))
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                lost += 1
                log.error("a message can't be kept for the next start: %s", error)
        with self._lock:
            # What still comes back from before is not to take this file away.
            self._pending = 0
            if lines:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                replace(self._path, "".join(lines).encode(), durable=True)
            else:
                self._path.unlink(missing_ok=True)
        return lost


def _append(path: Path, line: bytes) -> None:
    """Write a line to the end of a file, also when a crash has left half a line there.

    Raises:
        OSError: It can't be written.
    """
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            # Half a line is nothing that anybody could use.
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


class DeadLetters:
    """Messages whose handling failed for good.

    Args:
        folder: Where they are kept; None keeps none.
        kind: The class of the consumer.
    """

    def __init__(self, folder: str | None, kind: type) -> None:
        self._path = Path(folder) / process_name() / _file_name(kind) if folder else None
        self._lock = threading.Lock()
        self._pending = 0

    def __bool__(self) -> bool:
        return self._path is not None

    def add(self, item: Any, error: BaseException, tries: int) -> bool:
        """Write a message and what went wrong to the end of the file; whether that was possible."""
        if self._path is None:
            return False
        try:
            reason = f"{type(error).__name__}: {error}"
            # Nothing is handled that was not found good.
            line = _record(item, checked=True, reason=reason, tries=tries, failed_at=time.time())
            with self._lock:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _append(self._path, line.encode())
        except (OSError, TypeError, ValueError, KeyError, AttributeError) as problem:
            log.error("a message that could not be handled is lost, %s can't be written: %s", self._path, problem)
            return False
        return True

    def exhume(self) -> list[KeptMessage]:
        """Give all of them, to be tried again; those that fail again come back.

        Raises:
            ConfigError: The file can't be read.
        """
        if self._path is None:
            return []
        trying = self._trying()
        try:
            if self._path.exists() and trying.exists():
                # Left from a process that crashed while it tried them.
                messages = _read(trying, self) + _read(self._path, self)
                replace(trying, "".join(map(_record, messages)).encode(), durable=True)
                self._path.unlink()
            elif self._path.exists():
                self._path.replace(trying)
            messages = _read(trying, self) if trying.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"dead_letter_directory: {self._path} can't be read: {error}") from error
        self._pending = len(messages)
        return messages

    def _trying(self) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + ".trying")

    def handled(self) -> None:
        """Note that one of those that are tried again is done with."""
        with self._lock:
            self._pending -= 1
            if self._pending == 0:
                self._trying().unlink(missing_ok=True)

    def put_back(self, items: Iterable[KeptMessage]) -> None:
        """Keep of those that were to be tried again the ones that there was no time for.

        Raises:
            OSError: The file can't be written; it then has all of them still.
        """
        with self._lock:
            if self._pending > 0:
                self._pending = 0
                replace(self._trying(), "".join(map(_record, items)).encode(), durable=True)
