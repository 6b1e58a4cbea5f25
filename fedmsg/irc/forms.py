# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forms in which a bot sends a message."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg import encoding, meta
from fedmsg.irc import text

__all__ = ["doubtful", "in_colour", "in_words", "paint_json", "whole"]

# The width of the column of topics.
_TOPIC_WIDTH = 30
# Long, and of no use to a reader.
_CREDENTIALS = ("signature", "certificate", "crypto")


def in_colour(title: str, subtitle: str, link: str, config: Mapping[str, Any]) -> str:
    """Return a line with title and link in colour."""
    title, subtitle, link = text.harmless(title), text.harmless(subtitle), text.harmless(link)
    heading = text.painted(title, text.colour_of(title, config))
    return f"{heading} -- {subtitle} {text.painted(link, 'teal') if link else ''}"


def in_words(
    envelope: Any, config: Mapping[str, Any], *, colours: bool, shorten: Callable[[str], str] | None = None
) -> str:
    """Return a message in English; ``shorten`` makes its link shorter."""
    title, subtitle, link = map(text.harmless, meta.parts(envelope, config))
    if link and shorten is not None:
        link = shorten(link)
    return in_colour(title, subtitle, link, config) if colours else f"{title} -- {subtitle} {link}"


def whole(topic: str, envelope: Mapping[str, Any], *, colours: bool) -> str:
    """Return a message as it is: topic and envelope."""
    shown = {key: value for key, value in envelope.items() if key != "topic" and key not in _CREDENTIALS}
    stamp = shown.get("timestamp")
    if isinstance(stamp, (int, float)):
        # It may be any number.
        with contextlib.suppress(ValueError, OverflowError, OSError):
            shown["timestamp"] = time.ctime(stamp)
    if colours:
        shown_text: str = paint_json(text.harmless(encoding.dumps(shown)))
    else:
        shown_text = text.harmless(repr(shown))
    return f"{text.harmless(topic):<{_TOPIC_WIDTH}} {shown_text}"


def doubtful(topic: str, doubt: str, config: Mapping[str, Any], *, colours: bool, terse: bool) -> str:
    """Return a line about a message that is not trusted: the topic and why, and nothing of its content."""
    if not terse:
        return f"{text.harmless(topic):<{_TOPIC_WIDTH}} {doubt}"
    return in_colour(topic, doubt, "", config) if colours else f"{text.harmless(topic)} -- {doubt} "


# Bold, italic, underlined: JSON that was cut off is an error to the lexer, and would be in italics.
_OTHER_FORMATS = re.compile("[\x02\x0f\x16\x1d\x1f]")


@functools.cache
def _highlight() -> Callable[[str], str]:
    """Return the highlighter of pygments, which is imported on first use."""
    import pygments
    from pygments.formatters.irc import IRCFormatter
    from pygments.lexers.data import JsonLexer

    lexer, formatter = JsonLexer(), IRCFormatter()
    return lambda line: str(pygments.highlight(line, lexer, formatter))


def paint_json(line: str) -> str:
    """Return JSON, which is on one line, in the colours of mIRC."""
    return _OTHER_FORMATS.sub("", _highlight()(line)).strip()
