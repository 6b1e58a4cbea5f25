# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every application has: the path that it is below, answers to what fails, clients that do not read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import flask
from werkzeug.exceptions import HTTPException

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._web import answers
from fedmsg._web.arguments import BadArgument
from fedmsg.exceptions import StoreError
from fedmsg.store.reading import QueryTooSlow

__all__ = ["make"]

_CLIENT_TIMEOUT_SECONDS = 60.0
_MOST_BODY_BYTES = 1024 * 1024

Failure = Callable[[int, str], flask.Response]


def make(
    name: str, config: dict[str, Any], log: logging.Logger, forms: tuple[str, ...], failure: Failure
) -> flask.Flask:
    """Return an application without routes, but with everything else that they have in common.

    Args:
        name: The package with its templates.
        config: Its configuration; `fedmsg._web.configuration` has the names that count here.
        log: Where failures are logged.
        forms: The forms of its answers, for the choice of a page for what failed.
        failure: Makes that page of a status and a text.
    """
    made = flask.Flask(name)
    made.config.update(config)
    made.config["MAX_CONTENT_LENGTH"] = _MOST_BODY_BYTES
    made.url_map.strict_slashes = False
    if path := made.config["APP_PATH"].strip("/"):
        made.wsgi_app = partial(_below, f"/{path}", made.wsgi_app)  # type: ignore[method-assign]
    made.extensions["ending"] = threading.Event()
    made.extensions["wake"] = lambda: None
    made.before_request(_limit_waiting)
    made.after_request(answers.complete)
    _Errors(log, forms, failure).register(made)
    return made


def _below(path: str, inner: Any, environ: dict[str, Any], start_response: Any) -> Any:
    """Serve below a path, whether the proxy in front has removed it or not."""
    rest = environ["PATH_INFO"]
    if rest == path or rest.startswith(f"{path}/"):
        environ["PATH_INFO"] = rest[len(path) :] or "/"
    environ["SCRIPT_NAME"] = path
    return inner(environ, start_response)


def _limit_waiting() -> None:
    """Let no client that does not read or write keep a thread for ever."""
    connection = flask.request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(_CLIENT_TIMEOUT_SECONDS)


# ---------------------------------------------------------------- errors


class _Errors:
    """Answers to what failed: a page where the client prefers one, else JSON."""

    def __init__(self, log: logging.Logger, forms: tuple[str, ...], page: Failure) -> None:
        self._log, self._forms, self._page = RateLimitedLog(log), forms, page

    def register(self, made: flask.Flask) -> None:
        made.register_error_handler(BadArgument, self._bad)
        made.register_error_handler(QueryTooSlow, self._slow)
        made.register_error_handler(StoreError, self._away)
        made.register_error_handler(HTTPException, self._http)

    def _failure(self, status: int, error: str, **more: Any) -> flask.Response:
        wants_html = answers.chosen_form(flask.request.accept_mimetypes, self._forms) == "html"
        if wants_html and not flask.request.args.get("callback"):
            return self._page(status, error)
        return answers.problem(status, error, **more)

    def _unavailable(self, error: str) -> flask.Response:
        if flask.request.path.rstrip("/") == "/healthz/ready":
            response = answers.as_json(
                {"status": 503, "title": "Service Unavailable", "detail": error}, 503, kind=answers.PROBLEM
            )
        else:
            response = self._failure(503, error)
        response.headers["Retry-After"] = str(answers.RETRY_AFTER_SECONDS)
        return response

    def _bad(self, error: BadArgument) -> flask.Response:
        return self._failure(400, str(error), argument=error.name, reason=error.reason)

    def _slow(self, error: QueryTooSlow) -> flask.Response:
        self._log.report("slow", f"{flask.request.path}: {error}")
        return self._unavailable(f"{error}; ask for less: a shorter time, fewer alternatives")

    def _away(self, error: StoreError) -> flask.Response:
        self._log.report("away", str(error))
        # Its text names the place of the database.
        return self._unavailable("the database can't be read")

    def _http(self, error: HTTPException) -> flask.Response:
        response = self._failure(error.code or 500, error.description or error.name)
        for name, value in error.get_headers():
            if name.lower() not in {"content-type", "content-length"}:
                response.headers[name] = value
        return response
