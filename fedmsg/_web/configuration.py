# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration that every application has: its path and address, other sites that may read it, its policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fedmsg.exceptions import ConfigError

__all__ = ["NAMES", "check_number", "checked"]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)

#: The names, with their defaults.
NAMES: Mapping[str, Any] = {
    "APP_PATH": "",
    "BASE_URL": "",
    "CORS_DOMAINS": [".*"],
    "CORS_METHODS": ["GET", "HEAD", "OPTIONS", "POST"],
    "CORS_HEADERS": [".*"],
    "CORS_MAX_AGE": 600,
    "THEME_CSS_URL": "",
    "CONTENT_SECURITY_POLICY": _CSP,
}


def checked(found: Mapping[str, Any], where: Mapping[str, str]) -> dict[str, Any]:
    """Return a configuration with its regular expressions compiled.

    Args:
        found: The values of all names.
        where: What to write before a name in an error, by the name.

    Raises:
        ConfigError: It can't work.
    """
    made = dict(found)
    for name in ("CORS_DOMAINS", "CORS_HEADERS"):
        made[name] = _patterns(f"{where.get(name, '')}{name}", found[name])
    check_number(f"{where.get('CORS_MAX_AGE', '')}CORS_MAX_AGE", found["CORS_MAX_AGE"])
    return made


def _patterns(name: str, value: Any) -> list[re.Pattern[str]]:
    several = [value] if isinstance(value, str) else value
    try:
        return [re.compile(one) for one in several]
    except (re.error, TypeError) as error:
        raise ConfigError(
            f"{name}: {error}; write a list of regular expressions such as [r'https://.*\\.example\\.org']"
        ) from error


def check_number(name: str, value: Any) -> None:
    """Reject what is no number of seconds.

    Raises:
        ConfigError: It is none.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
        raise ConfigError(f"{name}: {value!r} is not a number of seconds; write 86400, for example")
