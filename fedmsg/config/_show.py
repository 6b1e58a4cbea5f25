# SPDX-License-Identifier: LGPL-2.1-or-later
"""A configuration as text, for people and scripts."""

from __future__ import annotations

import json
from typing import Any

from fedmsg.exceptions import ConfigError

__all__ = ["plain", "to_json"]


def plain(value: Any) -> Any:
    """Turn a value of a configuration into what JSON and YAML can hold.

    Args:
        value: Any value. What is neither data nor a collection becomes the text that Python shows for it.

    Raises:
        ConfigError: It contains itself.
    """
    try:
        return _plain(value)
    except RecursionError as error:
        raise ConfigError("the configuration has a value that contains itself, which can't be printed") from error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(inner) for inner in value), key=str)
    return str(value) if type(value).__module__ == "datetime" else repr(value)


def to_json(value: Any) -> str:
    """Write a value as JSON for people: indented, keys in their own order.

    Args:
        value: Any value of a configuration.
    """
    return json.dumps(plain(value), indent=2)
