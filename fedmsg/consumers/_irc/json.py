# SPDX-License-Identifier: LGPL-2.1-or-later
"""JSON in the colours of mIRC: imports pygments."""

from __future__ import annotations

import pygments
from pygments.formatters.irc import IRCFormatter
from pygments.lexers.data import JsonLexer

__all__ = ["paint"]

_LEXER, _FORMATTER = JsonLexer(), IRCFormatter()


def paint(text: str) -> str:
    """Colour JSON.

    Args:
        text: The JSON, on one line.
    """
    return pygments.highlight(text, _LEXER, _FORMATTER).strip()
