# SPDX-License-Identifier: LGPL-2.1-or-later
"""The routes for those who run the application: health, metrics, its own description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import flask

from fedmsg._web import answers, operating
from fedmsg.datagrepper import openapi
from fedmsg.monitoring.metrics import Sample

__all__ = ["blueprint", "register"]

blueprint = flask.Blueprint("description", __name__)


def register(made: flask.Flask, processes: int) -> None:
    """Add the routes to an application.

    Args:
        made: The application.
        processes: How many processes there are, each with figures of its own.
    """
    feed = made.extensions["feed"]

    def more(labels: Mapping[str, str]) -> Iterator[Sample]:
        yield Sample("datagrepper_streams", "Streams that are open", feed.streams, labels, grows=False)
        yield Sample("datagrepper_streamed", "Messages that were sent to streams", feed.sent, labels)

    operating.register(made, "datagrepper", processes, made.extensions["history"].check, more)
    made.register_blueprint(blueprint)


@blueprint.route("/openapi.json")
def description() -> flask.Response:
    """Answer with the description of all routes."""
    return answers.as_json(openapi.document(answers.address("")))
