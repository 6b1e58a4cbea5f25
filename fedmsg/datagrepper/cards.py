# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards: what a page shows of a message, or of a group of messages, each part checked and cut to a length."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fedmsg.datagrepper import highlight

__all__ = ["SAMPLE", "Card", "of_group", "of_message", "time_of", "web_link"]

_LONGEST_LINE = 300
_LONGEST_TEXT = 2_000
_LONGEST_NAME = 200
_LONGEST_LINK = 2_000
_MOST_NAMES = 12
_HUES = 8
_MOST_JSON_IN_A_LIST = 10_000
_MOST_JSON_ALONE = 100_000
_YEARS = (0, 253_402_300_799)


@dataclass
class Card:
    """What a page shows of a message.

    Attributes:
        msg_id: Its id; none for a group.
        topics: Its topic, or the topics of a group.
        category: Its category.
        title: A few words.
        text: A sentence.
        more: Several lines.
        when: When it was published, as people write it, in UTC; empty where that is no time.
        when_iso: The same for programs.
        ago: The same as a distance from now.
        link: Where to read on, on the web.
        hue: A number for the colour of its category.
        users: Who it is about.
        packages: Which packages it is about.
        members: The messages of a group: id and text.
        json: The message itself.
    """

    msg_id: str = ""
    topics: list[str] = field(default_factory=list)
    category: str = ""
    title: str = ""
    text: str = ""
    more: str = ""
    when: str = ""
    when_iso: str = ""
    ago: str = ""
    link: str = ""
    hue: int = 0
    users: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    members: list[tuple[str, str]] = field(default_factory=list)
    json: highlight.Shown | None = None


#: A card that has every part: pages fill a copy of it with what comes live.
SAMPLE = Card(
    msg_id="-", topics=["-"], category="-", title="-", text="-", more="-", when="-", when_iso="-", ago="-",
    link="https://example.invalid/", users=["-"], packages=["-"],
)  # fmt: skip


def _cut(value: Any, limit: int) -> str:
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _line(value: Any) -> str:
    return " ".join(_cut(value, _LONGEST_LINE).split())


def _names(values: Any) -> list[str]:
    if not isinstance(values, Iterable) or isinstance(values, (str, Mapping)):
        return []
    found = sorted(_cut(value, _LONGEST_NAME) for value in values if value)
    return found[:_MOST_NAMES]


def web_link(value: Any) -> str:
    """Return an address where it is one of the web, else nothing: a message may not say ``javascript:``."""
    if not isinstance(value, str) or len(value) > _LONGEST_LINK or not value.isprintable():
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return value if parts.scheme in {"http", "https"} and parts.netloc else ""


def time_of(value: Any) -> tuple[str, str]:
    """Return a time as people and as programs write it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "", ""
    if not _YEARS[0] <= value <= _YEARS[1]:
        return "", ""
    moment = dt.datetime.fromtimestamp(value, dt.timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}", moment.isoformat().replace("+00:00", "Z")


def _category(topic: str) -> str:
    words = topic.split(".")
    return words[3] if len(words) > 3 else ""


def of_message(found: Mapping[str, Any], *, alone: bool = False, with_json: bool = False) -> Card:
    """Return the card of a message that has ``meta``.

    Args:
        found: The message.
        alone: Whether it has a page for itself.
        with_json: Whether its JSON is shown.
    """
    meta = found.get("meta") or {}
    when, iso = time_of(found.get("timestamp"))
    topic = _cut(found.get("topic"), _LONGEST_LINE)
    text = _line(meta.get("subtitle") or meta.get("summary"))
    more = _cut(meta.get("long_form") or "", _LONGEST_TEXT).strip()
    shown = None
    if with_json or alone:
        plain = {key: value for key, value in found.items() if key != "meta"}
        shown = highlight.show(plain, _MOST_JSON_ALONE if alone else _MOST_JSON_IN_A_LIST)
    return Card(
        msg_id=str(found.get("msg_id") or ""),
        topics=[topic],
        category=_category(topic),
        title=_line(meta.get("title") or topic),
        text=text,
        more="" if more == text else more,
        when=when,
        when_iso=iso,
        ago=_line(meta.get("date")) if when else "",
        link=web_link(meta.get("link")),
        hue=_hue(_category(topic)),
        users=_names(meta.get("usernames")),
        packages=_names(meta.get("packages")),
        json=shown,
    )


def _hue(category: str) -> int:
    # As cards.js counts it.
    return sum(map(ord, category)) % _HUES


def of_group(found: Mapping[str, Any]) -> Card:
    """Return the card of messages that fedmsg.meta has grouped."""
    when, iso = time_of(found.get("timestamp"))
    members = list((found.get("msg_ids") or {}).items())
    return Card(
        # A group of one is that message.
        msg_id=str(members[0][0]) if len(members) == 1 else "",
        topics=[_cut(topic, _LONGEST_LINE) for topic in _names(found.get("topics"))],
        category=", ".join(_names(found.get("categories"))),
        title=_line(", ".join(_names(found.get("topics")))),
        text=_line(found.get("subtitle")),
        when=when,
        when_iso=iso,
        ago=_line(found.get("human_time")),
        link=web_link(found.get("link")),
        hue=_hue("".join(_names(found.get("categories"))[:1])),
        users=_names(found.get("usernames")),
        packages=_names(found.get("packages")),
        members=[
            (str(msg_id), _line(one.get("subtitle") or one.get("title")) or str(msg_id))
            for msg_id, one in (members if len(members) > 1 else [])
        ],
    )
