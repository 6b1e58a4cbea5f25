# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers: JSON and JSONP, the choice of a form by the Accept header, and the headers that all answers have."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flask

from fedmsg._web.written import dump

if TYPE_CHECKING:
    from werkzeug.datastructures import MIMEAccept

__all__ = [
    "PROBLEM",
    "RETRY_AFTER_SECONDS",
    "TYPES",
    "acceptable_form",
    "address",
    "as_json",
    "as_json_in_parts",
    "as_written",
    "chosen_form",
    "complete",
    "problem",
    "unavailable",
]

#: The types of the forms of an answer.
TYPES: Mapping[str, str] = {
    "json": "application/json",
    "jsonp": "application/javascript",
    "html": "text/html",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "atom": "application/atom+xml",
    "feed": "application/feed+json",
}
#: The type of what health checks read.
PROBLEM = "application/problem+json"
#: When a client may ask again that could not be answered.
RETRY_AFTER_SECONDS = 10
# Less than that does not get smaller.
_GZIP_FROM_BYTES = 600
_COMPRESSED = re.compile(r"^(?:text/|application/(?:json|javascript|atom\+xml|feed\+json)|image/svg)")


def chosen_form(accept: MIMEAccept, forms: tuple[str, ...]) -> str:
    """Return the form of an answer that a client prefers: the first one where it names none of them."""
    best, quality = forms[0], 0.0
    for form in forms:
        if (found := accept.quality(TYPES[form])) > quality:
            best, quality = form, found
    return best


def acceptable_form(accept: MIMEAccept, forms: tuple[str, ...]) -> str | None:
    """Return the form of an answer that a client prefers, or None where it takes none of them."""
    return chosen_form(accept, forms) if not accept or any(accept.quality(TYPES[form]) for form in forms) else None


def as_json(value: Any, status: int = 200, *, callback: str | None = None, kind: str = "") -> flask.Response:
    """Answer with JSON, or with a call of a function of JavaScript."""
    return as_written(dump(value), status, callback=callback, kind=kind)


def as_written(text: str, status: int = 200, *, callback: str | None = None, kind: str = "") -> flask.Response:
    """Answer with a text of JSON, or with a call of a function of JavaScript."""
    if callback is not None:
        return flask.Response(f"{callback}({text});", status, content_type=TYPES["jsonp"])
    return flask.Response(f"{text}\n", status, content_type=kind or TYPES["json"])


def as_json_in_parts(
    name: str, parts: Iterable[Sequence[Any]], others: Callable[[int], Mapping[str, Any]], *, callback: str | None
) -> flask.Response:
    """Answer with JSON whose list is too long to be in memory at once.

    Args:
        name: The key of the list.
        parts: Its values, a part in memory at a time.
        others: Returns the other keys, by the length of the list.
        callback: The function of JavaScript that is called, if one is.
    """

    def written() -> Iterator[str]:
        count = 0
        yield f"{callback or ''}{'(' if callback else ''}{{{dump(name)}:["
        for part in parts:
            for value in part:
                yield f"{',' if count else ''}{dump(value)}"
                count += 1
        yield f"],{dump(others(count))[1:]}{');' if callback else ''}\n"

    return flask.Response(written(), content_type=TYPES["jsonp" if callback else "json"])


def problem(status: int, error: str, **more: Any) -> flask.Response:
    """Answer that a request failed."""
    return as_json({"error": error, **more}, status)


def unavailable(error: str) -> flask.Response:
    """Answer that a request can be made again in a while."""
    response = problem(503, error)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def address(path: str) -> str:
    """Return the whole address of a path of the application."""
    base = flask.current_app.config["BASE_URL"] or flask.request.url_root
    return base.rstrip("/") + path


# ---------------------------------------------------------------- headers


def complete(response: flask.Response) -> flask.Response:
    """Add the headers that all answers have, and compress what is worth it."""
    headers, config = response.headers, flask.current_app.config
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Content-Security-Policy", config["CONTENT_SECURITY_POLICY"])
    response.vary.update(["Origin", "Accept"])
    _allow_origin(response)
    if not response.is_streamed and not response.direct_passthrough:
        if response.status_code == 200 and flask.request.method in {"GET", "HEAD"}:
            response.add_etag(weak=True)
            response.make_conditional(flask.request)
        _compress(response)
    return response


def _compress(response: flask.Response) -> None:
    if not _COMPRESSED.match(response.content_type or ""):
        return
    response.vary.add("Accept-Encoding")
    if (
        "Content-Encoding" in response.headers
        or response.status_code == 304
        or not flask.request.accept_encodings.quality("gzip")
    ):
        return
    body = response.get_data()
    if len(body) >= _GZIP_FROM_BYTES:
        response.set_data(gzip.compress(body, 4, mtime=0))
        response.headers["Content-Encoding"] = "gzip"


def _allow_origin(response: flask.Response) -> None:
    """Let pages of other sites read the answer, where the configuration allows it."""
    request, config, headers = flask.request, flask.current_app.config, response.headers
    origin = request.headers.get("Origin", "")
    if not origin or not is_allowed_origin(origin):
        return
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Expose-Headers"] = "ETag, Link, Retry-After, X-Link-Number, X-Link-Count"
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        headers["Access-Control-Allow-Methods"] = ", ".join(config["CORS_METHODS"])
        wanted = request.headers.get("Access-Control-Request-Headers", "")
        names = [name for name in map(str.strip, wanted.split(",")) if name]
        allowed = [name for name in names if _matches(config["CORS_HEADERS"], name)]
        if allowed:
            headers["Access-Control-Allow-Headers"] = ", ".join(allowed)
        headers["Access-Control-Max-Age"] = str(int(config["CORS_MAX_AGE"]))


def is_allowed_origin(origin: str) -> bool:
    """Return whether pages of a site may read answers."""
    return _matches(flask.current_app.config["CORS_DOMAINS"], origin)


def _matches(patterns: list[re.Pattern[str]], text: str) -> bool:
    return len(text) < 1000 and any(pattern.fullmatch(text) for pattern in patterns)
