# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a consumer stands, on disk: the message in work or the last one that was, and which were handled.

``<status_directory>/<process name>/<class name>`` holds one JSON object::

    {"message": {"topic": "...", "body": {...}}, "status": "pre"}

``pre`` while the message is in work, ``post`` when it has been. Files of fedmsg 1.x are read:
there ``status`` may be missing, which is ``post``, and the body may be a JSON string. Where the
time of the message can't be right, ``received`` says when it was received instead.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedmsg import encoding
from fedmsg._util import files
from fedmsg._util.bounded import SeenIds
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.text import quoted
from fedmsg.exceptions import ConfigError, MessageError
from fedmsg.store.recovery import is_time, message_key

__all__ = ["POST", "PRE", "Handled", "Status", "StatusFile", "parse"]

PRE, POST = "pre", "post"
# Far more than a status with the largest message that is allowed by default.
_FILE_MAX_BYTES = 128 * 1024 * 1024
# 2000-01-01: no bus is older.
_EARLIEST = 946_684_800
# The clock of a publisher may be ahead or behind by so many seconds.
_CLOCK_AHEAD = 300
_CLOCK_BEHIND = 3600
# More than are queued for a consumer by default, because all of those may be among what is caught up with.
_HANDLED_MAX = 20_000
_KEY_MAX = 200


class Status(NamedTuple):
    """What a status file contains.

    Attributes:
        topic: The topic of the message; empty when it is missing.
        body: Its envelope.
        status: ``pre`` or ``post``.
        received: When a message was received whose own time can't be right; None for any other.
    """

    topic: str
    body: dict[str, Any]
    status: str
    received: float | None = None

    @property
    def timestamp(self) -> float | None:
        """The time to catch up from, in seconds since the epoch, if there is one."""
        found = self.body.get("timestamp") if self.received is None else self.received
        return found if is_time(found) and found >= _EARLIEST else None

    @property
    def msg_id(self) -> str | None:
        """The id of the message, if it has one."""
        found = self.body.get("msg_id")
        return found if isinstance(found, str) else None

    @property
    def key(self) -> str:
        """The key of the message, see `fedmsg.store.recovery.message_key`."""
        return message_key(self.body)


def parse(text: str | bytes) -> Status:
    """Parse the content of a status file.

    Raises:
        MessageError: It is not a status.
    """
    try:
        found = json.loads(text)
        message = found["message"]
        body = message["body"]
        if isinstance(body, str):
            body = json.loads(body)
        status, received = found.get("status", POST), found.get("received")
        topic = message.get("topic", body.get("topic"))
    except (ValueError, RecursionError) as error:
        raise MessageError(f"it is not JSON: {error}", "status") from error
    except (LookupError, TypeError, AttributeError) as error:
        raise MessageError("it does not hold a message", "status") from error
    if status not in (PRE, POST):
        raise MessageError(f"its status is '{quoted(str(status), 60)}', neither 'pre' nor 'post'", "status")
    if not isinstance(body, dict):
        raise MessageError("it does not hold a message", "status")
    return Status(topic if isinstance(topic, str) else "", body, status, received if is_time(received) else None)


class StatusFile:
    """The status of one consumer, written before and after each message.

    With several workers there may be several messages in work: the file then has the one that was
    begun first, so that a crash is caught up with from there.

    Raises:
        ConfigError: There can't be files in that directory.
    """

    def __init__(
        self, directory: str | os.PathLike[str], consumer: str, log: logging.Logger, *, remember: bool = False
    ) -> None:
        folder = Path(directory) / files.process_name()
        self.path = folder / consumer
        self.lock = threading.Lock()
        self._log = log
        self._events = RateLimitedLog(log)
        # By the thread that works on it, so that one which never got to its end makes way for the next.
        self._in_work: dict[int, _InWork] = {}
        self._failing = False
        # The latest time of a message that was right.
        self._latest: float | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied", str(folder))
            self._file = files.ExchangedFile(self.path)
            self.handled = Handled(self.path.with_name(f"{consumer}.handled"), log) if remember else None
        except OSError as error:
            raise ConfigError(
                f"status_directory: {folder} can't be written to: {error.strerror}; "
                "let it belong to the user of this process, or set another one"
            ) from error

    def read_text(self) -> str | None:
        """Return the text of the file; None when there is none, or none that can be read and trusted (logged)."""
        try:
            return files.read_trusted(self.path, _FILE_MAX_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log.warning("the status in %s can't be read: %s; nothing is caught up", self.path, error.strerror)
            return None

    def read(self) -> Status | None:
        """Return the status in the file; None when there is none, or none that is valid (logged)."""
        text = self.read_text()
        return self.parse(text) if text is not None else None

    def parse(self, text: str | bytes) -> Status | None:
        """Parse a status; for one that is not valid, log that and return None."""
        try:
            return parse(text)
        except MessageError as error:
            self._log.warning("the status in %s is not valid: %s; nothing is caught up", self.path, error)
            return None

    def save(self, data: Mapping[str, Any]) -> str | None:
        """Write a status, ``message`` and ``status`` as in the file; an error is logged, and the consumer goes on."""
        message, status = data["message"], data.get("status", POST)
        body = message["body"] if isinstance(message["body"], Mapping) else {}
        worker = threading.get_ident()
        with self.lock:
            one = self._in_work.pop(worker, None)
            if status == PRE or one is None or one.msg_id != body.get("msg_id"):
                # Otherwise, what the consumer has changed in the message since does not matter.
                one = self._begin(message, body)
            if status == PRE:
                self._in_work[worker] = one
            elif self.handled is not None and one.key is not None:
                self.handled.add(one.key)
            if self._in_work:
                shown, state = next(iter(self._in_work.values())), PRE
            else:
                shown, state = one, status
            try:
                self._file.write(b'{"message":%b,"status":"%b"%b}' % (shown.text, state.encode(), shown.received))
            except OSError as error:
                if not self._failing:
                    self._log.error("the status can't be written to %s: %s", self.path, error.strerror)
                self._failing = True
            else:
                self._failing = False
        return one.key if status == POST else None

    def _begin(self, message: Mapping[str, Any], body: Mapping[str, Any]) -> _InWork:
        """Return what is to be written about a message."""
        key: str | None = None
        received: float | None = None
        if self.handled is not None:
            key = message_key(body) if isinstance(body.get("msg_id"), str) else None
            now, when = time.time(), body.get("timestamp")
            if not is_time(when, now + _CLOCK_AHEAD) or when < _EARLIEST:
                self._events.report(
                    "time", f"a message has an impossible time, {when!r}: the time of its receipt is used"
                )
                received = self._latest or now
            elif when < (self._latest or 0) - _CLOCK_BEHIND:
                # As of a message that was caught up with.
                received = self._latest
            else:
                self._latest = max(self._latest or 0, min(when, now))
                # Others may have published since, by clocks that are not ahead.
                received = now if when > now else None
        noted = b"" if received is None else b',"received":%d' % received
        return _InWork(body.get("msg_id"), _encoded(message), key, noted)

    def start_from(self, when: float) -> None:
        """Set the latest time, in seconds since the epoch, from the status of the last process."""
        if self._latest is None:
            self._latest = when

    def close(self) -> None:
        """Close what is open; a second call does nothing."""
        self._file.close()
        if self.handled is not None:
            self.handled.close()


class _InWork(NamedTuple):
    """A message that a worker has begun."""

    msg_id: object
    text: bytes
    key: str | None
    received: bytes


def _encoded(message: Mapping[str, Any]) -> bytes:
    try:
        return encoding.dumps(message).encode()
    except (TypeError, ValueError):
        # A broker or a consumer put something into it that is not JSON: what a catch-up needs is enough.
        body = message["body"]
        kept = {
            key: value
            for key in ("topic", "msg_id", "timestamp")
            if isinstance(body, Mapping) and isinstance(value := body.get(key), (str, int, float))
        }
        return encoding.dumps({"topic": str(message.get("topic") or ""), "body": kept}).encode()


class Handled:
    """The keys of the last messages that were handled, a line for each in a file that is appended to.

    Not safe for several threads at once.

    Raises:
        OSError: The file can't be opened.
    """

    def __init__(self, path: Path, log: logging.Logger, limit: int = _HANDLED_MAX) -> None:
        self._path = path
        self._log = log
        self._limit = limit
        self._keys: SeenIds[str] = SeenIds(limit)
        self._failing = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self._lines = self._load()

    def _load(self) -> int:
        """Read the file, or as much of its end as counts."""
        most = 2 * self._limit * (_KEY_MAX + 1)
        status = os.fstat(self._file)
        if not files.is_trusted(status):
            self._log.warning("%s is not used: others can write it", self._path)
            self._rewrite()
            return 0
        size = status.st_size
        content = os.pread(self._file, most, max(0, size - most))
        whole, _, torn = content.rpartition(b"\n")
        if torn:  # by a crash
            os.ftruncate(self._file, size - len(torn))
        lines = whole.decode(errors="replace").split("\n") if whole else []
        for line in lines[-self._limit :]:
            self._keys.renew(line)
        return len(lines)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str) -> None:
        """Remember that a message was handled; an error is logged."""
        if len(key) > _KEY_MAX or not key.isprintable() or self._file < 0:
            return
        self._keys.renew(key)
        try:
            os.write(self._file, f"{key}\n".encode())
            self._lines += 1
            if self._lines > 2 * self._limit:
                self._rewrite()
        except (OSError, UnicodeEncodeError) as error:
            if not self._failing:
                self._log.error("can't write to %s what was handled: %s", self._path, error)
            self._failing = True
        else:
            self._failing = False

    def _rewrite(self) -> None:
        """Replace the file by one with only the keys that are remembered."""
        files.replace(self._path, "".join(f"{key}\n" for key in self._keys).encode(), durable=False)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._lines = len(self._keys)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()
