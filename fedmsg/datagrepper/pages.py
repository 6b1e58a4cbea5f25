# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages of HTML for people."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import flask

from fedmsg.datagrepper.asked import Asked

__all__ = ["failure", "message", "register", "search"]


def register(app: flask.Flask) -> None:
    """Add the routes of pages to an application."""


def search(
    asked: Asked,
    answer: Mapping[str, Any],
    messages: list[dict[str, Any]],
) -> flask.Response:
    """Return the page of the result of a search.

    Args:
        asked: What was asked.
        answer: The answer as JSON has it, its ``raw_messages`` as they are published.
        messages: The same messages with all that fedmsg.meta knows, as ``meta``; or the groups.
    """
    del asked, messages
    return flask.Response(f"<!doctype html><pre>{escape(repr(answer))}</pre>", content_type="text/html; charset=utf-8")


def message(given: Mapping[str, Any], found: dict[str, Any]) -> flask.Response:
    """Return the page of one message, which has ``meta``."""
    del given
    return flask.Response(f"<!doctype html><pre>{escape(repr(found))}</pre>", content_type="text/html; charset=utf-8")


def failure(status: int, error: str) -> flask.Response:
    """Return the page of an error."""
    return flask.Response(
        f"<!doctype html><title>{status}</title><p>{escape(error)}</p>", status, content_type="text/html; charset=utf-8"
    )
