# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages that are no answers: the one at ``/``, the reference, and the script for pages of other sites."""

from __future__ import annotations

import itertools
from typing import Any

import flask

from fedmsg.datagrepper import addresses, arguments, openapi, pages, routes
from fedmsg.datagrepper.asked import Asked

__all__ = ["blueprint", "register"]

blueprint = flask.Blueprint("pages", __name__)

_WIDGET_TYPE = "application/javascript; charset=utf-8"
_WIDGET_SECONDS = 3600


def register(app: flask.Flask) -> None:
    """Add the pages to an application."""
    app.register_blueprint(blueprint)
    pages.register(app)


@blueprint.route("/")
def home() -> flask.Response:
    """Show the newest messages, and the form to search."""
    given = arguments.parse("/raw", [("count", "none"), ("size", flask.request.args.get("size", ""))])
    asked = Asked.of(given)
    # Before the search, so that nothing falls between it and what comes live.
    position = routes.history().newest_position()
    page = routes.history().search(asked)
    wanted = {"meta": pages.meta_of(given)}
    found = routes.described(page, lambda part: routes.describer().messages(part, wanted), given)
    answer = {"total": None, "cursor": None if page.cursor is None else str(page.cursor)}
    return pages.search(asked, answer, itertools.chain.from_iterable(found), position=position)


@blueprint.route("/widget.js")
def widget() -> flask.Response:
    """Serve the script that shows messages on a page of another site."""
    response = flask.current_app.send_static_file("widget.js")
    response.content_type = _WIDGET_TYPE
    response.cache_control.max_age = _WIDGET_SECONDS
    return response


@blueprint.route("/reference")
@blueprint.route("/reference/<name>")
def reference(name: str = "") -> flask.Response:
    """Show what can be asked, and how."""
    sections = [_section(route) for route in openapi.SUMMARIES]
    known = {section["name"] for section in sections} | {"general", "widget"}
    if name and name not in known:
        flask.abort(404, "There is no such page of the reference.")
    return pages.reference(name, sections)


def _section(route: str) -> dict[str, Any]:
    """Return what the reference has about a route."""
    rows = arguments.ROUTES.get(route, [])
    example = [(row.name, row.example) for row in rows if row.name in {"category", "id"}]
    path = route.replace("{kind}", "line")
    return {
        "route": route,
        "name": path.strip("/").replace("/", "-"),
        "about": openapi.SUMMARIES[route],
        "rows": rows,
        "curl": addresses.curl(addresses.absolute(addresses.with_query(flask.request.script_root + path, example))),
    }
