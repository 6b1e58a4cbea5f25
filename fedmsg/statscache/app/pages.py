# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages for people: the dashboard, how to begin, the reference."""

from __future__ import annotations

import datetime as dt
import shlex
from pathlib import Path
from typing import Any

import flask

from fedmsg._web import answers, pages
from fedmsg._web.pages import page
from fedmsg.statscache.app import api, arguments
from fedmsg.statscache.app.charts import Charts
from fedmsg.statscache.plugins import BasePlugin

__all__ = ["EXAMPLE", "failure", "register"]

blueprint = flask.Blueprint("web", __name__)

#: The plugin that the page on how to begin shows; tests run it.
EXAMPLE = Path(__file__).with_name("example.py")
_TABLE_ROWS = 25


def register(made: flask.Flask) -> None:
    """Add the pages to an application."""
    pages.register(
        made, brand="statscache", about="statistics of the bus", home="web.dashboard",
        navigation=(
            ("Dashboard", "web.dashboard"), ("Getting started", "web.getting_started"), ("Reference", "web.reference"),
        ),
    )  # fmt: skip
    made.jinja_env.globals["interval"] = _interval
    made.extensions["charts"] = Charts(made.extensions["numbers"])
    made.register_blueprint(blueprint)


def _interval(plugin: BasePlugin) -> str:
    """Return the interval of a plugin where its name ends with it: others may have the same name."""
    found = "" if plugin.schedule is None else str(plugin.schedule)
    return found if found and plugin.ident.endswith(f"-{found}") else ""


@blueprint.route("/")
@blueprint.route("/web/")
def begin() -> Any:
    """Send a reader to the dashboard."""
    return flask.redirect(flask.url_for("web.dashboard"))


@blueprint.route("/web/dashboard")
def dashboard() -> flask.Response:
    """Show a small chart of each of the statistics."""
    return page("dashboard.html", plugins=flask.current_app.extensions["plugins"].values())


@blueprint.route("/web/dashboard/<path:ident>")
def one(ident: str) -> flask.Response:
    """Show one of the statistics: its chart, and its newest rows as a table."""
    plugin = api.plugin_of(ident)
    given = arguments.parse("/api/{ident}", [("rows_per_page", str(_TABLE_ROWS))])
    rows = api.numbers().page(plugin.model, given, _TABLE_ROWS).rows
    address = answers.address(flask.url_for("api.rows", ident=ident).removeprefix(flask.request.script_root))
    return page(
        "one.html",
        plugin=plugin,
        names=plugin.model.columns()[1:],
        rows=[[_shown(getattr(row, name)) for name in plugin.model.columns()[1:]] for row in rows],
        table_rows=_TABLE_ROWS,
        curl=f"curl {shlex.quote(address)}",
        python=f"requests.get({address!r}).json()",
    )


def _shown(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.replace(microsecond=0).isoformat(" ")
    if isinstance(value, (int, float)):
        return f"{value:,}"
    return "" if value is None else str(value)[:300]


@blueprint.route("/web/dashboard/<path:ident>/chart/")
def chart(ident: str) -> flask.Response:
    """Answer with what the chart of one of the statistics shows now."""
    charts: Charts = flask.current_app.extensions["charts"]
    return answers.as_json(charts.of(api.plugin_of(ident)))


@blueprint.route("/web/getting-started")
def getting_started() -> flask.Response:
    """Show how to keep statistics, and how to write a plugin."""
    text = EXAMPLE.read_text(encoding="utf-8")
    return page("getting_started.html", example=text.partition("\n")[2] if text.startswith("# SPDX") else text)


@blueprint.route("/web/reference")
def reference() -> flask.Response:
    """Show what can be asked."""
    plugins: dict[str, BasePlugin] = flask.current_app.extensions["plugins"]
    sections = [
        {"route": route, "about": about, "rows": arguments.ROUTES.get(route, [])}
        for route, about in arguments.SUMMARIES.items()
    ]
    return page(
        "reference.html", sections=sections, plugins=plugins.values(),
        most=flask.current_app.config["MAXIMUM_ROWS_PER_PAGE"], usual=flask.current_app.config["DEFAULT_ROWS_PER_PAGE"],
    )  # fmt: skip


def failure(status: int, error: str) -> flask.Response:
    """Return the page of an error."""
    return page("failure.html", status, code=status, error=error)
