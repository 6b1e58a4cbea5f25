# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text for IRC: harmless, in colour, in the forms of a message, and in pieces that fit into a line of the protocol."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg import encoding, meta
from fedmsg._util.text import safe_line

__all__ = [
    "COLOURS",
    "LONGEST",
    "colour_of",
    "cut",
    "doubtful",
    "harmless",
    "in_colour",
    "in_words",
    "painted",
    "plain",
    "room",
    "whole",
    "wire_safe",
]

#: The colours by name, with their numbers in mIRC.
COLOURS = {
    "white": 0, "black": 1, "blue": 2, "green": 3, "red": 4, "brown": 5, "purple": 6, "orange": 7, "yellow": 8,
    "light green": 9, "teal": 10, "light cyan": 11, "light blue": 12, "pink": 13, "grey": 14, "light grey": 15,
}  # fmt: skip

#: How many characters of one text are sent; a message may be 16 MiB.
LONGEST = 2000

# The protocol's limit for a line with its end, counted in bytes.
_LINE = 512
# The width of the column of topics.
_TOPIC_WIDTH = 30
# Long, and of no use to a reader.
_CREDENTIALS = ("signature", "certificate", "crypto")

_COLOUR = "\x03"
_PAINT = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?")
# A colour and the character after it stay together: cut in two, its digits would be read as text.
_ATOMS = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?.?|.", re.DOTALL)
_BREAKS = re.compile("[\t-\r\x85\u2028\u2029]+")
# What ends a line or a word of the protocol, or begins a request from client to client (CTCP).
_FORBIDDEN = re.compile("[\x00\x01\r\n]+")
# Bold, italic, underlined: JSON that was cut off is an error to the lexer, and would be in italics.
_OTHER_FORMATS = re.compile("[\x02\x0f\x16\x1d\x1f]")


def harmless(value: Any) -> str:
    r"""Make the text of anything fit to be sent.

    It becomes one line of at most `LONGEST` characters, in which line breaks are blanks and every other
    control character is spelt out, such as ``\x03``: it can't fake a colour or a line.
    """
    text = str(value)
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return safe_line(_BREAKS.sub(" ", text))


def colour_of(title: str, config: Mapping[str, Any]) -> str:
    """Return what ``irc_color_lookup`` has for the first word of a title, else ``irc_default_color``."""
    lookup = config.get("irc_color_lookup") or {}
    first = title.partition(".")[0]
    for word in (first, first.partition(" ")[0]):
        if lookup.get(word) in COLOURS:
            return str(lookup[word])
    default = config.get("irc_default_color")
    return default if default in COLOURS else "light grey"


def painted(text: str, colour: str) -> str:
    """Return harmless text in a colour, which is a name from `COLOURS`."""
    number = str(COLOURS[colour])
    # What follows the number must not be read as part of it, or as the colour behind the text.
    if text[:1].isdigit():
        number = number.zfill(2)
    elif text[:1] == ",":
        number += "\x02\x02"
    return f"{_COLOUR}{number}{text}{_COLOUR}"


def plain(text: str) -> str:
    """Remove the colours that `painted` made."""
    return _PAINT.sub("", text).replace("\x02", "")


def wire_safe(text: str) -> str:
    """Remove what is more than text to a server or a client; the last check before the wire."""
    return _FORBIDDEN.sub(" ", text).encode(errors="replace").decode()


def room(source: int, command: str, target: str) -> int:
    """Return how many bytes of text fit into a line; the server puts ``source`` bytes in front for the sender."""
    return _LINE - len(f": {command}  :\r\n") - source - len(target.encode())


def cut(text: str, size: int) -> tuple[str, str]:
    """Cut off what fits into ``size`` bytes, and return it with the rest.

    The cut is between words where possible, never inside a character or a colour; a blank there is dropped. The
    first piece has at least one character.
    """
    used, end, blank = 0, 0, 0
    for atom in _ATOMS.finditer(text):
        used += len(atom[0].encode())
        if used > size and end:
            # Before a blank that comes too early the line would be nearly empty.
            end = blank if blank > end // 2 else end
            return text[:end], text[end:].removeprefix(" ")
        if atom[0] == " ":
            blank = atom.start()
        end = atom.end()
    return text, ""


# ------------------------------------------------------------ the forms of a message


def in_colour(title: str, subtitle: str, link: str, config: Mapping[str, Any]) -> str:
    """Return a line with title and link in colour."""
    title, subtitle, link = map(harmless, (title, subtitle, link))
    heading = painted(title, colour_of(title, config))
    return f"{heading} -- {subtitle} {painted(link, 'teal') if link else ''}"


def in_words(
    envelope: Any, config: Mapping[str, Any], *, colours: bool, shorten: Callable[[str], str] | None = None
) -> str:
    """Return a message in English; ``shorten`` makes its link shorter."""
    title, subtitle, link = map(harmless, meta.parts(envelope, config))
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
    text = _highlight()(harmless(encoding.dumps(shown))) if colours else harmless(repr(shown))
    return f"{harmless(topic):<{_TOPIC_WIDTH}} {text}"


def doubtful(topic: str, doubt: str, config: Mapping[str, Any], *, colours: bool, terse: bool) -> str:
    """Return a line about a message that is not trusted: the topic and why, and nothing of its content."""
    if not terse:
        return f"{harmless(topic):<{_TOPIC_WIDTH}} {doubt}"
    return in_colour(topic, doubt, "", config) if colours else f"{harmless(topic)} -- {doubt} "


@functools.cache
def _highlight() -> Callable[[str], str]:
    """Return what puts a line of JSON into the colours of mIRC; pygments is imported on first use."""
    import pygments
    from pygments.formatters.irc import IRCFormatter
    from pygments.lexers.data import JsonLexer

    lexer, formatter = JsonLexer(), IRCFormatter()
    return lambda line: _OTHER_FORMATS.sub("", str(pygments.highlight(line, lexer, formatter))).strip()
