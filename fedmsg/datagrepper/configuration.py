# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration of the application: ``datagrepper.*``, and for those who move a file of the old form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask

from fedmsg._util import files
from fedmsg._web import configuration
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError

__all__ = ["NAMES", "read"]

_FILE = "DATAGREPPER_CONFIG"
_LARGEST_FILE = 1024 * 1024
#: The names of that file, with their defaults; in lower case they are settings: ``datagrepper.bus_info``.
NAMES: dict[str, Any] = {
    **{name: value for name, value in configuration.NAMES.items() if name != "BASE_URL"},
    "DEFAULT_QUERY_DELTA": None,
    "DATANOMMER_SQLALCHEMY_URL": None,
    "DATAGREPPER_APPROXIMATE_COUNT": False,
    "DATAGREPPER_BASE_URL": "",
    "BUS_INFO": {},
    "WEBSOCKET_URL": "",
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
    found["BASE_URL"] = found["DATAGREPPER_BASE_URL"]
    found = configuration.checked(found, where)
    name = "DEFAULT_QUERY_DELTA"
    configuration.check_number(f"{where.get(name, '')}{name}", found[name])
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
