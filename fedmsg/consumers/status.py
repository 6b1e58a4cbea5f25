# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a consumer is at, on disk: the message in work or the last one that was, and which were handled.

``<status_directory>/<process name>/<class name>`` holds one JSON object::

    {"message": {"topic": "...", "body": {...}}, "status": "pre"}

``pre`` while the message is in work, ``post`` when it has been. Files that fedmsg 1.x left are
read: there ``status`` may be missing, which is ``post``, and the body may be a JSON string.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedmsg import encoding
from fedmsg._util.files import process_name
from fedmsg.consumers._handled import Handled
from fedmsg.consumers._replaced import Replaced
from fedmsg.exceptions import ConfigError, MessageError

__all__ = ["POST", "PRE", "Status", "StatusFile", "parse"]

PRE, POST = "pre", "post"
# Far more than a status with the biggest message that is allowed by default.
_LARGEST = 128 * 1024 * 1024
# The last second of the year 9999: no clock is there.
_LATEST = 253402300799


class Status(NamedTuple):
    """What a status file said.

    Attributes:
        topic: The topic of the message; empty when the file does not say.
        body: Its envelope.
        status: ``pre`` or ``post``.
    """

    topic: str
    body: dict[str, Any]
    status: str

    @property
    def timestamp(self) -> float | None:
        """When the message was published, in seconds since the epoch, if it says so."""
        return self.body.get("timestamp")

    @property
    def msg_id(self) -> str | None:
        """Its id, if it has one."""
        found = self.body.get("msg_id")
        return found if isinstance(found, str) else None


def parse(text: str | bytes) -> Status:
    """Read what a status file says.

    Args:
        text: Its content.

    Raises:
        MessageError: It is not a status, or not one that tells since when to catch up.
    """
    try:
        found = json.loads(text)
        message = found["message"]
        body = message["body"]
        if isinstance(body, str):
            body = json.loads(body)
        status, when = found.get("status", POST), body.get("timestamp")
    except (ValueError, RecursionError) as error:
        raise MessageError(f"it is not JSON: {error}", "status") from error
    except (LookupError, TypeError, AttributeError) as error:
        raise MessageError("it does not hold a message", "status") from error
    if status not in (PRE, POST):
        raise MessageError(f"its status is {ascii(status)[:60]}, neither 'pre' nor 'post'", "status")
    if when is not None and (type(when) not in {int, float} or not math.isfinite(when) or not 0 <= when <= _LATEST):
        raise MessageError("the timestamp of its message is no time", "status")
    topic = message.get("topic", body.get("topic"))
    return Status(topic if isinstance(topic, str) else "", body, status)


class StatusFile:
    """The status of one consumer, written before and after each message.

    With several workers there may be several messages in work: the file then tells of the one
    that was begun first, so that a crash is caught up with from there.

    Args:
        directory: The configured ``status_directory``.
        consumer: The class name of the consumer.
        log: Where trouble is told.
        remember: Whether to keep which messages were handled; a catch-up needs that.

    Attributes:
        path: The file.
        lock: Held while it is written.
        handled: Which messages were handled; None when they are not kept.

    Raises:
        ConfigError: There can't be files in that directory.
    """

    def __init__(
        self, directory: str | os.PathLike[str], consumer: str, log: logging.Logger, *, remember: bool = False
    ) -> None:
        folder = Path(directory) / process_name()
        self.path = folder / consumer
        self.lock = threading.Lock()
        self._log = log
        # By the thread that works on it, so that one which never got to its end makes way for the next.
        self._in_work: dict[int, tuple[Any, bytes]] = {}
        self._failing = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied", str(folder))
            self._file = Replaced(self.path)
            self.handled = Handled(self.path.with_name(f"{consumer}.handled"), log) if remember else None
        except OSError as error:
            raise ConfigError(
                f"status_directory: {folder} can't be written to: {error.strerror}; "
                "let it belong to the user of this process, or set another one"
            ) from error

    def read_text(self) -> str | None:
        """Read the file as it is.

        Returns:
            Its text; None when there is none, or none that can be read (which is told in the log).
        """
        try:
            if os.stat(self.path).st_size > _LARGEST:
                raise OSError(None, f"it has more than {_LARGEST} bytes")
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log.warning("the status in %s can't be read: %s; nothing is caught up", self.path, error.strerror)
            return None

    def read(self) -> Status | None:
        """Read the status.

        Returns:
            What the file says; None when there is none, or none that makes sense (which is told in the log).
        """
        text = self.read_text()
        return self.parse(text) if text is not None else None

    def parse(self, text: str | bytes) -> Status | None:
        """Read a status from a text; one that makes no sense is told in the log, and None."""
        try:
            return parse(text)
        except MessageError as error:
            self._log.warning("the status in %s makes no sense: %s; nothing is caught up", self.path, error)
            return None

    def save(self, data: Mapping[str, Any]) -> None:
        """Write a status; failing to is told in the log, and the consumer goes on.

        Args:
            data: ``message`` and ``status``, as in the file.
        """
        message, status = data["message"], data.get("status", POST)
        body = message["body"] if isinstance(message["body"], Mapping) else {}
        msg_id, worker = body.get("msg_id"), threading.get_ident()
        with self.lock:
            begun, text = self._in_work.pop(worker, (None, b""))
            if status == PRE or begun != msg_id or not text:
                # Otherwise, what the consumer has done to the message since is its own business.
                text = _encoded(message)
            if status == PRE:
                self._in_work[worker] = msg_id, text
            elif self.handled is not None and isinstance(msg_id, str):
                self.handled.add(msg_id)
            if self._in_work:
                text, status = next(iter(self._in_work.values()))[1], PRE
            try:
                self._file.write(b'{"message":%b,"status":"%b"}' % (text, status.encode()))
            except OSError as error:
                if not self._failing:
                    self._log.error("the status can't be written to %s: %s", self.path, error.strerror)
                self._failing = True
            else:
                self._failing = False

    def close(self) -> None:
        """Close what is open; a second call does nothing."""
        self._file.close()
        if self.handled is not None:
            self.handled.close()


def _encoded(message: Mapping[str, Any]) -> bytes:
    try:
        return encoding.dumps(message).encode()
    except (TypeError, ValueError):
        # A broker or a consumer put something into it that is no JSON: what a catch-up needs will do.
        body = message["body"]
        kept = {
            key: value
            for key in ("topic", "msg_id", "timestamp")
            if isinstance(body, Mapping) and isinstance(value := body.get(key), (str, int, float))
        }
        return encoding.dumps({"topic": str(message.get("topic") or ""), "body": kept}).encode()
