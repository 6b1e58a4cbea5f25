# SPDX-License-Identifier: LGPL-2.1-or-later
"""History: everything that passed on the bus, in a database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmsg.config import settings
from fedmsg.exceptions import ConfigError

__all__ = ["database_url", "default_url"]

_FILE = "datanommer.db"


def database_url(config: Mapping[str, Any]) -> str:
    """Return the URL of the database with the history.

    Raises:
        ConfigError: None is configured, nor a folder for a file.
    """
    view = settings.of(config)
    return view.datanommer_url or view.datanommer_uri or default_url(config)


def default_url(config: Mapping[str, Any]) -> str:
    """Return the URL where none is configured: an SQLite file in the state directory.

    Raises:
        ConfigError: There is no such folder.
    """
    folder = settings.of(config).state_directory or os.environ.get("STATE_DIRECTORY")
    if not folder:
        raise ConfigError(
            "datanommer.sqlalchemy.url is not set, nor is state_directory; write a URL such as sqlite:////srv/history.db"
        )
    return f"sqlite:///{Path(folder.split(':')[0]).resolve() / _FILE}"
