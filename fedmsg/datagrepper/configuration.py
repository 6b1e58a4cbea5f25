# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration of the application: ``datagrepper.*``, and for those who move a file of the old form."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask

from fedmsg._util import files
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError

__all__ = ["NAMES", "read"]

_FILE = "DATAGREPPER_CONFIG"
_LARGEST_FILE = 1024 * 1024
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)

#: The names of that file, with their defaults; in lower case they are settings: ``datagrepper.bus_info``.
NAMES: dict[str, Any] = {
    "APP_PATH": "",
    "DEFAULT_QUERY_DELTA": None,
    "DATANOMMER_SQLALCHEMY_URL": None,
    "DATAGREPPER_APPROXIMATE_COUNT": False,
    "DATAGREPPER_BASE_URL": "",
    "CORS_DOMAINS": [".*"],
    "CORS_METHODS": ["GET", "HEAD", "OPTIONS", "POST"],
    "CORS_HEADERS": [".*"],
    "CORS_MAX_AGE": 600,
    "BUS_INFO": {},
    "THEME_CSS_URL": "",
    "WEBSOCKET_URL": "",
    "CONTENT_SECURITY_POLICY": _CSP,
}


def read(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration by the names of the file, which wins.

    Args:
        config: The configuration of fedmsg.

    Raises:
        ConfigError: It can't work.
    """
    found = {name: value for name in NAMES if (value := config.get(f"datagrepper.{name.lower()}")) is not None}
    found.setdefault("DEFAULT_QUERY_DELTA", settings.of(config).datagrepper_query_delta)
    where = dict.fromkeys(found, "datagrepper.")
    if path := os.environ.get(_FILE):
        more = _read_file(path)
        found |= more
        where |= dict.fromkeys(more, f"{path}: ")
    found = {**NAMES, **found}
    found["QUERY_TIMEOUT"] = settings.of(config).datagrepper_query_timeout
    for name in ("CORS_DOMAINS", "CORS_HEADERS"):
        found[name] = _patterns(f"{where.get(name, '')}{name}", found[name])
    for name in ("DEFAULT_QUERY_DELTA", "CORS_MAX_AGE"):
        _check_number(f"{where.get(name, '')}{name}", found[name])
    found["DATANOMMER_SQLALCHEMY_URL"] = (
        found["DATANOMMER_SQLALCHEMY_URL"]
        or config.get("datanommer.sqlalchemy.url")
        or config.get("datanommer.sqlalchemy.uri")
    )
    return found


def _read_file(path: str) -> dict[str, Any]:
    file = Path(path).absolute()
    try:
        # Its content is run: others must not be able to write it.
        files.read_trusted(file.resolve(), _LARGEST_FILE)
        loaded = flask.Config(file.parent)
        loaded.from_pyfile(str(file))
    # A file of Python may fail in any way.
    except Exception as error:
        raise ConfigError(f"{_FILE}: {path} can't be read: {type(error).__name__}: {error}") from error
    return {name: value for name, value in loaded.items() if name in NAMES}


def _patterns(name: str, value: Any) -> list[re.Pattern[str]]:
    several = [value] if isinstance(value, str) else value
    try:
        return [re.compile(one) for one in several]
    except (re.error, TypeError) as error:
        raise ConfigError(
            f"{name}: {error}; write a list of regular expressions such as [r'https://.*\\.example\\.org']"
        ) from error


def _check_number(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
        raise ConfigError(f"{name}: {value!r} is not a number of seconds; write 86400, for example")
