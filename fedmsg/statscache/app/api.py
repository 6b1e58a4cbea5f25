# SPDX-License-Identifier: LGPL-2.1-or-later
"""The routes for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import flask

from fedmsg._web import answers
from fedmsg._web.arguments import BadArgument
from fedmsg.statscache.app import arguments, description
from fedmsg.statscache.app.numbers import Numbers, Page
from fedmsg.statscache.plugins import BasePlugin

__all__ = ["blueprint", "plugin_of", "rows_per_page", "text_of"]

blueprint = flask.Blueprint("api", __name__)

_LIST = "/api/"
_ONE = "/api/{ident}"
_LAYOUT = "/api/{ident}/layout"


def plugin_of(ident: str) -> BasePlugin:
    """Return a plugin by its name; without one the request is answered with 404."""
    found: BasePlugin | None = flask.current_app.extensions["plugins"].get(ident.rstrip("/"))
    if found is None:
        flask.abort(404, "There are no statistics of this name.")
    return found


def numbers() -> Numbers:
    """Return the database of the application."""
    found: Numbers = flask.current_app.extensions["numbers"]
    return found


def rows_per_page(given: Mapping[str, Any]) -> int:
    """Return how many rows a page has: at most what is configured."""
    config = flask.current_app.config
    return int(min(given["rows_per_page"] or config["DEFAULT_ROWS_PER_PAGE"], config["MAXIMUM_ROWS_PER_PAGE"]))


def text_of(plugin: BasePlugin, form: str, rows: Any) -> str:
    """Return rows as JSON or CSV; a model may have its own way to write them."""
    text: str = plugin.model.to_csv(rows) if form == "csv" else plugin.model.to_json(rows)
    return text


def _given(route: str, *forms: str) -> tuple[dict[str, Any], str]:
    """Return the arguments of the request and the form of its answer.

    Raises:
        BadArgument: One makes no sense.
    """
    given = arguments.parse(route, flask.request.args.items(multi=True))
    if given.get("format") and not given["callback"]:
        return given, given["format"]
    found = answers.acceptable_form(flask.request.accept_mimetypes, forms)
    if found is None:
        flask.abort(406, f"This is answered as {', '.join(answers.TYPES[form] for form in forms)}.")
    if found == "jsonp" and not given["callback"]:
        raise BadArgument("callback", "it is missing: the name of the function that is called")
    return given, "jsonp" if given["callback"] else found


def _answer(value: Any, given: Mapping[str, Any]) -> flask.Response:
    return answers.as_json(value, callback=given["callback"])


@blueprint.route("/api/")
def index() -> flask.Response:
    """Answer with the names of all statistics."""
    given, _ = _given(_LIST, "json", "jsonp")
    return _answer(list(flask.current_app.extensions["plugins"]), given)


@blueprint.route("/api/<path:ident>")
def rows(ident: str) -> flask.Response:
    """Answer with rows."""
    plugin = plugin_of(ident)
    given, form = _given(_ONE, "json", "jsonp", "csv")
    page = numbers().page(plugin.model, given, rows_per_page(given))
    text = text_of(plugin, form, page.rows)
    if form == "csv":
        response = flask.Response(text, content_type="text/csv; charset=utf-8; header=present")
        response.headers["Content-Disposition"] = f'attachment; filename="{_file_name(ident)}.csv"'
    else:
        response = answers.as_written(text, callback=given["callback"])
    _link(response, page)
    return response


def _file_name(ident: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in ident)


@blueprint.route("/api/<path:ident>/layout/")
def layout(ident: str) -> flask.Response:
    """Answer with how a page shows them."""
    plugin = plugin_of(ident)
    given, _ = _given(_LAYOUT, "json", "jsonp")
    if plugin.layout is None:
        flask.abort(404, "These statistics have no layout.")
    return _answer(plugin.layout, given)


@blueprint.route("/openapi.json")
def described() -> flask.Response:
    """Answer with the description of all routes."""
    return answers.as_json(description.document(answers.address(""), flask.current_app.extensions["plugins"]))


# ---------------------------------------------------------------- links


def _link(response: flask.Response, page: Page) -> None:
    """Add the addresses of other pages, all about the same rows as this one."""
    response.headers["X-Link-Number"] = str(page.number)
    response.headers["X-Link-Count"] = str(page.pages)
    places = [("first", 1), ("prev", page.number - 1), ("next", page.number + 1), ("last", page.pages)]
    links = [f'<{_address(number, page)}>; rel="{name}"' for name, number in places if 1 <= number <= page.pages]
    if links:
        response.headers["Link"] = ", ".join(links)


def _address(number: int, page: Page) -> str:
    query = [(name, text) for name, text in flask.request.args.items(multi=True) if name not in {"page", "through"}]
    query += [("page", str(number)), ("through", str(page.through))]
    return answers.address(f"{flask.request.path}?{urlencode(query, errors='replace')}")
