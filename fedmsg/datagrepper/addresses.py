# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses of searches: for links, feeds, exports and programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import flask

from fedmsg._web import answers
from fedmsg.datagrepper.arguments import ROUTES

__all__ = [
    "FILTERS",
    "absolute",
    "asked_pairs",
    "curl",
    "one",
    "python",
    "search",
    "with_changes",
    "with_query",
]

#: The filters, as a request names them, each also with ``not_`` before it.
FILTERS = ("topic", "category", "user", "package", "agent", "contains", "where")
# What a link to a search does not keep: the place in it, and the form of the answer.
_PLACE = frozenset({"page", "cursor", "format", "callback", "chrome", "meta", "fields", "count"})
_KNOWN = frozenset(row.name for row in ROUTES["/raw"])
_MOST_PAIRS = 200

Pairs = list[tuple[str, str]]


def asked_pairs() -> Pairs:
    """Return the arguments of the request that make up its search."""
    given = flask.request.args.items(multi=True)
    return [(name, text) for name, text in given if text and name in _KNOWN - _PLACE][:_MOST_PAIRS]


def with_query(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Return an address with arguments; half a character in them becomes a question mark."""
    query = urlencode(list(pairs), errors="replace")
    return f"{path}?{query}" if query else path


def search(pairs: Iterable[tuple[str, str]], **more: Any) -> str:
    """Return the address of a search on this server."""
    return with_query(flask.url_for("datagrepper.raw"), [*pairs, *more.items()])


def one(msg_id: str) -> str:
    """Return the address of a message on this server."""
    return with_query(flask.url_for("datagrepper.one"), [("id", msg_id)])


def with_changes(pairs: Pairs, **changes: str | None) -> Pairs:
    """Return arguments with other values for some; None leaves one out."""
    kept = [(name, text) for name, text in pairs if name not in changes]
    return [*kept, *((name, text) for name, text in changes.items() if text is not None)]


def absolute(address: str) -> str:
    """Return the whole address that others can use of one on this server."""
    return answers.address(address.removeprefix(flask.request.script_root))


def curl(address: str) -> str:
    """Return the line of a shell that asks for a whole address."""
    return f"curl {shlex.quote(address)}"


def python(route: str, pairs: Pairs) -> str:
    """Return the line of Python that asks for the same."""
    params = f", params={pairs!r}" if pairs else ""
    return f"requests.get({absolute(route)!r}{params}).json()"
