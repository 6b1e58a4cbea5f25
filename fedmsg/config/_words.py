# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values and paths as words in a message: one line, of a bearable length, harmless to a terminal."""

from __future__ import annotations

import os
import pwd
from typing import Any

__all__ = ["clip", "current_folder", "path_words", "user_words", "value_words"]

_LONGEST = 200


def clip(text: str, longest: int = _LONGEST) -> str:
    """Make one line of a text, without control characters, and cut it when it is long.

    Args:
        text: Any text.
        longest: How many characters to keep.
    """
    line = "".join(one if one.isprintable() else " " for one in text[: longest + 1])
    return line if len(text) <= longest else line[: longest - 3] + "..."


def path_words(path: str) -> str:
    """Give a path as it is, or escaped when it could confuse the reader of a message.

    Args:
        path: A path in the file system.
    """
    return path if path.isprintable() else ascii(path)


def value_words(value: Any, longest: int = 60) -> str:
    """Give a configured value as Python writes it, cut when it is long.

    Args:
        value: Whatever was configured.
        longest: How many characters to keep.
    """
    try:
        words = repr(value)
    except Exception as error:  # noqa: BLE001 the class is the administrator's own and may fail in any way
        words = f"<{type(value).__name__} without a repr: {type(error).__name__}>"
    return clip(words, longest)


def user_words(number: int) -> str:
    """Give the name of a user, or the number when nobody has it.

    Args:
        number: The numeric user id.
    """
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"the user {number}"


def current_folder() -> str | None:
    """Give the current folder, or None when it was deleted under us."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
