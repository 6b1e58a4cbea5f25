# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages of HTML for people.

Everything that a template writes goes through `_harmless` and is escaped: what a message says is text.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import flask

from fedmsg._util.text import safe_block

__all__ = ["page", "register"]

# The frame of a page, its look, and scripts that pages of several applications have.
_shared = flask.Blueprint(
    "shared", __name__, static_folder="static", static_url_path="/static/shared", template_folder="templates"
)


def register(app: flask.Flask, *, brand: str, about: str, home: str, navigation: tuple[tuple[str, str], ...]) -> None:
    """Prepare an application for pages.

    Args:
        app: The application.
        brand: Its name.
        about: What it is about.
        home: The endpoint of its first page.
        navigation: The pages that all pages link to: name and endpoint.
    """
    app.register_blueprint(_shared)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.finalize = _harmless
    app.jinja_env.globals.update(
        brand=brand, about=about, home=home, navigation=navigation, theme=app.config["THEME_CSS_URL"]
    )
    theme = urlsplit(app.config["THEME_CSS_URL"] or "")
    if theme.netloc:
        policy = app.config["CONTENT_SECURITY_POLICY"]
        allowed = f"style-src {theme.scheme or 'https'}://{theme.netloc} "
        app.config["CONTENT_SECURITY_POLICY"] = policy.replace("style-src ", allowed)


def _harmless(value: Any) -> Any:
    """Return what a template writes without characters that turn the direction of text or act unseen."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return safe_block(value)


def page(template: str, status: int = 200, **context: Any) -> flask.Response:
    """Answer with a page."""
    return flask.Response(flask.render_template(template, **context), status, content_type="text/html; charset=utf-8")
