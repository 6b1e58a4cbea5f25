# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a subscription begins, and what it is about: the options of ``OPEN``, made and read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fedmsg.exceptions import UsageError
from fedmsg.stream.protocol import Malformed

__all__ = ["Begin", "begin_of", "place_of", "prefixes_of", "requested", "seconds_of", "topics_of"]

#: How many topics a subscription may have, and how long each may be, in bytes.
TOPICS_MAX = 1000
TOPIC_BYTES_MAX = 4096
_NUMBER_MAX = 2**63 - 1
_DIGITS_MAX = len(str(_NUMBER_MAX))
_TIME_MAX = 2**40
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HINT = "write seconds since the epoch, a time such as 2026-05-01T12:00:00Z, or an age such as 90s, 2h or 7d"


class Begin(NamedTuple):
    """Where a subscription begins; new messages only, where nothing is set.

    Attributes:
        after: A position, or the ``msg_id`` of a message; 0 is the first one that is kept.
        since: Seconds since the epoch, by the time of storing.
        last: So many of the newest messages.
        resume: Whether ``after`` is where this reader has come to.
    """

    after: int | str | None = None
    since: float | None = None
    last: int | None = None
    resume: bool = False

    def options(self) -> dict[str, Any]:
        """Return what goes into ``OPEN``."""
        return {key: value for key, value in self._asdict().items() if value is not None and value is not False}


def begin_of(options: Mapping[str, Any]) -> Begin:
    """Return where an ``OPEN`` begins.

    Raises:
        Malformed: It can't be understood.
    """
    after, since, last = options.get("after"), options.get("since"), options.get("last")
    if sum(value is not None for value in (after, since, last)) > 1:
        raise Malformed("at most one of after, since and last")
    if after is not None and not (_is_count(after) or (isinstance(after, str) and after)):
        raise Malformed("after is no position and no msg_id")
    if since is not None and (type(since) not in {int, float} or not 0 <= since < _TIME_MAX):
        raise Malformed("since is not a time in seconds")
    if last is not None and not _is_count(last):
        raise Malformed("last is not a number of messages")
    return Begin(after, None if since is None else float(since), last, options.get("resume") is True)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _NUMBER_MAX


def topics_of(options: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Return the topic prefixes of an ``OPEN``; none stands for every topic.

    Raises:
        Malformed: They are no list of texts, or too many, or too long.
    """
    topics = options.get("topics", [])
    if not isinstance(topics, list) or not all(isinstance(topic, str) for topic in topics):
        raise Malformed("topics is not a list of texts")
    if len(topics) > TOPICS_MAX:
        raise Malformed(f"more than {TOPICS_MAX} topics")
    try:
        prefixes = tuple(dict.fromkeys(topic.encode() for topic in topics))
    except UnicodeEncodeError as error:
        raise Malformed("a topic can't be written in UTF-8") from error
    if any(len(prefix) > TOPIC_BYTES_MAX for prefix in prefixes):
        raise Malformed("a topic is too long")
    return () if b"" in prefixes else prefixes


# ---------------------------------------------------------------- what a program asks for


def requested(*, after: int | str | None = None, since: float | str | None = None, last: int | None = None) -> Begin:
    """Return where a program wants to begin.

    Args:
        after: A position, the ``msg_id`` of a message, or ``"first"``, which is the same as 0.
        since: As for `seconds_of`.
        last: So many of the newest messages.

    Raises:
        UsageError: They make no sense, or there is more than one. A ValueError.
    """
    try:
        return begin_of(
            {
                "after": 0 if after == "first" else after,
                "since": None if since is None else seconds_of(since),
                "last": last,
            }
        )
    except Malformed as error:
        raise UsageError(str(error)) from error


def seconds_of(since: float | str, now: float | None = None) -> float:
    """Return a time as seconds since the epoch.

    Args:
        since: Seconds since the epoch, a time in ISO 8601 (local time where it names no zone), or an age:
            ``90s``, ``5m``, ``2h``, ``7d``.
        now: What an age counts from; the present by default.

    Raises:
        UsageError: It is none of these.
    """
    if not isinstance(since, str):
        if type(since) in {int, float}:
            return float(since)
        raise UsageError(f"since={since!r}: {_HINT}")
    text = since.strip()
    if (age := _AGE.fullmatch(text)) is not None:
        return max(0.0, (time.time() if now is None else now) - float(age[1]) * _UNITS[age[2]])
    try:
        return float(text)
    except ValueError:
        pass
    # Here: 2 ms for what few programs use.
    import datetime as dt

    try:
        # Before Python 3.11 it does not know the Z.
        return dt.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"since={since!r}: {_HINT}") from error


def place_of(text: str) -> int | str:
    """Return the place that a command line names: digits are a position, other text is a ``msg_id``.

    Raises:
        UsageError: It is neither.
    """
    is_position = text.isascii() and text.isdigit()
    if not text or (is_position and (len(text) > _DIGITS_MAX or int(text) > _NUMBER_MAX)):
        raise UsageError(f"{text[:40]!r} is no position and no msg_id")
    return int(text) if is_position else text


def prefixes_of(topics: str | Iterable[str]) -> list[str]:
    """Return the topic prefixes that a program asks for, one or several.

    Raises:
        UsageError: They are no texts, or too many, or too long.
    """
    several = [topics] if isinstance(topics, str) else [*topics]
    try:
        topics_of({"topics": several})
    except Malformed as error:
        raise UsageError(f"topics: {error}") from error
    return several
