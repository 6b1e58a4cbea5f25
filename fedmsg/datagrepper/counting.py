# SPDX-License-Identifier: LGPL-2.1-or-later
"""The routes that answer with numbers: charts, histograms, facets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask

from fedmsg._util import plugins
from fedmsg._web import answers
from fedmsg.datagrepper import arguments, counts, routes
from fedmsg.datagrepper.asked import Asked

__all__ = ["blueprint"]

blueprint = flask.Blueprint("counting", __name__)

_DAY = 86400.0
_CHART_SECONDS = 365 * _DAY
_FACET_SECONDS = 31 * _DAY
# A chart is SVG with a style of its own, and nothing else.
_SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def _asked(route: str, seconds: float | None) -> Asked:
    given = arguments.parse(route, routes.pairs())
    return Asked.of({"order": "desc", **given}, default_delta=seconds)


@blueprint.route("/charts/<kind>")
def chart(kind: str) -> flask.Response:
    """Answer with a chart."""
    if kind not in arguments.CHARTS:
        return answers.problem(404, "not_found")
    charts = plugins.lazy("charts")
    asked = _asked("/charts/{kind}", _CHART_SECONDS)
    given: Mapping[str, Any] = asked.given
    is_known = given["interpolation"] is None or given["interpolation"] in charts.INTERPOLATIONS
    if charts.style_of(given["style"]) is None or not is_known:
        return answers.problem(404, "not_found")
    ends, series = counts.windows(routes.history(), asked, given["N"], given["split_on"])
    response = flask.Response(charts.draw(kind, given, ends, series), content_type="image/svg+xml")
    response.headers["Content-Security-Policy"] = _SVG_POLICY
    return response


@blueprint.route("/histogram")
def histogram() -> flask.Response:
    """Answer with counts by time."""
    asked = _asked("/histogram", None)
    return answers.as_json(counts.histogram(routes.history(), asked), callback=asked.given["callback"])


@blueprint.route("/facets")
def facets() -> flask.Response:
    """Answer with the most frequent topics, categories, users, packages and agents."""
    asked = _asked("/facets", _FACET_SECONDS)
    given = asked.given
    names = given["facet"] or counts.FACETS
    found = counts.facets(routes.history(), asked, names, given["limit"], given["prefix"] or "")
    return answers.as_json({"start": asked.start, "end": asked.end, **found}, callback=given["callback"])
