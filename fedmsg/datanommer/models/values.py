# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the columns of a database can hold of a message that may hold anything."""

from __future__ import annotations

import json
import math
from typing import Any

from fedmsg import encoding
from fedmsg.store.columns import REPLACEMENT, UNSTORABLE, column_text, indexed_text

__all__ = [
    "category_of",
    "column_text",
    "indexed_text",
    "is_kept_by_jsonb",
    "plain_json",
    "searchable",
    "storable",
]

# What JSONB refuses, or turns into something else, and what looks like that.
_SUSPECT = ("e+", "-0.0", "NaN", "Infinity", "\\u0000", "\\ud")
_plain = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=encoding.encoder.default)


def category_of(topic: str) -> str:
    """Return the category of a topic: its fourth word, or the third of a broker's."""
    words = topic.split(".", 5)
    place = 2 if "VirtualTopic" in topic else 3
    return words[place] if len(words) > place else "Unclassified"


# ---------------------------------------------------------------- JSON


def is_kept_by_jsonb(text: str, value: Any) -> bool:
    """Return whether JSONB returns the value of a canonical text unchanged."""
    return not any(one in text for one in _SUSPECT) or _is_kept(value)


def _is_kept(value: Any) -> bool:
    if isinstance(value, str):
        return UNSTORABLE.search(value) is None
    if isinstance(value, float):
        text = repr(value)
        return "e+" not in text and text[-1].isdigit() and text != "-0.0"
    if isinstance(value, dict):
        return all(_is_kept(key) and _is_kept(item) for key, item in value.items())
    return all(map(_is_kept, value)) if isinstance(value, list) else True


def storable(value: Any) -> Any:
    """Return a value without what a database can't hold: it serves queries alone."""
    if isinstance(value, str):
        return UNSTORABLE.sub(REPLACEMENT, value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return list(map(storable, value)) if isinstance(value, (list, tuple)) else value


def plain_json(value: Any) -> str:
    """Write JSON in which every character stands for itself, for a column that is searched as text."""
    return _plain.encode(value)


def searchable(text: str) -> str:
    """Return canonical JSON with the characters themselves."""
    return plain_json(encoding.loads(text))
