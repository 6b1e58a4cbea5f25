# SPDX-License-Identifier: LGPL-2.1-or-later
"""Laying one set of values over another, and remembering which of them came from where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["COMMAND_LINE", "DEFAULT", "DERIVED", "Origin", "Origins", "flat", "lay_over", "lines"]


class Origin(NamedTuple):
    """Where a value came from.

    Attributes:
        layer: The layer.
        path: The file, when it was one.
    """

    layer: str
    path: str | None = None


DEFAULT = Origin("default")
DERIVED = Origin("made from topic_prefix")
COMMAND_LINE = Origin("command line")

#: The origin of each key; of the keys inside it too where a dict has several origins.
Origins = dict[str, Any]


def lay_over(below: dict[str, Any], origins: Origins, above: Mapping[str, Any], origin: Origin) -> None:
    """Lay values over others: dicts are merged key by key, all else is replaced.

    Args:
        below: The values so far; changed in place. Its dicts are its own.
        origins: Where each of them came from; changed in place.
        above: The values to lay over them.
        origin: Where these come from.
    """
    for key, value in above.items():
        old = below.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = origins[key]
            if isinstance(inner, Origin):
                inner = dict.fromkeys(old, inner)
            lay_over(old, inner, value, origin)
            # One origin for the whole dict, as long as there is but one.
            first = next(iter(inner.values()), origin)
            is_one = isinstance(first, Origin) and all(one == first for one in inner.values())
            origins[key] = first if is_one else inner
        else:
            below[key] = _own(value)
            origins[key] = origin


def _own(value: Any) -> Any:
    """Copy the dicts in a value, and nothing else: a store or an engine can't be copied."""
    return {key: _own(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def flat(origins: Any) -> Iterator[Origin]:
    """Yield every origin of a value.

    Args:
        origins: Its origin, or the origins of what is in it.
    """
    if isinstance(origins, Origin):
        yield origins
    else:
        for inner in origins.values():
            yield from flat(inner)


def lines(origins: Origins, prefix: str = "") -> Iterator[tuple[str, Origin]]:
    """Yield every key with its origin, and the keys inside a dict that has several.

    Args:
        origins: The origins.
        prefix: What to put before each key.
    """
    for key, origin in origins.items():
        if isinstance(origin, Origin):
            yield f"{prefix}{key}", origin
        else:
            yield from lines(origin, f"{prefix}{key}.")
