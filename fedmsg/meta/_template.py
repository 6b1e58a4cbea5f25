# SPDX-License-Identifier: LGPL-2.1-or-later
"""Texts with fields of a message in them. A field is looked up in dicts and lists, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["BadTemplate", "Template"]

# Python's own format strings reach attributes, and pad to any width; here is neither.
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PATH = re.compile(r"[^.{}|:!\[\]\s]+(\.[^.{}|:!\[\]\s]+)*")

_LONGEST = 500
_SCHEMES = ("http://", "https://", "mailto:")


class BadTemplate(ValueError):
    """A text that is no template."""


class Template:
    """A text with fields: ``{msg.user.name}``, or ``{msg.user|msg.owner}`` for the first that is there.

    ``{{`` and ``}}`` stand for braces.

    Args:
        address: Whether it makes the address of a page. What is put into an address is
            encoded, but for a field that it begins with; and it has to be one for the web
            or for mail.

    Raises:
        BadTemplate: It is none.
    """

    def __init__(self, text: Any, *, address: bool = False) -> None:
        if not isinstance(text, str):
            raise BadTemplate(f"{text!r} is not text; put it in quotes")
        self._quote: Callable[[str], str] | None = _quote() if address else None
        self._parts: list[str | list[list[str]]] = []
        last = 0
        for found in _PART.finditer(text):
            self._parts.append(text[last : found.start()])
            self._parts.append(_parse(found[0], found[1], text))
            last = found.end()
        self._parts.append(text[last:])
        self._parts = [part for part in self._parts if part]

    def fill(self, msg: Any) -> str:
        """Put the fields of a message into the text.

        Raises:
            KeyError: The message lacks one of them.
        """
        texts = []
        for number, part in enumerate(self._parts):
            if isinstance(part, str):
                texts.append(part)
                continue
            text = ", ".join(_texts(_first(msg, part)))
            texts.append(self._quote(text) if self._quote and number else text)
        filled = "".join(texts)
        return filled if self._quote is None or filled.startswith(_SCHEMES) else ""

    def values(self, msg: Any) -> list[str]:
        """Return the names that the text makes of a message: the items, where its one field is a list.

        There are none when the message lacks a field.
        """
        try:
            if len(self._parts) == 1 and not isinstance(self._parts[0], str):
                return _texts(_first(msg, self._parts[0]))
            return [self.fill(msg)]
        except KeyError:
            return []


def _quote() -> Callable[[str], str]:
    """Return the function that encodes what is put into an address."""
    # Costs 3 ms and 1 MiB, which those who declare nothing need not pay.
    from urllib.parse import quote

    return lambda text: quote(text, safe="")


def _parse(whole: str, field: str | None, text: str) -> str | list[list[str]]:
    """Read one thing in braces: the brace that it stands for, or the paths of a field."""
    if whole in {"{{", "}}"}:
        return whole[0]
    if field is None:
        raise BadTemplate(f"{text!r} has a single {whole!r}; write {whole * 2!r} for the character itself")
    paths = [path.strip() for path in field.split("|")]
    for path in paths:
        if not _PATH.fullmatch(path):
            raise BadTemplate(f"{text!r}: {{{field}}} is not a field; write keys with dots between, as in {{msg.user}}")
    return [path.split(".") for path in paths]


def _first(msg: Any, paths: list[list[str]]) -> Any:
    """Return the first of some fields that is there."""
    for path in paths:
        value = msg
        for key in path:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
                value = value[int(key)]
            else:
                value = None
        if value is not None:
            return value
    raise KeyError("|".join(".".join(path) for path in paths))


def _texts(value: Any) -> list[str]:
    """Write a value, which is text, a number, or a list of such."""
    found = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, (dict, list)):
            raise KeyError("a field that holds more than one value")
        text = one if isinstance(one, str) else str(one)
        found.append(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
    return found
