# SPDX-License-Identifier: LGPL-2.1-or-later
"""What those who run an application ask: health, metrics."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import flask

from fedmsg._util import plugins
from fedmsg._web import answers
from fedmsg.monitoring.metrics import Sample

__all__ = ["Figures", "blueprint", "register"]

More = Callable[[Mapping[str, str]], Iterable[Sample]]


class Figures:
    """Counts what an application has done.

    Args:
        made: The application.
        name: What the names of the metrics begin with.
        processes: How many processes there are, each with figures of its own.
        more: Returns more samples, with labels.
    """

    def __init__(self, made: flask.Flask, name: str, processes: int, more: More) -> None:
        self._name = name
        self._is_one_of_several = processes > 1
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}
        self._more = more
        made.before_request(self._begin)
        # Functions of this list run from its end: this one sees the status that is sent.
        made.after_request_funcs.setdefault(None, []).insert(0, self._end)

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
            yield Sample(f"{self._name}_requests", "Requests that were answered", number, labels)
        for route, seconds in sorted(self._seconds.items()):
            labels = {**own, "route": route}
            yield Sample(f"{self._name}_seconds", "Seconds that answers took to begin", seconds, labels)
        yield from self._more(own)


blueprint = flask.Blueprint("operating", __name__)


def register(
    made: flask.Flask, name: str, processes: int, check: Callable[[], None], more: More = lambda _: ()
) -> None:
    """Add the routes to an application.

    Args:
        made: The application.
        name: What the names of the metrics begin with.
        processes: How many processes there are.
        check: Raises what keeps the database from being read.
        more: Returns more metrics, with labels.
    """
    made.extensions["figures"] = Figures(made, name, processes, more)
    made.extensions["check"] = check
    made.register_blueprint(blueprint)


@blueprint.route("/metrics")
def metrics() -> flask.Response:
    """Answer with what this process has done, as Prometheus reads it."""
    figures: Figures = flask.current_app.extensions["figures"]
    body, kind = plugins.lazy("metrics").exposition(figures.samples, flask.request.headers.get("Accept", ""))
    return flask.Response(body, content_type=kind)


@blueprint.route("/healthz/live")
def live() -> flask.Response:
    """Answer that the process works."""
    return answers.as_json({"status": 200, "title": "OK"}, kind=answers.PROBLEM)


@blueprint.route("/healthz/ready")
def ready() -> flask.Response:
    """Answer whether the database can be read."""
    flask.current_app.extensions["check"]()
    return answers.as_json({"status": 200, "title": "OK"}, kind=answers.PROBLEM)
