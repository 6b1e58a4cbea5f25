# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command reads from standard input: lines of text, whatever bytes they are made of."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

from fedmsg.exceptions import UsageError

__all__ = ["as_utf8", "lines"]


def lines(log: logging.Logger) -> Iterator[str]:
    """Give the lines of standard input as they come, each with its end.

    Args:
        log: Where it is told, once, that a line was not UTF-8. Its bad bytes become
            U+FFFD: what JSON could say of them, half of a character that doesn't exist,
            is refused by databases and by other languages.

    Raises:
        UsageError: It can't be read.
    """
    stream: Any = sys.stdin
    if stream is None:
        raise UsageError("standard input is closed: there is nothing to read")
    if hasattr(stream, "reconfigure"):
        # Keeps bad bytes apart from a U+FFFD that was there before.
        stream.reconfigure(errors="surrogateescape")
    said = False
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            if line.isascii():
                yield line
                continue
            text = as_utf8(line)
            if text != line and not said:
                log.warning("line %d is not UTF-8: its bad bytes, and those of later lines, are sent as U+FFFD", number)
                said = True
            yield text
    except OSError as error:
        raise UsageError(f"standard input can't be read: {error.strerror or error}") from error


def as_utf8(text: str) -> str:
    """Replace what Python made of bytes that were not UTF-8, and other halves of characters, by U+FFFD.

    Args:
        text: Text from a command line or a file.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
