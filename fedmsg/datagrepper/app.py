# SPDX-License-Identifier: LGPL-2.1-or-later
"""The application: ``create_app()`` makes one, and ``app``, made when it is first looked at, is for WSGI servers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import flask
from werkzeug.exceptions import HTTPException

import fedmsg.config
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.config import settings
from fedmsg.datagrepper import answers, configuration, counting, home, operating, pages, routes, streaming
from fedmsg.datagrepper.arguments import FORMATS, BadArgument
from fedmsg.datagrepper.connections import QueryTooSlow
from fedmsg.datagrepper.described import Describer
from fedmsg.datagrepper.history import History
from fedmsg.datagrepper.live import Feed
from fedmsg.exceptions import StoreError

__all__ = ["app", "create_app"]

log = logging.getLogger("fedmsg.datagrepper")

_CLIENT_TIMEOUT_SECONDS = 60.0
_MOST_BODY_BYTES = 1024 * 1024

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
    made = flask.Flask("fedmsg.datagrepper")
    made.config.update(configuration.read(found))
    made.config["MAX_CONTENT_LENGTH"] = _MOST_BODY_BYTES
    made.url_map.strict_slashes = False
    if path := made.config["APP_PATH"].strip("/"):
        made.wsgi_app = partial(_below, f"/{path}", made.wsgi_app)  # type: ignore[method-assign]
    # Another server than ours does not say how many it runs.
    processes = settings.of(found).datagrepper_workers or 1
    made.extensions["ending"] = threading.Event()
    made.extensions["describer"] = Describer(found)
    made.extensions["history"] = History(
        made.config["DATANOMMER_SQLALCHEMY_URL"], "datanommer.sqlalchemy.url", made.config["QUERY_TIMEOUT"],
        processes,
    )  # fmt: skip
    made.extensions["feed"] = Feed(made.extensions["history"], _streams(found))
    for blueprint in (routes.blueprint, counting.blueprint, streaming.blueprint, operating.blueprint):
        made.register_blueprint(blueprint)
    made.before_request(_limit_waiting)
    home.register(made)
    made.extensions["figures"] = operating.Figures(made, processes)
    made.after_request(answers.complete)
    _handle_errors(made)
    return made


def _below(path: str, inner: Any, environ: dict[str, Any], start_response: Any) -> Any:
    """Serve below a path, whether the proxy in front has removed it or not."""
    rest = environ["PATH_INFO"]
    if rest == path or rest.startswith(f"{path}/"):
        environ["PATH_INFO"] = rest[len(path) :] or "/"
    environ["SCRIPT_NAME"] = path
    return inner(environ, start_response)


def _streams(config: Mapping[str, Any]) -> int:
    """Return how many threads streams may take: some are left for other requests."""
    threads = settings.of(config).datagrepper_threads
    return max(1, threads - max(2, threads // 10))


def _limit_waiting() -> None:
    """Let no client that does not read or write keep a thread for ever."""
    connection = flask.request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(_CLIENT_TIMEOUT_SECONDS)


# ---------------------------------------------------------------- errors


def _handle_errors(made: flask.Flask) -> None:
    limited = RateLimitedLog(log)

    def bad(error: BadArgument) -> flask.Response:
        return _failure(400, str(error), argument=error.name, reason=error.reason)

    def slow(error: QueryTooSlow) -> flask.Response:
        limited.report("slow", f"{flask.request.path}: {error}")
        return _unavailable(f"{error}; ask for less: a shorter time, fewer alternatives")

    def away(error: StoreError) -> flask.Response:
        limited.report("away", str(error))
        # Its text names the place of the database.
        return _unavailable("the database can't be read")

    def http(error: HTTPException) -> flask.Response:
        response = _failure(error.code or 500, error.description or error.name)
        for name, value in error.get_headers():
            if name.lower() not in {"content-type", "content-length"}:
                response.headers[name] = value
        return response

    made.register_error_handler(BadArgument, bad)
    made.register_error_handler(QueryTooSlow, slow)
    made.register_error_handler(StoreError, away)
    made.register_error_handler(HTTPException, http)


def _failure(status: int, error: str, **more: Any) -> flask.Response:
    """Answer that a request failed, as a page where the client prefers one."""
    wants_html = answers.chosen_form(flask.request.accept_mimetypes, FORMATS) == "html"
    if wants_html and not flask.request.args.get("callback"):
        return pages.failure(status, error)
    return answers.problem(status, error, **more)


def _unavailable(error: str) -> flask.Response:
    if flask.request.path.rstrip("/") == "/healthz/ready":
        response = answers.as_json(
            {"status": 503, "title": "Service Unavailable", "detail": error}, 503, kind="application/problem+json"
        )
    else:
        response = _failure(503, error)
    response.headers["Retry-After"] = str(answers.RETRY_AFTER_SECONDS)
    return response
