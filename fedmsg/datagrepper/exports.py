# SPDX-License-Identifier: LGPL-2.1-or-later
"""All messages of a query as lines of JSON or as CSV, in constant memory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fedmsg._web.written import cell, dump, lines

__all__ = ["as_csv", "as_ndjson"]

_COLUMNS = ("timestamp", "topic", "msg_id", "username", "i", "crypto", "msg")
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
    yield lines([[*columns, *meta]])
    for chunk in chunks:
        yield lines([_row(message, columns, meta) for message in chunk])


def _row(message: dict[str, Any], columns: Sequence[str], meta: Sequence[str]) -> list[str]:
    about = message.get("meta") or {}
    return [_WRITE.get(name, cell)(message.get(name)) for name in columns] + [cell(about.get(name)) for name in meta]


def _time(seconds: Any) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return cell(seconds)


_WRITE: dict[str, Callable[[Any], str]] = {"timestamp": _time}
