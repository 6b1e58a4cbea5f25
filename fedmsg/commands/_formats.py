# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a message is shown. Its text is data: no control character of it reaches a terminal raw."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import fedmsg
from fedmsg import utils
from fedmsg._util import plugins
from fedmsg._util.text import safe_block, safe_line
from fedmsg.exceptions import UsageError

__all__ = ["Formatter", "choose"]

Envelope = Mapping[str, Any]
Formatter = Callable[[Envelope], str]

_CREDENTIALS = frozenset(["signature", "certificate"])
# The time to lay out a message, and the length of what comes out, grow with its size times its depth.
# This many bytes times levels take a quarter of a second; a person reads less.
_MOST = 1_000_000
_DEEPEST = 200
# More of it is not read, and a message may be 16 MiB. In characters.
_LONGEST = 4096
# How wide the column of titles gets.
_WIDEST = 32

_TITLE, _LINK, _END = "\x1b[36m", "\x1b[34m", "\x1b[39m"


def choose(config: Mapping[str, Any]) -> Formatter:
    """Return the function that makes a message's text, by the flags of a command; an empty text is not shown.

    Raises:
        UsageError: The format can't be had.
    """
    colour = config.get("color") or "auto"
    chosen: Formatter = repr
    # Of several the last one wins, in this order, as in fedmsg 1.x.
    if config.get("json"):
        chosen = _paint_line if colour == "always" else _json
    if config.get("pretty"):
        chosen = _pretty
    if config.get("really_pretty"):
        colourless = colour == "never" or (colour == "auto" and os.environ.get("NO_COLOR"))
        chosen = _really_pretty if colourless else _paint
    if config.get("query"):
        chosen = _queried(config["query"])
    if config.get("terse"):
        chosen = _terse(config, colour)
    if config.get("cowsay"):
        chosen = _cowsay(config)
    return chosen


def _ascii_json(text: str) -> str:
    # The json module escapes everything else that a terminal could obey. In JSON this
    # character can only stand in a string, where the escape means the same.
    return text.replace("\x7f", "\\u007f")


def _json(envelope: Envelope) -> str:
    return _ascii_json(fedmsg.encoding.dumps(envelope))


def _paint_line(envelope: Envelope) -> str:
    if _is_too_much(envelope):
        return _json(envelope)
    return _highlighter()(_json(envelope))


@functools.cache
def _highlighter() -> Callable[[str], str]:
    """Return a function that colours JSON for a terminal."""
    pygments = plugins.lazy("colour")
    # The modules themselves: going through the packages' lists of all lexers and formatters costs more.
    from pygments.formatters.terminal import TerminalFormatter
    from pygments.lexers.javascript import JavascriptLexer

    # Its lexer for JSON has another colour for keys than fedmsg 1.x.
    lexer, formatter = JavascriptLexer(), TerminalFormatter()
    return lambda text: str(pygments.highlight(text, lexer, formatter)).rstrip("\n")


def _is_too_much(envelope: Envelope) -> bool:
    """Return whether a message is too large, or too deep, to be laid out over several lines."""
    size = len(fedmsg.encoding.dumps(envelope))
    return size * _DEEPEST > _MOST and size * _depth(envelope) > _MOST


def _depth(value: object) -> int:
    if isinstance(value, Mapping):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _pretty(envelope: Envelope) -> str:
    shown = _without_credentials(envelope)
    if _is_too_much(shown):
        return "\n" + repr(shown)
    if isinstance(shown.get("timestamp"), (int, float)):
        # One that no clock can show stays the number that it is.
        with contextlib.suppress(ValueError, OverflowError, OSError):
            shown["timestamp"] = time.ctime(shown["timestamp"])
    # Costs 3 ms, and few need it.
    import pprint

    return "\n" + pprint.pformat(shown)


def _really_pretty(envelope: Envelope) -> str:
    shown = _without_credentials(envelope)
    return "\n" + (_json(shown) if _is_too_much(shown) else _ascii_json(fedmsg.encoding.pretty_dumps(shown)))


def _paint(envelope: Envelope) -> str:
    if _is_too_much(envelope):
        return _really_pretty(envelope)
    return "\n" + _highlighter()(_really_pretty(envelope)[1:])


def _without_credentials(envelope: Envelope) -> dict[str, Any]:
    return {key: value for key, value in envelope.items() if key not in _CREDENTIALS}


def _queried(query: str) -> Formatter:
    def show(envelope: Envelope) -> str:
        # One line for each message: a value with a newline in it could forge the next one.
        return ", ".join(safe_line(str(value)) for value in utils.dict_query(envelope, query).values())

    return show


def _cowsay(config: Mapping[str, Any]) -> Formatter:
    terse = _terse(config, "never", for_terminal=False)

    def show(envelope: Envelope) -> str:
        output, error = utils.cowsay_output(terse(envelope).lstrip("\n"))
        if not output:
            raise UsageError(f"--cowsay: {error.decode(errors='replace').strip() or 'cowsay printed nothing'}")
        return "\n" + safe_block(output.decode(errors="replace").rstrip("\n"))

    return show


def _terse(config: Mapping[str, Any], colour: str, for_terminal: bool | None = None) -> Callable[[Envelope], str]:
    """Return the format of ``--terse``: plain as in fedmsg 1.x, or in columns on a terminal."""
    fedmsg.meta.make_processors(**config)
    if for_terminal is None:
        for_terminal = colour == "always" or (sys.stdout is not None and sys.stdout.isatty())
    if not for_terminal:
        return lambda envelope: "\n" + _plain(envelope, config)
    painted = colour == "always" or (colour == "auto" and not os.environ.get("NO_COLOR"))
    return _Columns(config, painted).show


def _plain(envelope: Envelope, config: Mapping[str, Any]) -> str:
    return _short("{} -- {} {}".format(*fedmsg.meta.parts(envelope, config)))


def _short(text: str) -> str:
    """Make one line of a text, cut to what a person reads."""
    return safe_line(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


class _Columns:
    """Lines whose texts begin at the same place, as far as titles are not too different."""

    def __init__(self, config: Mapping[str, Any], painted: bool) -> None:
        self._config = config
        self._colours = (_TITLE, _LINK, _END) if painted else ("", "", "")
        self._width = 0

    def show(self, envelope: Envelope) -> str:
        """Return the line of a message, after an empty one."""
        title, summary, link = map(_short, fedmsg.meta.parts(envelope, self._config))
        self._width = min(max(self._width, len(title)), _WIDEST)
        in_title, in_link, end = self._colours
        line = f"{in_title}{title:<{self._width}}{end}  {summary}"
        return f"\n{line}  {in_link}{link}{end}" if link else f"\n{line}"
