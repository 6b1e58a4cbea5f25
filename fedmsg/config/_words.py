# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys, values and paths as text for people: in one harmless line of a message, or as JSON."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Collection
from typing import Any

from fedmsg._util.text import safe_line
from fedmsg.exceptions import ConfigError

__all__ = ["clip", "current_folder", "did_you_mean", "plain", "to_json", "user_words", "value_words"]

_LONGEST = 200


def clip(text: str, longest: int = _LONGEST) -> str:
    """Return one harmless line of a text, cut when it is long."""
    line = safe_line(text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 3] + "..."


def value_words(value: Any) -> str:
    """Return a configured value as Python writes it, cut when it is long."""
    try:
        words = repr(value)
    except Exception as error:  # noqa: BLE001 the class is the administrator's own and may fail in any way
        words = f"<{type(value).__name__} without a repr: {type(error).__name__}>"
    return clip(words, 60)


def user_words(number: int) -> str:
    """Return the name of a user, or the number when it has no name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"the user {number}"


def current_folder() -> str | None:
    """Return the current folder, or None when it was deleted under us."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def plain(value: Any) -> Any:
    """Return a value as what JSON and YAML can hold; what is no data becomes the text that Python shows for it.

    Raises:
        ConfigError: It contains itself.
    """
    try:
        return _plain(value)
    except RecursionError as error:
        raise ConfigError("the configuration has a value that contains itself, which can't be printed") from error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(inner) for inner in value), key=str)
    return str(value) if type(value).__module__ == "datetime" else repr(value)


def to_json(value: Any) -> str:
    """Write a value as JSON for people: indented, keys in their own order."""
    return json.dumps(plain(value), indent=2)


def did_you_mean(word: str, known: Collection[str]) -> str | None:
    """Find the one of some names that a word is probably a misspelling of.

    Plugins have keys of their own, so that a word has to come quite near: one slip in a
    word of five letters, up to three in a long one.
    """
    # Not by difflib: it rates two swapped letters in a key of six lower than some keys of plugins, which must
    # not match, so that no cutoff separates them.
    even = _even(word)
    limit = 0 if len(word) < 5 else 1 if len(word) < 9 else 2 if len(word) < 16 else 3
    best, slips = None, limit + 1
    for name in known:
        candidate = _even(name)
        # Cheap to see, and so of nearly all pairs: lengths or letters differ by too much.
        if abs(len(even) - len(candidate)) > limit or len(set(even) ^ set(candidate)) > 2 * limit:
            continue
        found = _slips(even, candidate, slips - 1)
        if found < slips:
            best, slips = name, found
    return best


def _even(word: str) -> str:
    """Remove differences of style."""
    return word.casefold().replace("-", "_")


def _slips(one: str, other: str, limit: int) -> int:
    """Count the letters that are missing, superfluous, wrong or swapped with their neighbour.

    Counting ends above the limit.
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, counterpart in enumerate(other, 1):
            count = min(last[column] + 1, current[-1] + 1, last[column - 1] + (letter != counterpart))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == counterpart:
                count = min(count, before[column - 2] + 1)
            current.append(count)
        if min(current) > limit:
            return limit + 1
        before, last = last, current
    return last[-1]
