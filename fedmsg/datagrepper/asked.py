# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a request asks for: its time, filters and pages."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fedmsg._web.arguments import BadArgument
from fedmsg.datagrepper import arguments

__all__ = ["FILTERS", "Asked", "Cursor"]

FILTERS = ("user", "package", "category", "topic", "agent", "contains", "where")
_FAR_AWAY = 1e12
_CONTAINS_DAYS = 32 * 7


class Cursor(NamedTuple):
    """Where a page begins: at a place of one order, within the time that the first page had."""

    order: str
    place: str
    start: float | None
    end: float | None

    def __str__(self) -> str:
        written = json.dumps(list(self), separators=(",", ":"))
        return base64.urlsafe_b64encode(written.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Return what a text writes.

        Raises:
            BadArgument: It is no cursor.
        """
        try:
            written = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            order, place, start, end = json.loads(written)
        except (ValueError, TypeError, binascii.Error, RecursionError):
            order, place, start, end = "", "", None, None
        is_time = all(one is None or (type(one) is float and abs(one) < _FAR_AWAY) for one in (start, end))
        if (
            order not in ("asc", "desc")
            or not isinstance(place, str)
            or not is_time
            or (start is None) != (end is None)
        ):
            raise BadArgument("cursor", "it is not the cursor of an answer")
        return cls(order, place, start, end)


@dataclass
class Asked:
    """A request for messages.

    Attributes:
        given: The arguments.
        start: The beginning of its time in seconds since 1970, or None.
        end: The end.
        delta: The seconds between them, or as they were given.
        cursor: Where the page begins, or None.
    """

    given: Mapping[str, Any]
    start: float | None
    end: float | None
    delta: float | None
    cursor: Cursor | None

    @classmethod
    def of(cls, given: Mapping[str, Any], *, default_delta: float | None = None, has_page: bool = False) -> Asked:
        """Return what arguments ask for.

        Args:
            given: The arguments.
            default_delta: How many seconds are meant where the request names no time.
            has_page: Whether the request names a page.

        Raises:
            BadArgument: They contradict each other.
        """
        start, end, delta = _times(given, default_delta)
        cursor = Cursor.read(given["cursor"]) if given.get("cursor") else None
        if cursor is not None:
            if has_page:
                raise BadArgument("cursor", "it goes without page")
            start, end = cursor.start, cursor.end
        return cls(given, start, end, delta, cursor)

    def check_contains(self) -> None:
        """Reject a search in the text of too many messages.

        Raises:
            BadArgument: It has no start, or one too long ago, or neither a topic nor a category.
        """
        if not self.given["contains"]:
            return
        if self.start is None or self.start < time.time() - _CONTAINS_DAYS * 86400:
            raise BadArgument("contains", "it needs a start (or delta) within the last 32 weeks")
        if not self.given["topic"] and not self.given["category"]:
            raise BadArgument("contains", "it needs a topic or a category, too")

    @property
    def order(self) -> str:
        """The order of time."""
        return self.cursor.order if self.cursor is not None else str(self.given["order"])

    def filters(self) -> dict[str, list[str]]:
        """Return the filters by the names that they have in an answer."""
        return {
            negation + arguments.plural(name): self.given[negation + name]
            for negation in ("", "not_")
            for name in FILTERS
        }

    def shown(self) -> dict[str, Any]:
        """Return the arguments as an answer has them."""
        # Programs know exactly these; what is new is there when it was asked for.
        filters = {name: value for name, value in self.filters().items() if value or not name.endswith("where")}
        return {
            "start": self.start, "end": self.end, "delta": self.delta, **filters,
            "page": self.given["page"], "rows_per_page": self.given["rows_per_page"], "order": self.order,
            "meta": self.given["meta"], "grouped": self.given.get("grouped", False),
        }  # fmt: skip


def _times(given: Mapping[str, Any], default_delta: float | None) -> tuple[float | None, float | None, float | None]:
    """Return start, end and delta; two of them make the third."""
    start, end, delta = given["start"], given["end"], given["delta"]
    now = time.time()
    if start is None and end is None:
        delta = default_delta if delta is None else delta
        if delta is None:
            return None, None, None
        end = now
    if end is None:
        end = start + delta if delta is not None else now
    elif start is None:
        delta = default_delta if delta is None else delta
        # Nothing is stored that is older.
        start = end - delta if delta is not None else 0.0
    return start, end, end - start
