# SPDX-License-Identifier: LGPL-2.1-or-later
"""The routes that answer questions about messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import flask

from fedmsg._web import answers
from fedmsg._web.arguments import BadArgument
from fedmsg.datagrepper import arguments, exports, feeds, pages
from fedmsg.datagrepper.arguments import FORMATS
from fedmsg.datagrepper.asked import Asked
from fedmsg.datagrepper.described import Describer
from fedmsg.datagrepper.history import History, Page

__all__ = ["answering", "blueprint", "described", "describer", "given_of", "history", "pairs"]

blueprint = flask.Blueprint("datagrepper", __name__)


def history() -> History:
    """Return the history of the application."""
    found: History = flask.current_app.extensions["history"]
    return found


def describer() -> Describer:
    """Return what puts messages into words."""
    found: Describer = flask.current_app.extensions["describer"]
    return found


def pairs() -> Iterator[tuple[str, str]]:
    """Yield the arguments of the request, of its address and of its JSON.

    Raises:
        BadArgument: One in the JSON is neither text nor a number nor a list of them.
    """
    request = flask.request
    yield from request.args.items(multi=True)
    if request.method != "POST":
        return
    body = request.get_json()
    if not isinstance(body, dict):
        raise BadArgument("body", "it is not a JSON object")
    for name, value in body.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool):
                yield name, str(one).lower()
            elif isinstance(one, (str, int, float)):
                yield name, str(one)
            elif one is not None:
                raise BadArgument(name[:100], "it is neither text nor a number nor a list of them")


def given_of(route: str) -> tuple[dict[str, Any], Asked | None]:
    """Return the arguments of the request, and what they ask for where the route is about a time.

    Raises:
        BadArgument: One makes no sense.
    """
    found = list(pairs())
    given = arguments.parse(route, found)
    if "start" not in given:
        return given, None
    if given.get("count", "") is None:
        given["count"] = "estimated" if flask.current_app.config["DATAGREPPER_APPROXIMATE_COUNT"] else "exact"
    has_page = any(name == "page" and text for name, text in found)
    return given, Asked.of(given, default_delta=flask.current_app.config["DEFAULT_QUERY_DELTA"], has_page=has_page)


def answering(route: str) -> Asked:
    """Return what the request asks for.

    Raises:
        BadArgument: An argument makes no sense.
    """
    _, asked = given_of(route)
    assert asked is not None
    return asked


def form_of(given: dict[str, Any], forms: tuple[str, ...]) -> str:
    """Return the form of the answer: that of ``format``, else the one that the client prefers."""
    if given.get("format"):
        return str(given["format"])
    if given.get("callback") or given.get("is_raw"):
        return "json"
    return answers.chosen_form(flask.request.accept_mimetypes, forms)


# ---------------------------------------------------------------- messages


@blueprint.route("/raw", methods=["GET", "POST"])
def raw() -> flask.Response:
    """Answer with messages."""
    asked = answering("/raw")
    asked.check_contains()
    form = form_of(dict(asked.given), FORMATS)
    if form in {"ndjson", "csv"}:
        return _export(asked, form)
    # Before the search, so that nothing falls between it and what comes live.
    position = history().newest_position() if form == "html" else None
    page = history().search(asked)
    response = _in_form(form, asked, page, position)
    _link_to_next(response, page)
    return response


def _in_form(form: str, asked: Asked, page: Page, position: int | None) -> flask.Response:
    if form in {"atom", "feed"}:
        return _feed(form, asked, page)
    given, words = asked.given, describer()
    if form == "html":
        everything = {**given, "meta": pages.meta_of(given), "fields": []}
        found = described(page, lambda part: words.messages(part, everything), given)
        return pages.search(asked, _about(asked, page, 0), itertools.chain.from_iterable(found), position=position)
    return _json(asked, page, lambda part: words.messages(part, given))


def described(
    page: Page, describe: Callable[[Sequence[Any]], list[dict[str, Any]]], given: Mapping[str, Any]
) -> Iterator[list[dict[str, Any]]]:
    """Return the messages of a page in words, a part in memory at a time.

    Raises:
        BadArgument: They are wanted in groups, which are made of all of them.
    """
    if page.rest is not None and given.get("grouped"):
        raise BadArgument("rows_per_page", "these messages are too long to be grouped; ask for fewer at a time")
    return map(describe, page.parts())


def _json(asked: Asked, page: Page, describe: Callable[[Sequence[Any]], list[dict[str, Any]]]) -> flask.Response:
    """Answer with the messages of a page, piece by piece where they are too long for one."""
    callback, found = asked.given["callback"], described(page, describe, asked.given)
    if page.rest is not None:
        return answers.as_json_in_parts(
            "raw_messages", found, lambda count: _about(asked, page, count), callback=callback
        )
    (messages,) = found
    return answers.as_json({"raw_messages": messages, **_about(asked, page, len(messages))}, callback=callback)


def _feed(form: str, asked: Asked, page: Page) -> flask.Response:
    wanted = {"meta": feeds.META, "fields": feeds.FIELDS}
    messages = [one for part in page.parts() for one in describer().messages(part, wanted)]
    terms = [f"{name.replace('_', ' ')} {value}" for name, values in asked.filters().items() for value in values]
    feed = feeds.Feed(
        " · ".join(["Messages", *terms])[:300], answers.address(flask.request.full_path.rstrip("?")),
        answers.address(_path(format=["html"])), answers.address("/"),
        None if page.cursor is None else answers.address(_path(cursor=[str(page.cursor)], page=[])), messages,
    )  # fmt: skip
    if form == "atom":
        return flask.Response(feeds.as_atom(feed), content_type=f"{answers.TYPES['atom']}; charset=utf-8")
    return answers.as_json(feeds.as_json_feed(feed), kind=answers.TYPES["feed"])


def _export(asked: Asked, form: str) -> flask.Response:
    """Answer with all messages of a query, or with those of one page where it names the rows of a page."""
    words, given = describer(), asked.given
    if any(name == "rows_per_page" and text for name, text in pairs()):
        found: Iterator[Any] = history().search(asked).parts()
    else:
        found = history().walk(asked)
    # What is wrong with the query shows itself before the answer has begun.
    first: Any = next(found, [])
    chunks = (words.messages(chunk, {**given, "grouped": False}) for chunk in itertools.chain([first], found))
    lines = exports.as_ndjson(chunks) if form == "ndjson" else exports.as_csv(chunks, given["fields"], given["meta"])
    kind = "application/x-ndjson" if form == "ndjson" else "text/csv; charset=utf-8; header=present"
    response = flask.Response(lines, content_type=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="messages.{form}"'
    return response


def _about(asked: Asked, page: Page, count: int) -> dict[str, Any]:
    return {
        "total": page.total, "pages": page.pages, "count": count, "arguments": asked.shown(),
        "cursor": None if page.cursor is None else str(page.cursor),
    }  # fmt: skip


def _path(**changed: list[str]) -> str:
    """Return the path of the request with other arguments."""
    query = flask.request.args.copy()
    for name, values in changed.items():
        query.setlist(name, values)
    return f"{flask.request.path}?{urlencode([*query.items(multi=True)])}"


def _link_to_next(response: flask.Response, page: Page) -> None:
    """Add the address of the next page as a header."""
    if page.cursor is not None and flask.request.method != "POST":
        path = flask.request.script_root + _path(cursor=[str(page.cursor)], page=[])
        response.headers["Link"] = f'<{path}>; rel="next"'


@blueprint.route("/v2/search", methods=["GET", "POST"])
def search_v2() -> flask.Response:
    """Answer with messages in the form of fedora-messaging."""
    asked = answering("/v2/search")
    asked.check_contains()
    page = history().search(asked)
    words = describer()
    response = _json(asked, page, lambda part: [words.fedora_message(one, asked.given) for one in part])
    _link_to_next(response, page)
    return response


def _one(route: str) -> tuple[dict[str, Any], Any]:
    given, _ = given_of(route)
    if not given["id"]:
        raise BadArgument("id", "it is missing: the msg_id of a message")
    return given, history().one(given["id"])


@blueprint.route("/id", methods=["GET", "POST"])
def one() -> flask.Response:
    """Answer with one message."""
    given, message = _one("/id")
    form = form_of(given, ("json", "html"))
    if message is None:
        if form == "html":
            return pages.failure(404, "There is no message with this id.")
        return answers.as_json({"error": "not_found"}, 404, callback=given["callback"])
    if form == "html":
        return pages.message(given, describer().message(message, {"meta": pages.meta_of(given, alone=True)}))
    return answers.as_json(describer().message(message, given), callback=given["callback"])


@blueprint.route("/v2/id", methods=["GET", "POST"])
def one_v2() -> flask.Response:
    """Answer with one message in the form of fedora-messaging."""
    given, message = _one("/v2/id")
    if message is None:
        return answers.as_json({"error": "not_found"}, 404, callback=given["callback"])
    return answers.as_json(describer().fedora_message(message, given), callback=given["callback"])


@blueprint.route("/messagecount")
def messagecount() -> flask.Response:
    """Answer with the number of messages."""
    given, _ = given_of("/messagecount")
    return answers.as_json({"messagecount": history().count()}, callback=given["callback"])
