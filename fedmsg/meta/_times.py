# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times in words: ``2 hours ago``."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta, timezone

__all__ = ["ago"]

_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = 60, 3600, 86400, 7 * 86400, 365 * 86400


def ago(timestamp: float, now: float) -> str:
    """Return in words how long ago something was.

    Args:
        timestamp: When it was, in seconds since 1970.
        now: The present, likewise.

    Returns:
        The words, or nothing for a time that no calendar has.
    """
    try:
        then, present = (datetime.fromtimestamp(time, timezone.utc) for time in (timestamp, now))
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


def _add_months(time: datetime, months: int) -> datetime:
    year, month = divmod(time.year * 12 + time.month - 1 + months, 12)
    day = min(time.day, calendar.monthrange(year, month + 1)[1])
    return time.replace(year=year, month=month + 1, day=day)
