# SPDX-License-Identifier: LGPL-2.1-or-later
"""The routes for those who run the application: health, metrics, its own description."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator

import flask

from fedmsg._util import plugins
from fedmsg.datagrepper import answers, openapi, routes
from fedmsg.monitoring.metrics import Sample

__all__ = ["Figures", "blueprint"]

blueprint = flask.Blueprint("operating", __name__)

_PROBLEM = "application/problem+json"


class Figures:
    """Counts what the application has done.

    Args:
        made: The application.
        processes: How many processes there are, each with figures of its own.
    """

    def __init__(self, made: flask.Flask, processes: int) -> None:
        self._is_one_of_several = processes > 1
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}
        made.before_request(self._begin)
        made.after_request(self._end)
        self._made = made

    @staticmethod
    def _begin() -> None:
        flask.g.began = time.monotonic()

    def _end(self, response: flask.Response) -> flask.Response:
        rule = flask.request.url_rule
        route = rule.rule if rule is not None else "none"
        self._requests[route, str(response.status_code)] += 1
        taken = time.monotonic() - flask.g.get("began", time.monotonic())
        self._seconds[route] = self._seconds.get(route, 0.0) + taken
        return response

    def samples(self) -> Iterator[Sample]:
        """Yield what was counted; of one process of several, with its number."""
        own = {"process": str(os.getpid())} if self._is_one_of_several else {}
        for (route, status), number in sorted(self._requests.items()):
            labels = {**own, "route": route, "status": status}
            yield Sample("datagrepper_requests", "Requests that were answered", number, labels)
        for route, seconds in sorted(self._seconds.items()):
            yield Sample("datagrepper_seconds", "Seconds that answers took to begin", seconds, {**own, "route": route})
        feed = self._made.extensions["feed"]
        yield Sample("datagrepper_streams", "Streams that are open", feed.streams, own, grows=False)
        yield Sample("datagrepper_streamed", "Messages that were sent to streams", feed.sent, own)


@blueprint.route("/metrics")
def metrics() -> flask.Response:
    """Answer with what this process has done, as Prometheus reads it."""
    figures: Figures = flask.current_app.extensions["figures"]
    body, kind = plugins.lazy("metrics").exposition(figures.samples, flask.request.headers.get("Accept", ""))
    return flask.Response(body, content_type=kind)


@blueprint.route("/openapi.json")
def description() -> flask.Response:
    """Answer with the description of all routes."""
    return answers.as_json(openapi.document(answers.address("")))


@blueprint.route("/healthz/live")
def live() -> flask.Response:
    """Answer that the process works."""
    return answers.as_json({"status": 200, "title": "OK"}, kind=_PROBLEM)


@blueprint.route("/healthz/ready")
def ready() -> flask.Response:
    """Answer whether the database can be read."""
    routes.history().check()
    return answers.as_json({"status": 200, "title": "OK"}, kind=_PROBLEM)
