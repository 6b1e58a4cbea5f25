# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows the JSON of a message to people: indented, coloured, and never more than a page can hold."""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import JsonLexer

from fedmsg._util.text import safe_block

__all__ = ["Shown", "show"]

_encoder = json.JSONEncoder(indent=2, ensure_ascii=False, default=str)


class Shown(NamedTuple):
    """JSON in HTML.

    Attributes:
        html: The markup: text that is escaped, in elements with classes and nothing else.
        is_cut: Whether the end is missing.
    """

    html: str
    is_cut: bool


@functools.cache
def _tools() -> tuple[JsonLexer, HtmlFormatter[str]]:
    return JsonLexer(ensurenl=False), HtmlFormatter(nowrap=True)


def show(value: Any, limit: int) -> Shown:
    """Return a value as JSON in HTML.

    Args:
        value: What came out of JSON.
        limit: How many characters are shown at most.
    """
    text, is_cut = _indented(value, limit)
    return Shown(highlight(safe_block(text), *_tools()), is_cut)


def _indented(value: Any, limit: int) -> tuple[str, bool]:
    parts, length = [], 0
    try:
        # Bit by bit: of five megabytes only the beginning is written.
        for part in _encoder.iterencode(value):
            parts.append(part)
            length += len(part)
            if length > limit:
                break
    except (RecursionError, ValueError):
        # Nested too deeply to write it all.
        length = limit + 1
    return "".join(parts)[:limit], length > limit
