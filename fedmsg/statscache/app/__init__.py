# SPDX-License-Identifier: LGPL-2.1-or-later
"""The application: ``create_app()`` makes one, and ``app``, made when it is first looked at, is for WSGI servers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import flask

import fedmsg.config
from fedmsg._web import application, operating
from fedmsg._web import configuration as web
from fedmsg.config import settings
from fedmsg.statscache import configuration, utils
from fedmsg.statscache.app import api, pages
from fedmsg.statscache.app.numbers import Numbers
from fedmsg.statscache.plugins import BasePlugin

__all__ = ["app", "create_app"]

log = logging.getLogger("fedmsg.statscache.app")

_PREFIX = "statscache.app."
_FORMS = ("json", "html")

app: flask.Flask


def __getattr__(name: str) -> flask.Flask:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()["app"] = create_app()
    return found


def create_app(config: Mapping[str, Any] | None = None, plugins: Iterable[BasePlugin] | None = None) -> flask.Flask:
    """Make the application.

    Args:
        config: The configuration of fedmsg; read from its files where it is not given.
        plugins: What is shown; the plugins that are installed where it is not given.

    Raises:
        ConfigError: It can't work.
    """
    found = fedmsg.config.load_config() if config is None else config
    view = settings.of(found)
    made = application.make(__name__, _configured(found), log, _FORMS, pages.failure)
    shown = utils.init_plugins(found) if plugins is None else plugins
    # Another server than ours does not say how many it runs.
    processes = view.statscache_app_workers or 1
    numbers = Numbers(configuration.database_url(found), view.statscache_app_query_timeout, processes)
    made.extensions["plugins"] = by_ident = {plugin.ident: plugin for plugin in shown}
    made.extensions["numbers"] = numbers
    made.register_blueprint(api.blueprint)
    pages.register(made)
    models = [plugin.model for plugin in by_ident.values()]
    operating.register(made, "statscache", processes, lambda: numbers.check(models))
    return made


def _configured(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the application, by the names that all applications have."""
    given = {name: value for name in web.NAMES if (value := config.get(_PREFIX + name.lower())) is not None}
    view = settings.of(config)
    most = view.statscache_app_maximum_rows_per_page
    return {
        **web.checked({**web.NAMES, **given}, dict.fromkeys(given, _PREFIX)),
        "MAXIMUM_ROWS_PER_PAGE": most,
        "DEFAULT_ROWS_PER_PAGE": min(view.statscache_app_default_rows_per_page, most),
    }
