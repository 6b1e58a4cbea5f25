# SPDX-License-Identifier: LGPL-2.1-or-later
"""Divides time into buckets of equal length, each named by its beginning."""

from __future__ import annotations

import datetime as dt

__all__ = ["Schedule"]

_UTC = dt.timezone.utc
_ZERO = dt.timedelta(0)


class Schedule:
    """Times at equal distances, one of which is the epoch.

    Its text is the interval, such as ``1d2h3m4s``, and as a float it is the seconds until the next time.

    Args:
        interval: The distance.
        epoch: One of the times, in UTC where it has no zone; the beginning of the year 1970 when not given.

    Raises:
        TypeError: They are no timedelta and datetime.
        ValueError: The interval is negative.
    """

    epoch = dt.datetime(1970, 1, 1)  # noqa: DTZ001 times of the columns are in UTC and have no zone

    def __init__(self, interval: dt.timedelta, epoch: dt.datetime | None = None) -> None:
        if not isinstance(interval, dt.timedelta):
            raise TypeError(f"interval has to be a timedelta, not {type(interval).__name__}")
        if epoch is not None and not isinstance(epoch, dt.datetime):
            raise TypeError(f"epoch has to be a datetime, not {type(epoch).__name__}")
        if interval < _ZERO:
            raise ValueError("interval has to be positive")
        self.interval = interval
        if epoch is not None:
            self.epoch = epoch

    @property
    def days(self) -> int:
        """The whole days of the interval."""
        return self.interval.days

    @property
    def hours(self) -> int:
        """The hours that remain beside the days."""
        return self.interval.seconds // 3600

    @property
    def minutes(self) -> int:
        """The minutes that remain beside the hours."""
        return self.interval.seconds // 60 % 60

    @property
    def seconds(self) -> int:
        """The seconds that remain beside the minutes."""
        return self.interval.seconds % 60

    def last(self, now: dt.datetime | None = None) -> dt.datetime:
        """Return the last time that is not after ``now``, which is the beginning of its bucket."""
        now = self._now() if now is None else self._in_zone(now)
        # A schedule without an interval always fires.
        return now - (now - self.epoch) % self.interval if self.interval else now

    def next(self, now: dt.datetime | None = None) -> dt.datetime:
        """Return the first time after ``now``."""
        return self.last(now) + self.interval

    def time_to_fire(self, now: dt.datetime | None = None) -> dt.timedelta:
        """Return how long it is from ``now`` to the next time."""
        now = self._now() if now is None else self._in_zone(now)
        return self.next(now) - now

    def _now(self) -> dt.datetime:
        return self._in_zone(dt.datetime.now(_UTC))

    def _in_zone(self, moment: dt.datetime) -> dt.datetime:
        """Return a time with a zone where the epoch has one; a time without a zone is in UTC."""
        if self.epoch.tzinfo is None:
            return moment.astimezone(_UTC).replace(tzinfo=None) if moment.tzinfo else moment
        return moment if moment.tzinfo else moment.replace(tzinfo=_UTC)

    def __float__(self) -> float:
        return self.time_to_fire().total_seconds()

    def __str__(self) -> str:
        parts = (self.days, "d"), (self.hours, "h"), (self.minutes, "m"), (self.seconds, "s")
        return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"

    def __repr__(self) -> str:
        return f"Schedule(days={self.days}, hours={self.hours}, minutes={self.minutes}, seconds={self.seconds})"
