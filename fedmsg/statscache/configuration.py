# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is configured for statistics: where they are stored, where they begin, what they are read from."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmsg.config import settings
from fedmsg.exceptions import ConfigError

__all__ = ["can_go_back", "database_url", "epoch", "frequency", "has_history", "has_history_here"]

_FILE = "statscache.db"
_UTC = dt.timezone.utc
_FREQUENCY_MIN_S = 0.1


def database_url(config: Mapping[str, Any]) -> str:
    """Return the URL of the database with the numbers.

    Raises:
        ConfigError: None is configured, nor a folder for a file.
    """
    view = settings.of(config)
    if view.statscache_uri:
        return view.statscache_uri
    folder = view.state_directory or os.environ.get("STATE_DIRECTORY")
    if not folder:
        raise ConfigError(
            "statscache.sqlalchemy.uri is not set, nor is state_directory; write a URL such as "
            "sqlite:////srv/statistics.db"
        )
    return f"sqlite:///{Path(folder.split(':')[0]).resolve() / _FILE}"


def epoch(config: Mapping[str, Any]) -> float | None:
    """Return where a first start begins, in seconds since 1970; None where only new messages are counted.

    Raises:
        ConfigError: It is no time.
    """
    value = settings.of(config).statscache_epoch
    try:
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
        if isinstance(value, dt.datetime):
            return (value if value.tzinfo else value.replace(tzinfo=_UTC)).timestamp()
        if value is None:
            return None
        if type(value) in {int, float}:
            return dt.datetime.fromtimestamp(value, _UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    raise ConfigError(
        f"statscache.consumer.epoch is {ascii(value)[:60]}, which is no time; write a datetime, or text such as "
        "2026-05-01"
    )


def frequency(config: Mapping[str, Any]) -> float:
    """Return the seconds between two polls of the producer.

    Raises:
        ConfigError: It is no such number.
    """
    value = settings.of(config).statscache_frequency
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if type(seconds) not in {int, float} or not _FREQUENCY_MIN_S <= seconds < dt.timedelta.max.total_seconds():
        raise ConfigError(
            f"statscache.producer.frequency is {ascii(value)[:60]}; write seconds, {_FREQUENCY_MIN_S} at least, or a "
            "timedelta"
        )
    return float(seconds)


def has_history_here(config: Mapping[str, Any]) -> bool:
    """Return whether the history is in a database that this program reads."""
    view = settings.of(config)
    return bool(view.datanommer_url or view.datanommer_uri or view.datanommer_enabled)


def has_history(config: Mapping[str, Any]) -> bool:
    """Return whether there is a history to read, here or at a datagrepper."""
    return has_history_here(config) or bool(settings.of(config).statscache_endpoint)


def can_go_back(config: Mapping[str, Any]) -> bool:
    """Return whether what was counted can be read again, from a history or from the stream of a relay."""
    return bool(settings.of(config).statscache_durable) or has_history(config)
