# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which times a consumer has yet to catch up with, noted on disk so that no end of a process forgets them."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmsg._util.files import replace

__all__ = ["Note", "Range", "told"]

# There is one for each start after which datagrepper failed; more are put together.
_MOST_RANGES = 50
# How many messages of a range are known to be handled, at most.
_MOST_DONE = 20_000


@dataclass(eq=False)
class Range:
    """A time, what of it is done, and what is being done.

    Attributes:
        start: Its first second, since the epoch.
        end: Its last.
        done: The ids and times of messages in it that need not be handled any more.
        waiting: Those of messages that were handed over and are not yet handled.
        is_fetched: Whether all of it was handed over.
    """

    start: float
    end: float
    done: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    is_fetched: bool = False
    _position: float = 0.0
    _is_sorted: bool = True

    def take_in(self, other: Range) -> None:
        """Become one with another range, and with what lies between them."""
        self.start = min(self.start, other.start)
        self.end = max(self.end, other.end)
        self.done.update(other.done)
        for msg_id in [*self.done][: max(0, len(self.done) - _MOST_DONE)]:
            del self.done[msg_id]

    def reach(self, when: float) -> None:
        """Tell it the time of a message that was fetched."""
        if when < self._position:
            self._is_sorted = False
        self._position = max(when, self._position)

    def shorten(self) -> None:
        """Begin with the oldest message that is not handled yet, or where the fetching has got to."""
        if self._is_sorted:
            reached = next(iter(self.waiting.values()), self._position)
            self.start = max(self.start, min(reached, self.end))
        self.done = {msg_id: when for msg_id, when in self.done.items() if when >= self.start}

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is missing any more."""
        return self.is_fetched and not self.waiting

    def __str__(self) -> str:
        return f"{told(self.start)} to {told(self.end)}"


def told(when: float) -> str:
    """Write a time for a log, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


class Note:
    """The ranges that are missing, sorted, and the file in which they stand.

    Args:
        path: The file; it is there while something is missing.
        log: Where trouble is told.
    """

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self._path = path
        self._log = log
        self._failing = False
        self.ranges: list[Range] = []
        for one in self._load():
            self._put(one)

    def _load(self) -> list[Range]:
        try:
            found = json.loads(self._path.read_bytes())
            return [_range(one) for one in found["ranges"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            self._log.warning("%s does not say what is missing, and is left out: %r", self._path, error)
            return []

    def add(self, one: Range) -> None:
        """Note one more range, before it is asked for."""
        self._put(one)
        self.save()

    def _put(self, one: Range) -> None:
        apart = []
        for other in self.ranges:
            if other.start <= one.end and one.start <= other.end:
                one.take_in(other)
            else:
                apart.append(other)
        self.ranges = sorted([*apart, one], key=lambda found: found.start)
        while len(self.ranges) > _MOST_RANGES:
            gaps = [after.start - before.end for before, after in zip(self.ranges, self.ranges[1:], strict=False)]
            nearest = gaps.index(min(gaps))
            self.ranges[nearest].take_in(self.ranges.pop(nearest + 1))

    def remove(self, one: Range) -> None:
        """Take a range off that has been caught up with."""
        self.ranges = [other for other in self.ranges if other is not one]
        self.save()

    def save(self) -> None:
        """Write the file; failing to is told in the log."""
        for one in self.ranges:
            one.shorten()
        try:
            if self.ranges:
                rows = [{"start": one.start, "end": one.end, "done": one.done} for one in self.ranges]
                replace(self._path, json.dumps({"ranges": rows}).encode())
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if not self._failing:
                self._log.error("what is missing can't be noted in %s: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False


def _range(row: Any) -> Range:
    start, end, done = row["start"], row["end"], dict(row["done"])
    times = [start, end, *done.values()]
    if not all(type(when) in {int, float} and math.isfinite(when) for when in times) or not 0 <= start <= end:
        raise ValueError(f"{row!r:.200} is no range")
    return Range(start, end, done)
