# SPDX-License-Identifier: LGPL-2.1-or-later
"""The application: ``create_app()`` makes one, and ``app``, made when it is first looked at, is for WSGI servers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import flask

import fedmsg.config
from fedmsg._web import application
from fedmsg.config import settings
from fedmsg.datagrepper import configuration, counting, home, operating, pages, routes, streaming
from fedmsg.datagrepper.arguments import FORMATS
from fedmsg.datagrepper.described import Describer
from fedmsg.datagrepper.history import History
from fedmsg.datagrepper.live import Feed

__all__ = ["app", "create_app"]

log = logging.getLogger("fedmsg.datagrepper")

app: flask.Flask


def __getattr__(name: str) -> flask.Flask:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()["app"] = create_app()
    return found


def create_app(config: Mapping[str, Any] | None = None) -> flask.Flask:
    """Make the application.

    Args:
        config: The configuration of fedmsg; read from its files where it is not given.

    Raises:
        ConfigError: It can't work.
    """
    found = fedmsg.config.load_config() if config is None else config
    made = application.make("fedmsg.datagrepper", configuration.read(found), log, FORMATS, pages.failure)
    # Another server than ours does not say how many it runs.
    processes = settings.of(found).datagrepper_workers or 1
    made.extensions["describer"] = Describer(found)
    made.extensions["history"] = History(
        made.config["DATANOMMER_SQLALCHEMY_URL"], "datanommer.sqlalchemy.url", made.config["QUERY_TIMEOUT"],
        processes,
    )  # fmt: skip
    made.extensions["feed"] = Feed(made.extensions["history"], _streams(found))
    made.extensions["wake"] = made.extensions["feed"].wake
    for blueprint in (routes.blueprint, counting.blueprint, streaming.blueprint):
        made.register_blueprint(blueprint)
    home.register(made)
    operating.register(made, processes)
    return made


def _streams(config: Mapping[str, Any]) -> int:
    """Return how many threads streams may take: some are left for other requests."""
    threads = settings.of(config).datagrepper_threads
    return max(1, threads - max(2, threads // 10))
