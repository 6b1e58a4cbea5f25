# SPDX-License-Identifier: LGPL-2.1-or-later
"""A readable line out of any message, for those that no processor knows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from fedmsg._util.text import safe_line
from fedmsg.meta import _groups

__all__ = ["cut", "one_line", "summarize"]

# How long the line may be, and any one value in it. What is longer is not read anyway, and
# a message may be 16 MiB.
LONGEST_LINE, LONGEST_VALUE = 400, 60
_VALUES, _DEPTH = 6, 3

# The usual keys for the user, and for the name of the thing.
_WHO = ("agent", "user", "username", "author", "owner")
_NAMES = ("name", "username", "nick")
_FIRST = ("title", "subject", "summary", "name", "message", "text", "log", "status", "state")


def cut(text: str, longest: int) -> str:
    """Shorten a text, visibly."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def one_line(text: str) -> str:
    """Make one harmless line of the beginning of a text."""
    # Cut first: what is harmful gets longer when it is spelt out.
    line: str = safe_line(cut(text, LONGEST_LINE))
    return line


def summarize(msg: Any, agent: str | None) -> str:
    """Return in a line what a message is about: ``words of the topic by user: key=value, ...``, as far as it goes."""
    envelope = msg if isinstance(msg, dict) else {}
    topic, body = envelope.get("topic"), envelope.get("msg")
    words = _groups.title_of(topic) or (topic if isinstance(topic, str) else "")
    line = cut(words.replace(".", " ").strip(), LONGEST_LINE) or "message"
    key, found = _who(body)
    who = agent or found or envelope.get("username")
    if isinstance(who, str) and who:
        line += f" by {cut(who, LONGEST_VALUE)}"
    # The user is in the line already.
    hidden = key if found == who else None
    shown = [text for name, text in islice(_values(body), _VALUES + 1) if name != hidden][:_VALUES]
    return one_line(f"{line}: {', '.join(shown)}" if shown else line)


def _who(body: Any) -> tuple[str | None, str | None]:
    """Find who did it: under which key, and the name."""
    for key in _WHO if isinstance(body, dict) else ():
        value = body.get(key)
        if isinstance(value, str) and value:
            return key, value
        for name in _NAMES if isinstance(value, dict) else ():
            if isinstance(value.get(name), str):
                return f"{key}.{name}", value[name]
    return None, None


def _values(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Return the values in a message one by one, as pairs of path and text."""
    if isinstance(value, dict):
        for key in _ordered(value) if depth < _DEPTH else ():
            yield from _values(value[key], f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        for number, one in enumerate(value) if depth < _DEPTH else ():
            yield from _values(one, f"{path}.{number}" if path else str(number), depth + 1)
    elif value is not None and value != "":
        yield path, f"{cut(path, LONGEST_VALUE)}={_text(value)}" if path else _text(value)


def _ordered(body: dict[Any, Any]) -> Iterator[Any]:
    """Return the keys: the most important first, those last under which there is more than one value."""
    yield from (key for key in _FIRST if key in body)
    rest = [key for key in body if key not in _FIRST]
    yield from (key for key in rest if not isinstance(body[key], (dict, list)))
    yield from (key for key in rest if isinstance(body[key], (dict, list)))


def _text(value: Any) -> str:
    """Write a value, the beginning of it when it is long."""
    if isinstance(value, str):
        return cut(" ".join(value[: 2 * LONGEST_VALUE].split()), LONGEST_VALUE)
    if isinstance(value, list):
        texts = [_text(one) for one in value[:3] if not isinstance(one, (dict, list))]
        return cut(f"[{', '.join(texts)}{', …' if len(value) > len(texts) else ''}]", LONGEST_VALUE)
    try:
        return cut(str(value), LONGEST_VALUE)
    # Python raises an error for a whole number of thousands of digits.
    except ValueError:
        return "a huge number"
