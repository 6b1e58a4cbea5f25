# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one table of what a request may ask: it parses requests, and the reference shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmsg._web import arguments, kinds
from fedmsg._web.arguments import Argument

__all__ = ["ROUTES", "SUMMARIES", "parse"]

_MOST = 2**31 - 1

_ROWS = [
    Argument("order", kinds.choice("desc", "asc"), "The newest first, or the oldest.", default="desc", example="asc"),
    Argument("limit", kinds.whole(0, _MOST), "How many rows there are at most, on all pages together.", example="250"),
    Argument("start", kinds.moment, "Nothing older: seconds since 1970 or ISO 8601, in UTC unless it says otherwise.",
             example="2026-11-30T00:00:00"),
    Argument("stop", kinds.moment, "Nothing newer; all there is when not given.", example="2026-11-30T23:59:59"),
    Argument("page", kinds.whole(1, _MOST), "The page.", default=1, example="1"),
    Argument("rows_per_page", kinds.whole(1, _MOST), "How many rows a page has, up to what the server allows.",
             example="50"),
    Argument("through", kinds.whole(0, 2**62), "Leave out what was stored later: links have it, so that their pages "
             "do not change while numbers are added."),
    Argument("format", kinds.choice("json", "csv"), "The form of the answer, instead of the Accept header.",
             example="csv"),
]  # fmt: skip
_CALLBACK = [
    Argument("callback", kinds.identifier, "A function of JavaScript that is called with the answer (JSONP).")
]  # fmt: skip

#: The arguments of each route.
ROUTES: Mapping[str, list[Argument]] = {
    "/api/": _CALLBACK,
    "/api/{ident}": [*_ROWS, *_CALLBACK],
    "/api/{ident}/layout": _CALLBACK,
}

#: What each route answers, in a line.
SUMMARIES: Mapping[str, str] = {
    "/api/": "The statistics that there are, as a list of their names",
    "/api/{ident}": "The rows of one, page by page, as JSON or CSV",
    "/api/{ident}/layout": "How a page shows it, as its plugin says",
    "/metrics": "What this process has done, for Prometheus",
    "/healthz/live": "That the process works",
    "/healthz/ready": "Whether the database can be read",
    "/openapi.json": "This description",
}


def parse(route: str, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of all arguments of a route; what it does not know is ignored.

    Raises:
        BadArgument: One makes no sense.
    """
    return arguments.read(ROUTES[route], pairs)
