# SPDX-License-Identifier: LGPL-2.1-or-later
"""The known key that a misspelt one was meant to be."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["nearest"]


def nearest(word: str, known: Collection[str]) -> str | None:
    """Find the one of some names that a word is probably a misspelling of.

    Plugins have keys of their own, so that a word has to come quite near: one slip in a
    word of five letters, up to three in a long one.

    Args:
        word: The word, which is none of the names.
        known: The names.

    Returns:
        The nearest name, or None when none is near.
    """
    plain = _plain(word)
    limit = 0 if len(word) < 5 else 1 if len(word) < 9 else 2 if len(word) < 16 else 3
    best, slips = None, limit + 1
    for name in known:
        candidate = _plain(name)
        # Cheap to see, and so of nearly all pairs: lengths or letters differ by too much.
        if abs(len(plain) - len(candidate)) > limit or len(set(plain) ^ set(candidate)) > 2 * limit:
            continue
        found = _slips(plain, candidate, slips - 1)
        if found < slips:
            best, slips = name, found
    return best


def _plain(word: str) -> str:
    """Even out what is only a matter of style."""
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
