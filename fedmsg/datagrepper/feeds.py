# SPDX-License-Identifier: LGPL-2.1-or-later
"""The result of a query as a feed: Atom, and JSON Feed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree as ET

from fedmsg._util.text import xml_text
from fedmsg.datagrepper import cards

__all__ = ["FIELDS", "META", "Feed", "as_atom", "as_json_feed"]

#: What a feed needs of fedmsg.meta.
META = ("title", "subtitle", "summary", "link", "usernames")
#: What it needs of a message.
FIELDS = ("msg_id", "timestamp", "topic", "username")
_ATOM = "http://www.w3.org/2005/Atom"
_LONGEST = 20_000


class Feed(NamedTuple):
    """What a feed is about.

    Attributes:
        title: Its title.
        address: Where it is.
        page: Where the same can be seen by people.
        root: What the addresses of messages begin with, with a slash at its end.
        older: Where the next page is, or None.
        messages: Its messages, with `FIELDS` and `META`.
    """

    title: str
    address: str
    page: str
    root: str
    older: str | None
    messages: Sequence[dict[str, Any]]


def _text(value: Any) -> str:
    return xml_text(str(value or ""))[:_LONGEST]


def _page_of(feed: Feed, message: dict[str, Any]) -> str:
    return f"{feed.root}id?id={quote(_text(message['msg_id']), safe='')}"


def _iso(seconds: Any) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat().replace("+00:00", "Z")
    except (TypeError, ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00Z"


def _category(message: dict[str, Any]) -> str:
    words = _text(message["topic"]).split(".")
    return words[3] if len(words) > 3 else ""


def _title(message: dict[str, Any]) -> str:
    about = message["meta"]
    return _text(about["summary"] or about["title"] or message["topic"])[:300]


def _authors(message: dict[str, Any]) -> list[str]:
    return [_text(name) for name in message["meta"]["usernames"]] or [_text(message.get("username")) or "unknown"]


def as_atom(feed: Feed) -> str:
    """Write a feed as Atom."""
    ET.register_namespace("", _ATOM)
    root = ET.Element(f"{{{_ATOM}}}feed")

    def add(parent: ET.Element, name: str, text: str = "", **attributes: str) -> ET.Element:
        made = ET.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)
        made.text = text or None
        return made

    add(root, "id", feed.address)
    add(root, "title", _text(feed.title))
    add(root, "updated", _iso(max((one["timestamp"] for one in feed.messages), default=0)))
    add(root, "link", rel="self", href=feed.address)
    add(root, "link", rel="alternate", type="text/html", href=feed.page)
    if feed.older:
        add(root, "link", rel="next", href=feed.older)
    for message in feed.messages:
        entry = add(root, "entry")
        add(entry, "id", _page_of(feed, message))
        add(entry, "title", _title(message))
        add(entry, "updated", _iso(message["timestamp"]))
        add(entry, "link", rel="alternate", type="text/html", href=_page_of(feed, message))
        if link := cards.web_link(message["meta"]["link"]):
            add(entry, "link", rel="related", href=link)
        for name in _authors(message):
            add(add(entry, "author"), "name", name)
        add(entry, "category", term=_category(message))
        add(entry, "content", _text(message["meta"]["subtitle"]) or _title(message), type="text")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def as_json_feed(feed: Feed) -> dict[str, Any]:
    """Return a feed as JSON Feed has it."""
    found: dict[str, Any] = {
        "version": "https://jsonfeed.org/version/1.1", "title": feed.title, "home_page_url": feed.page,
        "feed_url": feed.address,
    }  # fmt: skip
    if feed.older:
        found["next_url"] = feed.older
    found["items"] = [_item(feed, message) for message in feed.messages]
    return found


def _item(feed: Feed, message: dict[str, Any]) -> dict[str, Any]:
    item = {
        "id": _page_of(feed, message), "url": _page_of(feed, message), "title": _title(message),
        "content_text": _text(message["meta"]["subtitle"]) or _title(message),
        "date_published": _iso(message["timestamp"]), "authors": [{"name": name} for name in _authors(message)],
        "tags": [_category(message)],
    }  # fmt: skip
    if link := cards.web_link(message["meta"]["link"]):
        item["external_url"] = link
    return item
