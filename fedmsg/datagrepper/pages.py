# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages of HTML for people: searches, messages, the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import flask

from fedmsg._web import kinds, pages
from fedmsg._web.pages import page
from fedmsg.datagrepper import addresses, cards
from fedmsg.datagrepper.arguments import TABLE
from fedmsg.datagrepper.asked import Asked

__all__ = ["failure", "message", "meta_of", "reference", "register", "search"]

SIZES = ("small", "medium", "large", "extra-large")
# What cards show. The long form is for the largest alone: a processor may ask other servers for it.
_META = ("title", "subtitle", "summary", "link", "usernames", "packages", "date")
_META_LONG = (*_META, "long_form")
_META_LIVE = ",".join(name for name in _META if name != "date")
_TIMES = {
    "3600": "the last hour", "86400": "the last day", "604800": "the last week",
    "2592000": "the last 30 days", "31536000": "the last year",
}  # fmt: skip
_LABELS = {
    "topic": "Topic", "category": "Category", "user": "User", "package": "Package", "agent": "Done by",
    "contains": "Text inside", "where": "Field",
}  # fmt: skip
_CHIPS = {**_LABELS, "q": "Words", "start": "From", "end": "Until", "delta": "Time"}
_FORMATS = (
    ("json", "JSON"), ("ndjson", "NDJSON, all pages"), ("csv", "CSV, all pages"),
    ("atom", "Atom feed"), ("feed", "JSON feed"),
)  # fmt: skip


def register(app: flask.Flask) -> None:
    """Prepare an application for pages."""
    bus = _bus_name(app.config["BUS_INFO"])
    pages.register(
        app, brand="datagrepper", about=f"the history of {bus}", home="pages.home",
        navigation=(("Search", "pages.home"), ("Reference", "pages.reference")),
    )  # fmt: skip
    app.jinja_env.globals.update(
        labels=_LABELS, filters=addresses.FILTERS, sizes=SIZES, search_address=addresses.search,
        message_address=addresses.one, sample=cards.SAMPLE,
    )  # fmt: skip


def _bus_name(info: Any) -> str:
    name = info.get("name") if isinstance(info, Mapping) else info
    return name if isinstance(name, str) and name else "the bus"


def meta_of(given: Mapping[str, Any], *, alone: bool = False) -> tuple[str, ...]:
    """Return what cards show of what fedmsg.meta knows.

    Args:
        given: The arguments of the request.
        alone: Whether a message has a page for itself.
    """
    return _META_LONG if alone or given["size"] == "extra-large" else _META


# ---------------------------------------------------------------- searches


def search(
    asked: Asked,
    answer: Mapping[str, Any],
    messages: Iterable[dict[str, Any]],
    *,
    position: int | None = None,
) -> flask.Response:
    """Return the page of the result of a search.

    Args:
        asked: What was asked.
        answer: ``total`` and ``cursor`` as JSON has them.
        messages: The messages with what `meta_of` names, as ``meta``; or the groups.
        position: The newest position there was when the search began; what comes live follows it.
    """
    given = asked.given
    size = given["size"]
    if given["grouped"]:
        found = [cards.of_group(one) for one in messages]
    else:
        found = [cards.of_message(one, with_json=size == "extra-large") for one in messages]
    pairs = addresses.asked_pairs()
    context = {
        "cards": found,
        "size": size,
        "next": answer["cursor"] and addresses.search(pairs, cursor=answer["cursor"], count="none"),
    }
    if not given["chrome"]:
        return page("fragment.html", **context)
    return page(
        "search.html",
        total=answer["total"],
        is_first=not flask.request.args.get("cursor") and given["page"] == 1,
        position=position,
        can_be_live=asked.order == "desc" and not given["grouped"] and given["end"] is None,
        size_links=[(one, addresses.search(addresses.with_changes(pairs, size=one))) for one in SIZES],
        **_form(pairs),
        **context,
    )


def _form(pairs: addresses.Pairs) -> dict[str, Any]:
    """Return what the form, the links and the chart of a search need."""
    values: dict[str, list[str]] = {}
    for name, text in pairs:
        values.setdefault(name, []).append(text)
    address = addresses.absolute(addresses.search(pairs))
    return {
        "values": values,
        "start": _local(values.get("start")),
        "end": _local(values.get("end")),
        "times": _TIMES,
        "examples": {name: row.example for name, row in TABLE.items()},
        "chips": _chips(pairs),
        "has_more": any(name in values for name in ("agent", "contains", "where", "start", "end", "order", "grouped")),
        "query": addresses.search(pairs).partition("?")[2],
        "first": addresses.search(pairs),
        "permanent": address,
        "curl": addresses.curl(address),
        "python": addresses.python(flask.url_for("datagrepper.raw"), pairs),
        "formats": [(name, label, addresses.search(pairs, format=name)) for name, label in _FORMATS],
        "live_meta": _META_LIVE,
    }


def _chips(pairs: addresses.Pairs) -> list[dict[str, Any]]:
    """Return the filters of a search, each with the address of the search without it."""
    found = []
    for name, text in pairs:
        plain = name.removeprefix("not_")
        if plain not in _CHIPS:
            continue
        shown = _TIMES.get(text, f"{text} seconds") if name == "delta" else text[:200]
        if name in {"start", "end"}:
            shown = _local([text]).replace("T", " ") or shown
        found.append({
            "label": _CHIPS[plain].lower(), "text": shown, "excludes": name != plain,
            "without": addresses.search([pair for pair in pairs if pair != (name, text)]),
        })  # fmt: skip
    return found


def _local(texts: list[str] | None) -> str:
    """Return a time as the field for it takes it: in UTC, in seconds."""
    try:
        return cards.time_of(kinds.moment.read(texts[0]))[1].rstrip("Z").partition(".")[0] if texts else ""
    except ValueError:
        return ""


# ---------------------------------------------------------------- one message


def message(given: Mapping[str, Any], found: dict[str, Any]) -> flask.Response:
    """Return the page of one message, which has ``meta``, see `meta_of`."""
    card = cards.of_message(found, alone=True)
    address = addresses.one(card.msg_id)
    permanent = addresses.absolute(address)
    return page(
        "message.html" if given["chrome"] else "one.html",
        card=card,
        size=given["size"],
        permanent=permanent,
        raw=f"{address}&is_raw=true",
        curl=addresses.curl(permanent),
        python=addresses.python(flask.url_for("datagrepper.one"), [("id", card.msg_id)]),
        certificate=_signed_by(found),
    )


def _signed_by(found: Mapping[str, Any]) -> str:
    return str(found.get("crypto") or "x509") if found.get("signature") else ""


# ---------------------------------------------------------------- reference and errors


def reference(name: str, sections: list[dict[str, Any]]) -> flask.Response:
    """Return the pages that document what can be asked: all of it, or one part by its name."""
    info = flask.current_app.config["BUS_INFO"]
    return page(
        "reference.html",
        part=name,
        sections=sections,
        bus_info=info if isinstance(info, Mapping) else {},
        websocket=flask.current_app.config["WEBSOCKET_URL"],
        root=addresses.absolute(flask.request.script_root + "/"),
    )


def failure(status: int, error: str) -> flask.Response:
    """Return the page of an error; after a search with the form, so that it can be put right."""
    is_search = flask.request.path.rstrip("/").endswith("/raw") and flask.request.args.get("chrome") != "false"
    context = _form(addresses.asked_pairs()) if is_search and status in {400, 503} else {}
    return page("failure.html", status, code=status, error=error, **context)
