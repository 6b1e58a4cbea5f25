# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command reads from standard input and from its command line: text, whatever the locale is."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

from fedmsg.exceptions import UsageError

__all__ = ["as_utf8", "lines"]

# What Python makes of bytes that the encoding of the locale lacks: under an ASCII locale, of all UTF-8.
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]+")


def lines(log: logging.Logger) -> Iterator[str]:
    """Yield the lines of standard input as they come, each with its end.

    Args:
        log: Where it is logged, once, that a line was not UTF-8. Its bad bytes become
            U+FFFD: what JSON could write of them, half of a character that doesn't exist,
            is rejected by databases and by other languages.

    Raises:
        UsageError: It can't be read.
    """
    stream: Any = sys.stdin
    if stream is None:
        raise UsageError("standard input is closed: there is nothing to read")
    if hasattr(stream, "reconfigure"):
        # Keeps bad bytes apart from a U+FFFD that was there before.
        stream.reconfigure(errors="surrogateescape")
    is_logged = False
    try:
        for number, line in enumerate(stream, 1):
            if line.isascii():
                yield line
                continue
            text = as_utf8(line)
            if not is_logged and text.count("\ufffd") > line.count("\ufffd"):
                log.warning("line %d is not UTF-8: its bad bytes, and those of later lines, are sent as U+FFFD", number)
                is_logged = True
            yield text
    except OSError as error:
        raise UsageError(f"standard input can't be read: {error.strerror or error}") from error


def as_utf8(text: str) -> str:
    """Read as UTF-8 what Python could not read in the encoding of the locale; what is none becomes U+FFFD.

    Args:
        text: Text from a command line or a file.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        whole = _ESCAPED_BYTES.sub(_read_again, text)
        # Other halves of characters.
        return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _read_again(match: re.Match[str]) -> str:
    return match[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
