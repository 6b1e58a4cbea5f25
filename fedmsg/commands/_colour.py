# SPDX-License-Identifier: LGPL-2.1-or-later
"""JSON in colour for a terminal: the one module that imports pygments."""

from __future__ import annotations

import pygments

# The modules themselves: going through the packages' lists of all lexers and formatters costs more.
from pygments.formatters.terminal import TerminalFormatter
from pygments.lexers.javascript import JavascriptLexer

__all__ = ["paint_json"]

# Its lexer for JSON has another colour for keys than fedmsg 1.x.
_LEXER = JavascriptLexer()
_FORMATTER = TerminalFormatter()


def paint_json(text: str) -> str:
    """Colour a JSON text.

    Args:
        text: The JSON.

    Returns:
        The same with escape sequences for colours, ending in a newline.
    """
    return pygments.highlight(text, _LEXER, _FORMATTER)
