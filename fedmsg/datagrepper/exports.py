# SPDX-License-Identifier: LGPL-2.1-or-later
"""All messages of a query as lines of JSON or as CSV, in constant memory."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fedmsg.datagrepper.answers import dump

__all__ = ["as_csv", "as_ndjson"]

_COLUMNS = ("timestamp", "topic", "msg_id", "username", "i", "crypto", "msg")
# What a spreadsheet takes for a formula when a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_Chunks = Iterable[Sequence[dict[str, Any]]]


def as_ndjson(chunks: _Chunks) -> Iterator[str]:
    """Yield messages as lines of JSON."""
    for chunk in chunks:
        yield "".join(f"{dump(message)}\n" for message in chunk)


def as_csv(chunks: _Chunks, fields: Sequence[str], meta: Sequence[str]) -> Iterator[str]:
    """Yield messages as CSV, one line each, in which no cell is a formula.

    Args:
        chunks: The messages.
        fields: The parts that are wanted, in order; the usual ones where there are none.
        meta: What fedmsg.meta made, a column each.
    """
    unwanted = {name[1:] for name in fields if name.startswith("-")}
    columns = [name for name in fields if not name.startswith("-") and name != "meta"] or list(_COLUMNS)
    columns = [name for name in columns if name not in unwanted]
    yield _lines([[*columns, *meta]])
    for chunk in chunks:
        yield _lines([_row(message, columns, meta) for message in chunk])


def _row(message: dict[str, Any], columns: Sequence[str], meta: Sequence[str]) -> list[str]:
    about = message.get("meta") or {}
    return [_WRITE.get(name, _cell)(message.get(name)) for name in columns] + [_cell(about.get(name)) for name in meta]


def _time(seconds: Any) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return _cell(seconds)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = " ".join(value)
    text = value.replace("\x00", "\ufffd") if isinstance(value, str) else dump(value)
    # Half a character can't be written.
    text = text.encode(errors="replace").decode()
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


_WRITE: dict[str, Callable[[Any], str]] = {"timestamp": _time}


def _lines(rows: Iterable[Sequence[str]]) -> str:
    written = io.StringIO()
    # All in quotes: a spreadsheet may take other characters for the end of a cell.
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows(rows)
    return written.getvalue()
