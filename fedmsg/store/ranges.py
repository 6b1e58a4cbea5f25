# SPDX-License-Identifier: LGPL-2.1-or-later
"""The times that a consumer has not yet caught up with, on disk, so that no end of a process loses them."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmsg._util import files
from fedmsg.store.recovery import is_time, time_text

__all__ = ["PendingRanges", "Range"]

# There is one range for each start after which datagrepper failed; more than these are joined.
_RANGES_MAX = 50
# How many messages of a range are remembered as handled.
_DONE_MAX = 20_000
# More than a file with as many as that.
_FILE_MAX_BYTES = 128 * 1024 * 1024


@dataclass(eq=False)
class Range:
    """A time, what of it was handled, and what is in flight."""

    start: float
    end: float
    done: dict[str, float] = field(default_factory=dict)
    in_flight: dict[str, float] = field(default_factory=dict)
    is_fetched: bool = False
    _position: float = 0.0
    _is_sorted: bool = True

    def join(self, other: Range) -> None:
        """Extend it by another range and what lies between them."""
        self.start = min(self.start, other.start)
        self.end = max(self.end, other.end)
        self.done.update(other.done)
        for key in [*self.done][: max(0, len(self.done) - _DONE_MAX)]:
            del self.done[key]

    def advance(self, when: object) -> float:
        """Count a message that was fetched."""
        if not is_time(when, self.end) or when < self.start:
            return max(self._position, self.start)
        if when < self._position:
            self._is_sorted = False
        self._position = max(when, self._position)
        return when

    def shorten(self) -> None:
        """Move its start to the oldest message not handled yet, or to where the fetching has got."""
        if self._is_sorted:
            reached = next(iter(self.in_flight.values()), self._position)
            self.start = max(self.start, min(reached, self.end))
        self.done = {key: when for key, when in self.done.items() if when >= self.start}

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is missing any more."""
        return self.is_fetched and not self.in_flight

    def __str__(self) -> str:
        return f"{time_text(self.start)} to {time_text(self.end)}"


class PendingRanges:
    """The ranges that are missing, sorted, and the file that lists them."""

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self._path = path
        self._log = log
        self._failing = False
        self.ranges: list[Range] = []
        for one in self._load():
            self._put(one)

    def _load(self) -> list[Range]:
        try:
            found = json.loads(files.read_trusted(self._path, _FILE_MAX_BYTES))
            return [_range(one) for one in found["ranges"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            self._log.warning("%s can't be used, what it lists as missing is not caught up: %r", self._path, error)
            return []

    def add(self, one: Range) -> None:
        """Add a range, before it is asked for."""
        self._put(one)
        self.save()

    def _put(self, one: Range) -> None:
        apart = []
        for other in self.ranges:
            if other.start <= one.end and one.start <= other.end:
                one.join(other)
            else:
                apart.append(other)
        self.ranges = sorted([*apart, one], key=lambda found: found.start)
        while len(self.ranges) > _RANGES_MAX:
            gaps = [after.start - before.end for before, after in zip(self.ranges, self.ranges[1:], strict=False)]
            nearest = gaps.index(min(gaps))
            self.ranges[nearest].join(self.ranges.pop(nearest + 1))

    def remove(self, one: Range) -> None:
        """Remove a range that has been caught up with."""
        self.ranges = [other for other in self.ranges if other is not one]
        self.save()

    def save(self) -> None:
        """Write the file; an error is logged."""
        for one in self.ranges:
            one.shorten()
        try:
            if self.ranges:
                rows = [{"start": one.start, "end": one.end, "done": one.done} for one in self.ranges]
                files.replace(self._path, json.dumps({"ranges": rows}).encode())
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if not self._failing:
                self._log.error("what is missing can't be written to %s: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False


def _range(row: Any) -> Range:
    start, end, done = row["start"], row["end"], dict(row["done"])
    times = [start, end, *done.values()]
    if not all(type(when) in {int, float} and math.isfinite(when) for when in times) or not 0 <= start <= end:
        raise ValueError(f"{row!r:.200} is no range")
    return Range(start, end, done)
