# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one table of what a request may ask: it parses requests, and the reference and ``/openapi.json`` show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmsg._web import arguments, kinds
from fedmsg._web.arguments import Argument

__all__ = [
    "CHARTS",
    "FIELDS",
    "FORMATS",
    "META",
    "POSITION",
    "ROUTES",
    "TABLE",
    "parse",
    "plural",
]

META = (
    "title", "subtitle", "summary", "text", "long_form", "link", "url", "icon", "app_icon", "secondary_icon",
    "agent_avatar", "usernames", "packages", "objects", "containers", "modules", "flatpaks", "date",
)  # fmt: skip

#: The parts of a message.
FIELDS = (
    "certificate", "crypto", "headers", "i", "msg", "msg_id", "signature", "source_name", "source_version",
    "timestamp", "topic", "username", "seq_id", "meta",
)  # fmt: skip

#: The kinds of chart.
CHARTS = (
    "line", "stackedline", "xy", "bar", "horizontalbar", "stackedbar", "horizontalstackedbar", "funnel", "pyramid",
    "verticalpyramid", "dot", "gauge",
)  # fmt: skip

FORMATS = ("json", "html", "ndjson", "csv", "atom", "feed")
_PLURALS = {"category": "categories"}
_MOST_PAGES = 2**31 - 1
_YEARS = 100 * 366 * 86400.0


def plural(name: str) -> str:
    """Return the name that a filter has in answers, and in `datanommer.models`."""
    return _PLURALS.get(name, name if name in {"contains", "where"} else f"{name}s")


def _filters() -> list[Argument]:
    rows = (
        ("user", "Messages about this user", "toshio"),
        ("package", "Messages about this package", "kernel"),
        ("category", "Messages of this category, the fourth word of the topic", "bodhi"),
        (
            "topic",
            "Messages of this topic; a * in it stands for any text",
            "org.fedoraproject.prod.bodhi.update.comment",
        ),
        ("agent", "Messages of what this user did", "toshio"),
        ("contains", "Messages with this text in their JSON; upper and lower case differ", "FEDORA-2026"),
        ("where", "Messages with a field that meets this condition", "msg.update.status=testing"),
    )
    found = []
    for name, what, example in rows:
        kind = kinds.condition if name == "where" else kinds.text
        how = "all of several values" if name in {"contains", "where"} else "of several values one"
        found.append(Argument(name, kind, f"{what}; {how} must match.", repeated=True, example=example))
        found.append(Argument(f"not_{name}", kind, f"Leave out: {what[0].lower()}{what[1:]}.", repeated=True,
                              example=example))  # fmt: skip
    return found


_TIME = [
    Argument("start", kinds.moment, "Nothing older: seconds since 1970 or ISO 8601, in UTC unless it says otherwise.",
             example="2026-11-30T00:00:00"),
    Argument("end", kinds.moment, "Nothing newer; now when not given.", example="2026-11-30T23:59:59"),
    Argument("delta", kinds.number(0, _YEARS), "So many seconds: before end, after start, or up to now.",
             example="86400"),
]  # fmt: skip
_FILTERS = _filters()
_SEARCH = [Argument("q", kinds.words, 'Words that the message has; "a phrase", -without.', example="kernel -rawhide")]
_PAGES = [
    Argument("page", kinds.whole(1, _MOST_PAGES), "The page.", default=1, example="2"),
    Argument("rows_per_page", kinds.whole(1, 100), "How many messages a page has.", default=25, example="100"),
    Argument("order", kinds.choice("desc", "asc"), "The newest first, or the oldest.", default="desc", example="asc"),
    Argument("cursor", kinds.text, "Where the next page begins: the cursor of an answer; instead of page."),
    Argument("count", kinds.choice("exact", "estimated", "none"), "How the total is counted; none is the quickest.",
             example="none"),
]  # fmt: skip
_MEANING = [
    Argument("meta", kinds.list_of(kinds.choice(*META), META), "What fedmsg.meta makes of a message, as its key meta.",
             repeated=True, example="subtitle"),
]  # fmt: skip
_SHAPE = [
    Argument("grouped", kinds.boolean, "Group messages that belong together.", default=False, example="true"),
    Argument("fields", kinds.list_of(kinds.choice(*FIELDS, *(f"-{name}" for name in FIELDS)), FIELDS),
             "The parts of each message that are wanted; with - before it, one that is not.", repeated=True,
             example="topic,msg_id,timestamp"),
]  # fmt: skip
_FORMAT = [Argument("format", kinds.choice(*FORMATS), "The form of the answer, instead of the Accept header.")]
_CALLBACK = [
    Argument("callback", kinds.identifier, "A function of JavaScript that is called with the answer (JSONP).",
             example="show")
]  # fmt: skip
_LOOK = [
    Argument("chrome", kinds.boolean, "Whether a page of HTML is a whole one.", default=True, example="false"),
    Argument("size", kinds.choice("small", "medium", "large", "extra-large"), "The size of the cards in HTML.",
             default="large", example="small"),
]  # fmt: skip
_ONE = [
    Argument("id", kinds.text, "The msg_id.", example="2026-3a7c1f5e-0000-4000-8000-000000000000"),
    Argument("is_raw", kinds.boolean, "JSON, whatever the Accept header says.", default=False, example="true"),
]  # fmt: skip

_FACETS = kinds.choice("topics", "categories", "users", "packages", "agents")
_BY = (*"users packages categories topics agents contains".split(),)
_COUNTS = [
    Argument("bucket", kinds.whole(1, 366 * 86400), "How many seconds a bucket has.", example="3600"),
    Argument("buckets", kinds.whole(1, 1000), "How many buckets there are at most, where bucket is not given.",
             default=60, example="24"),
    Argument("split_on", _FACETS, "What is counted by as well.", example="categories"),
]  # fmt: skip
_NAMES = [
    Argument("facet", kinds.list_of(_FACETS, ("topics", "users")), "What is counted by; all when not given.",
             repeated=True, example="users"),
    Argument("prefix", kinds.text, "What the values begin with.", example="to"),
    Argument("limit", kinds.whole(1, 1000), "How many values of each, the most frequent first.", default=20,
             example="5"),
]  # fmt: skip
_CHART = [
    Argument("split_on", kinds.list_of(kinds.choice(*_BY), _BY), "What makes a series of its own.", repeated=True,
             example="categories"),
    Argument("N", kinds.whole(3, 15), "How many windows of time.", default=10, example="5"),
    Argument("title", kinds.text, "The title.", default="fedmsg events", example="Updates"),
    Argument("width", kinds.whole(50, 4000), "The width in pixels.", default=800, example="400"),
    Argument("height", kinds.whole(50, 4000), "The height in pixels.", default=800, example="300"),
    Argument("style", kinds.text, "A style of pygal.", default="default", example="light"),
    Argument("interpolation", kinds.text, "How lines are drawn between points: cubic, quadratic, lagrange, "
             "trigonometric, hermite.", example="cubic"),
    *(Argument(name, kinds.boolean, what, default=default, example="true") for name, what, default in (
        ("human_readable", "Whether numbers are shortened.", True),
        ("logarithmic", "Whether the scale is logarithmic.", False),
        ("show_x_labels", "Whether times are shown.", True),
        ("show_y_labels", "Whether numbers are shown.", True),
        ("show_dots", "Whether points are shown.", True),
        ("fill", "Whether areas are filled.", False),
    )),
]  # fmt: skip
#: The kind of positions.
POSITION = kinds.whole(0, 2**62)
_STREAM = [
    Argument("after", POSITION, "The position after which it begins: the id of an event; 0 is the beginning, "
             "and without it and the header Last-Event-ID it begins with what comes next.", example="0"),
]  # fmt: skip

#: The arguments of each route.
ROUTES: Mapping[str, list[Argument]] = {
    "/raw": [*_TIME, *_FILTERS, *_SEARCH, *_PAGES, *_MEANING, *_SHAPE, *_FORMAT, *_CALLBACK, *_LOOK],
    "/v2/search": [*_TIME, *_FILTERS, *_SEARCH, *_PAGES, *_MEANING, *_CALLBACK],
    "/id": [*_ONE, *_MEANING, *_CALLBACK, *_LOOK],
    "/v2/id": [*_ONE[:1], *_MEANING, *_CALLBACK],
    "/messagecount": [*_CALLBACK],
    "/charts/{kind}": [*_TIME, *_FILTERS, *_SEARCH, *_CHART],
    "/histogram": [*_TIME, *_FILTERS, *_SEARCH, *_COUNTS, *_CALLBACK],
    "/facets": [*_TIME, *_FILTERS, *_SEARCH, *_NAMES, *_CALLBACK],
    "/stream": [*_STREAM, *_FILTERS, *_SEARCH, *_MEANING, *_SHAPE[1:]],
}

#: All arguments, by name.
TABLE: Mapping[str, Argument] = {row.name: row for rows in ROUTES.values() for row in rows}


def parse(route: str, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of all arguments of a route; what it does not know is ignored.

    Raises:
        BadArgument: One makes no sense.
    """
    return arguments.read(ROUTES[route], pairs)
