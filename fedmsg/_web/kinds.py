# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of value that an argument of a request may have: how its text is read, and its JSON schema."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fedmsg.filters import Term

__all__ = [
    "Kind",
    "boolean",
    "checked",
    "choice",
    "condition",
    "identifier",
    "moment",
    "number",
    "text",
    "whole",
    "words",
]

_LONGEST_TEXT = 4000
_LONGEST_PATH = 12
_MOST_WORDS = 30
# No database takes these.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_IDENTIFIER = r"[A-Za-z_$][A-Za-z0-9_$]*(\.[A-Za-z_$][A-Za-z0-9_$]*)*"
_LONGEST_IDENTIFIER = 200
# The plus of a zone that was not escaped in an address arrives as a blank.
_ZONE = re.compile(r" (\d\d:?\d\d)$")
_EARLIEST = dt.datetime(1, 1, 2, tzinfo=dt.timezone.utc).timestamp()
_LATEST = dt.datetime(9999, 12, 30, tzinfo=dt.timezone.utc).timestamp()
_YES = ("true", "yes", "on", "y", "t", "1")
_NO = ("false", "no", "off", "n", "f", "0")


class Kind(NamedTuple):
    """A kind of value.

    Attributes:
        read: Returns the value that a text writes; ValueError carries the reason why it writes none.
        schema: Its JSON schema.
    """

    read: Callable[[str], Any]
    schema: Mapping[str, Any]


def checked(value: str) -> str:
    """Return what a request has given, unless no message can have it; the work that follows is bounded by its length.

    Raises:
        ValueError: It is too long, or has characters that no message has.
    """
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"it has more than {_LONGEST_TEXT} characters")
    if _UNSTORABLE.search(value):
        raise ValueError("it has characters that no message has: NUL or half a character")
    return value


def _condition(value: str) -> str:
    term = Term(value)
    if term.is_pattern:
        raise ValueError(f"{value[:80]!r}: regular expressions can't be searched for in the history")
    if len(term.path) > _LONGEST_PATH:
        raise ValueError(f"its path has more than {_LONGEST_PATH} keys")
    return value


text = Kind(str, {"type": "string", "maxLength": _LONGEST_TEXT})


def _words(value: str) -> str:
    # A phrase is looked for from each word of a message on.
    if len(value.split()) > _MOST_WORDS:
        raise ValueError(f"it has more than {_MOST_WORDS} words")
    return value


#: Words to search for.
words = Kind(_words, text.schema)

#: A condition on a field of a message, see `fedmsg.filters.Term`.
condition = Kind(_condition, text.schema)


def _finite(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        raise ValueError(f"{value[:80]!r} is not a number") from None
    if not math.isfinite(found):
        raise ValueError(f"{value[:80]!r} is not a finite number")
    return found


def number(low: float, high: float) -> Kind:
    """Return the kind of numbers between two."""

    def read(value: str) -> float:
        found = _finite(value)
        if not low <= found <= high:
            raise ValueError(f"{value[:80]} is not between {low:g} and {high:g}")
        return found

    return Kind(read, {"type": "number", "minimum": low, "maximum": high})


def whole(low: int, high: int) -> Kind:
    """Return the kind of whole numbers between two."""

    def read(value: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
            raise ValueError(f"{value[:80]!r} is not a whole number")
        found = int(value)
        if not low <= found <= high:
            raise ValueError(f"{found} is not between {low} and {high}")
        return found

    return Kind(read, {"type": "integer", "minimum": low, "maximum": high})


def _boolean(value: str) -> bool:
    word = value.strip().lower()
    if word not in _YES and word not in _NO:
        raise ValueError(f"{value[:80]!r} is neither true nor false")
    return word in _YES


boolean = Kind(_boolean, {"type": "string", "enum": [*_YES, *_NO]})


def choice(*values: str) -> Kind:
    """Return the kind of a few texts."""

    def read(value: str) -> str:
        if value not in values:
            raise ValueError(f"{value[:80]!r} is none of {', '.join(values)}")
        return value

    return Kind(read, {"type": "string", "enum": list(values)})


def _moment(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = _iso(value)
    if not _EARLIEST <= found <= _LATEST:
        raise ValueError(f"{value[:80]} is not a time of the years 1 to 9999")
    return found


def _iso(value: str) -> float:
    written = value.strip()
    if "T" in written:
        written = _ZONE.sub(r"+\1", written)
    if written[-1:] in {"Z", "z"}:
        written = f"{written[:-1]}+00:00"
    try:
        found = dt.datetime.fromisoformat(written)
        return (found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        reason = f"{value[:80]!r} is no time: write seconds since 1970, or 2026-11-30T12:00:00+00:00"
        raise ValueError(reason) from None


#: Seconds since 1970, or ISO 8601; without a zone it is in UTC.
moment = Kind(_moment, {"type": "string"})


def _identifier(value: str) -> str:
    if len(value) > _LONGEST_IDENTIFIER or not re.fullmatch(_IDENTIFIER, value):
        raise ValueError("it is not the name of a function: letters, digits, _ and $, with dots between names")
    return value


identifier = Kind(_identifier, {"type": "string", "pattern": f"^{_IDENTIFIER}$", "maxLength": _LONGEST_IDENTIFIER})


def list_of(kind: Kind, choices: Sequence[str]) -> Kind:
    """Return the kind of texts that are lists with commas, of a few names each."""

    def read(value: str) -> list[str]:
        return [kind.read(part.strip()) for part in value.split(",") if part.strip()]

    return Kind(read, {"type": "string", "examples": list(choices)[:2]})
