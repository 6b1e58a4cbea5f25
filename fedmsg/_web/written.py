# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values as JSON and as CSV, whatever they hold: every answer can be read, and no cell is a formula."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["cell", "dump", "lines"]

# What a spreadsheet takes for a formula when a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: sets in order, no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=str)
    return list(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _default(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, (set, frozenset)) else str(value)


_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_default)


def dump(value: Any) -> str:
    """Write JSON in ASCII; what is no number is null."""
    try:
        return _encoder.encode(value)
    except ValueError:
        return _encoder.encode(_plain(value))


def cell(value: Any) -> str:
    """Write a value for a cell of a table, which no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = " ".join(value)
    text = value.replace("\x00", "\ufffd") if isinstance(value, str) else dump(value)
    # Half a character can't be written.
    text = text.encode(errors="replace").decode()
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def lines(rows: Iterable[Sequence[str]]) -> str:
    """Write rows of cells as CSV."""
    written = io.StringIO()
    # All in quotes: a spreadsheet may take other characters for the end of a cell.
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows(rows)
    return written.getvalue()
