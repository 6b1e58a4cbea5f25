# SPDX-License-Identifier: LGPL-2.1-or-later
"""JSON in the colours of mIRC: imports pygments."""

from __future__ import annotations

import re

import pygments
from pygments.formatters.irc import IRCFormatter
from pygments.lexers.data import JsonLexer

__all__ = ["paint"]

_LEXER, _FORMATTER = JsonLexer(), IRCFormatter()

# Bold, italic, underlined: what was cut off is no JSON to the lexer, and would be in italics.
_OTHER_FORMATS = re.compile("[\x02\x0f\x16\x1d\x1f]")


def paint(text: str) -> str:
    """Colour JSON.

    Args:
        text: The JSON, on one line.
    """
    return _OTHER_FORMATS.sub("", pygments.highlight(text, _LEXER, _FORMATTER)).strip()
