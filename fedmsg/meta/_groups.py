# SPDX-License-Identifier: LGPL-2.1-or-later
"""Groups of messages: what all of them have in common."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

__all__ = ["ago", "describe_with", "template", "title_of"]

# Describes a message with all that processors know of it: message, subject, whether with lexer, configuration.
_Describe = Callable[[Any, Any, bool, Mapping[str, Any]], dict[str, Any]]
_describe: _Describe | None = None

_FAR_AWAY = 1e15
_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = 60, 3600, 86400, 7 * 86400, 365 * 86400


def describe_with(function: _Describe) -> None:
    """Register what describes a message; `fedmsg.meta`, which knows the processors, does at import."""
    global _describe
    _describe = function


def title_of(topic: object) -> str:
    """Return a topic without prefix and environment; one of a STOMP broker, ``/topic/...``, stays as it is."""
    if not isinstance(topic, str):
        return ""
    if topic.startswith("/topic/"):
        return topic
    words = topic.split(".", 3)
    return words[3] if len(words) > 3 else ""


def template(
    constituents: Sequence[Mapping[str, Any]], subject: str | None, lexers: bool, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the description of a group of messages, for a user (``subject``)."""
    assert _describe is not None, "fedmsg.meta is imported before its submodules"
    described = [(msg, _describe(msg, subject, lexers, config)) for msg in constituents]
    times = [msg["timestamp"] for msg in constituents if _is_time(msg.get("timestamp"))]
    topics = {msg["topic"] for msg in constituents if isinstance(msg.get("topic"), str)}
    mean = sum(times) / len(times) if times else None
    return {
        "start_time": min(times, default=None),
        "end_time": max(times, default=None),
        "timestamp": mean,
        "human_time": "" if mean is None else ago(mean, time.time()),
        "msg_ids": {_key(msg): about for msg, about in described},
        "usernames": {name for _, about in described for name in about["usernames"]},
        "packages": {name for _, about in described for name in about["packages"]},
        "topics": topics,
        "categories": {words[3] for words in (topic.split(".", 4) for topic in topics) if len(words) > 3},
        "icon": described[0][1]["icon"] if described else None,
    }


def _is_time(value: Any) -> bool:
    # NaN is not between the two, and what is can be added up.
    return isinstance(value, (int, float)) and -_FAR_AWAY < value < _FAR_AWAY


def _key(msg: Mapping[str, Any]) -> str:
    """Return the id of a message, and text in its place where it has none that is."""
    found = msg.get("msg_id", "")
    return found if isinstance(found, str) else repr(found)


def ago(timestamp: float, now: float) -> str:
    """Return in words how long ago a timestamp was, such as ``2 hours ago``; nothing for one that no calendar has."""
    try:
        then, present = (datetime.fromtimestamp(moment, timezone.utc) for moment in (timestamp, now))
    except (ValueError, OverflowError, OSError):
        return ""
    seconds = round((present - then).total_seconds())
    if abs(seconds) < 10:
        return "just now"
    words = _distance(abs(seconds), *sorted([then, present]))
    return f"{words} ago" if seconds > 0 else f"in {words}"


def _distance(seconds: int, earlier: datetime, later: datetime) -> str:
    if seconds < _WEEK:
        for length, unit in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
            if seconds >= length:
                return _some(seconds // length, unit)
        return _some(seconds, "second")
    if seconds >= _YEAR:
        return _some(seconds // _YEAR, "year")
    months = min(_months(earlier, later), 12)
    return _some(months, "month") if months else _some(seconds // _WEEK, "week")


def _some(number: int, unit: str) -> str:
    if number == 1:
        return f"an {unit}" if unit == "hour" else f"a {unit}"
    return f"{number} {unit}s"


def _months(earlier: datetime, later: datetime) -> int:
    """Count the months between two times; more than two weeks count as one more."""
    months = (later.year - earlier.year) * 12 + later.month - earlier.month
    if _add_months(earlier, months) > later:
        months -= 1
    return months + ((later - _add_months(earlier, months)) >= timedelta(days=15))


def _add_months(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)
