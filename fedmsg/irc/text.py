# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text for IRC: harmless, in colour, and in pieces that fit into a line of the protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fedmsg._util.text import safe_line

__all__ = ["COLOURS", "LONGEST", "colour_of", "cut", "harmless", "painted", "plain", "room", "wire_safe"]

#: The colours by name, with their numbers in mIRC.
COLOURS = {
    "white": 0, "black": 1, "blue": 2, "green": 3, "red": 4, "brown": 5, "purple": 6, "orange": 7, "yellow": 8,
    "light green": 9, "teal": 10, "light cyan": 11, "light blue": 12, "pink": 13, "grey": 14, "light grey": 15,
}  # fmt: skip

#: How many characters of one text are sent; a message may be 16 MiB.
LONGEST = 2000

# The protocol's limit for a line with its end, counted in bytes.
_LINE = 512

_COLOUR = "\x03"
_PAINT = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?")
# A colour and the character after it stay together: cut in two, its digits would be read as text.
_ATOMS = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?.?|.", re.DOTALL)
_BREAKS = re.compile("[\t-\r\x85\u2028\u2029]+")
# What ends a line or a word of the protocol, or begins a request from client to client (CTCP).
_FORBIDDEN = re.compile("[\x00\x01\r\n]+")


def harmless(value: Any) -> str:
    r"""Make text from anywhere fit to be sent.

    Args:
        value: The text; of any other object, its text.

    Returns:
        One line of at most `LONGEST` characters, in which line breaks are blanks and every other
        control character is spelt out, such as ``\x03``: it can't fake a colour or a line.
    """
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    line: str = safe_line(_BREAKS.sub(" ", text))
    return line


def colour_of(title: str, config: Mapping[str, Any]) -> str:
    """Return the name of the colour of a title.

    Args:
        title: The title, such as ``git.receive``.
        config: The configuration.

    Returns:
        What ``irc_color_lookup`` has for its first word, else ``irc_default_color``.
    """
    lookup = config.get("irc_color_lookup") or {}
    first = title.partition(".")[0]
    for word in (first, first.partition(" ")[0]):
        if lookup.get(word) in COLOURS:
            return str(lookup[word])
    default = config.get("irc_default_color")
    return default if default in COLOURS else "light grey"


def painted(text: str, colour: str) -> str:
    """Return text in a colour.

    Args:
        text: Harmless text.
        colour: A name from `COLOURS`.
    """
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
    """Return how many bytes of text fit into a line as others receive it.

    Args:
        source: How many bytes the server puts in front for the sender, without colon and blank.
        command: ``NOTICE`` or ``PRIVMSG``.
        target: The channel.
    """
    return _LINE - len(f": {command}  :\r\n") - source - len(target.encode())


def cut(text: str, size: int) -> tuple[str, str]:
    """Cut off what fits into a line, between words where possible and never inside a character or a colour.

    A blank at the cut is dropped.

    Args:
        text: The text.
        size: How many bytes fit, in UTF-8.

    Returns:
        The first piece, which has at least one character, and the rest.
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
