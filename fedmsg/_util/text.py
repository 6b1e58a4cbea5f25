# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text, bytes and lists of text: what people configure, and what they are shown."""

from __future__ import annotations

import functools
import logging
import re
import warnings
from typing import Any, NamedTuple

__all__ = [
    "SafeFormatter",
    "as_list",
    "as_utf8",
    "one_line",
    "protect_handlers",
    "quoted",
    "safe_block",
    "safe_line",
    "to_bytes",
    "to_text",
    "xml_text",
]


class _Kitchen(NamedTuple):
    """The functions of kitchen that are used here."""

    to_unicode: Any
    to_bytes: Any
    iterate: Any


@functools.cache
def _six() -> Any:
    """Import six when text is first converted: what only logs has no use for it."""
    import six

    return six


@functools.cache
def _kitchen() -> _Kitchen:
    """Import kitchen when it is first needed: it loads an HTTP client, 50 ms and 9 MiB."""
    with warnings.catch_warnings():
        # Python compiles kitchen, where the installer did not, with a warning for each
        # "\*" in a docstring. That is nothing that the user of a command could mend.
        warnings.simplefilter("ignore")
        from kitchen.iterutils import iterate
        from kitchen.text.converters import to_bytes, to_unicode
    return _Kitchen(to_unicode, to_bytes, iterate)


def to_text(value: Any) -> str:
    """Return anything as text: bytes are UTF-8, with U+FFFD for what is none; other objects are ``str(value)``."""
    if isinstance(value, (str, bytes)):
        return str(_six().ensure_text(value, errors="replace"))
    return str(_kitchen().to_unicode(value))


def to_bytes(value: Any) -> bytes:
    r"""Return anything as UTF-8; a lone surrogate, which has no encoding, is spelt out as in ``\ud800``."""
    if isinstance(value, (str, bytes)):
        return bytes(_six().ensure_binary(value, errors="backslashreplace"))
    return bytes(_kitchen().to_bytes(value, errors="backslashreplace"))


def as_list(value: Any) -> list[str]:
    """Return a setting that may be one text, several, or None, as a list of texts."""
    if value is None:
        return []
    # What nearly every configuration has needs no help.
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        items = _kitchen().iterate(items)
    return [to_text(item) for item in items]


# What acts on a terminal, or breaks a line, or turns the direction of what follows, or
# can't be encoded: C0, DEL, C1, line and paragraph separator, bidirectional controls, lone
# surrogates. All of it counts as not printable.
_REST = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_LINE = "[\x00-\x1f" + _REST + "]"
_BLOCK = "[\x00-\x08\x0b-\x1f" + _REST + "]"
# A single character in front of the run is what the search is quick with.
# Not compiled here: that would cost every program 2 ms at its start.
_IN_LINE = _LINE + _LINE + "*"
_IN_BLOCK = _BLOCK + _BLOCK + "*"
_NOT_IN_XML = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def safe_line(text: str) -> str:
    r"""Return one line of text that is harmless on a terminal: other characters are escaped, as ``\x1b`` or ``\n``."""
    return text if text.isprintable() else re.sub(_IN_LINE, _spelt_out, text)


def safe_block(text: str) -> str:
    """Make text of several lines harmless on a terminal: like a line, but tab and newline stay."""
    return text if text.isprintable() else re.sub(_IN_BLOCK, _spelt_out, text)


def xml_text(text: str) -> str:
    """Return text with a replacement character for each character that XML does not have."""
    return (
        text
        if text.isprintable()
        else re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    )


def one_line(text: str) -> str:
    """Join the lines of a text that may quote what others wrote into one harmless line."""
    return safe_line("; ".join(filter(None, (line.strip() for line in text.splitlines()))))


def quoted(text: str, limit: int = 300) -> str:
    """Make text from a stranger fit for a log line: ASCII, one line, cut to a length."""
    return text[: limit + 1].encode("unicode_escape").decode("ascii")[:limit]


def _spelt_out(match: re.Match[str]) -> str:
    """Write a run of characters as Python would inside quotes."""
    return ascii(match[0])[1:-1]


# What Python makes of bytes that the encoding of the locale lacks: under an ASCII locale, of all UTF-8.
_ESCAPED_BYTES = "[\udc80-\udcff]+"


def as_utf8(text: str) -> str:
    """Decode as UTF-8 what Python could not decode in the encoding of the locale; bad bytes become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        whole = re.sub(_ESCAPED_BYTES, _decoded, text)
        # Other halves of characters.
        return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _decoded(match: re.Match[str]) -> str:
    return match[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# Of a longer record the middle is cut out.
_MAX_RECORD_CHARACTERS = 32_000


class SafeFormatter(logging.Formatter):
    r"""Formats with another formatter, and makes the result safe.

    An exception may quote what a stranger has sent. Control characters are spelt out, as ``\x1b``; all lines
    but the first are indented, so that none looks like a record of its own; and the length is bounded.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        text = safe_block(_shortened(self.inner.format(record)))
        # What is spelt out, or indented, is longer than it was.
        return _shortened(text.replace("\n", "\n    "))


def _shortened(text: str) -> str:
    """Leave out the middle of a record that is too long."""
    if len(text) <= _MAX_RECORD_CHARACTERS:
        return text
    half = _MAX_RECORD_CHARACTERS // 2
    left_out = len(text) - 2 * half
    return f"{text[:half].rstrip()}\n    ... {left_out} characters left out ...\n    {text[-half:]}"


def protect_handlers() -> None:
    """Make all handlers of the logging configuration format safely."""
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if not isinstance(handler.formatter, SafeFormatter):
                handler.setFormatter(SafeFormatter(handler.formatter or logging.Formatter()))


def shown_url(url: str) -> str:
    """Return an address fit for a log: without passwords, and harmless wherever it comes from."""
    _, at, behind = url.partition("://")
    place = behind.partition("?")[0].partition("#")[0]
    host, slash, path = place.partition("/")
    scheme = url[: -len(behind)] if at else url
    return quoted(scheme + host.rpartition("@")[2] + slash + path, 200)
