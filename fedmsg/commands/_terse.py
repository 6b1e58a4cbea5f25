# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message as one line of English: what ``--terse`` prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg import meta
from fedmsg._util.text import safe_line

__all__ = ["choose"]

Envelope = Mapping[str, Any]

# More of it is not read, and a message may be 16 MiB. In characters.
_LONGEST = 4096
# How wide the column of titles gets.
_WIDEST = 32

_TITLE, _LINK, _END = "\x1b[36m", "\x1b[34m", "\x1b[39m"


def choose(config: Mapping[str, Any], colour: str, for_terminal: bool | None = None) -> Callable[[Envelope], str]:
    """Give the format: plain as in fedmsg 1.x, or in columns on a terminal.

    Args:
        config: The configuration.
        colour: ``auto``, ``always`` or ``never``.
        for_terminal: Whether it is for a terminal; as standard output is by default.
    """
    meta.make_processors(**config)
    if for_terminal is None:
        for_terminal = colour == "always" or (sys.stdout is not None and sys.stdout.isatty())
    if not for_terminal:
        return lambda envelope: "\n" + _plain(envelope, config)
    painted = colour == "always" or (colour == "auto" and not os.environ.get("NO_COLOR"))
    return _Columns(config, painted).show


def _plain(envelope: Envelope, config: Mapping[str, Any]) -> str:
    return _harmless("{} -- {} {}".format(*meta.parts(envelope, config)))


def _harmless(text: str) -> str:
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    line: str = safe_line(short)
    return line


class _Columns:
    """Lines whose texts begin at the same place, as far as titles are not too different.

    Args:
        config: The configuration.
        painted: Whether they are in colour.
    """

    def __init__(self, config: Mapping[str, Any], painted: bool) -> None:
        self._config = config
        self._colours = (_TITLE, _LINK, _END) if painted else ("", "", "")
        self._width = 0

    def show(self, envelope: Envelope) -> str:
        """Give the line of a message, after an empty one."""
        title, said, link = map(_harmless, meta.parts(envelope, self._config))
        self._width = min(max(self._width, len(title)), _WIDEST)
        in_title, in_link, end = self._colours
        line = f"{in_title}{title:<{self._width}}{end}  {said}"
        return f"\n{line}  {in_link}{link}{end}" if link else f"\n{line}"
