# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings that fedmsg knows, for whoever is handed a configuration.

A configuration is a plain dict. Code that reads it takes values with :func:`get`, which
also works on a dict that has only some of the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmsg.config.settings.setting import Setting
from fedmsg.config.settings.table import TABLE
from fedmsg.exceptions import ConfigError

__all__ = ["TABLE", "Setting", "accept", "conf_defaults", "defaults", "derive_topic_prefix_re", "get"]


def defaults() -> dict[str, Any]:
    """Return what ``load_config`` starts from: fresh copies of every default that says something.

    Settings that fedmsg 1.x does not have and that are off by default are left out: other programs look
    whether a key is there, and a hub whether the files have switched a consumer off.
    """
    return {name: row.fresh_default() for name, row in TABLE.items() if not row.derived and not row.is_off_by_absence}


def conf_defaults() -> dict[str, Any]:
    """Give what ``fedmsg.config.conf`` starts from: fresh copies, of its keys alone."""
    return {name: row.fresh_default(for_conf=True) for name, row in TABLE.items() if row.in_conf}


def get(config: Mapping[str, Any], name: str) -> Any:
    """Give the configured value of a setting, or else its default.

    Args:
        config: A configuration, which may lack any key.
        name: The name of a setting in the table.

    Returns:
        The value.
    """
    try:
        return config[name]
    except KeyError:
        row = TABLE[name]
    return derive_topic_prefix_re(get(config, "topic_prefix")) if row.derived else row.fresh_default()


def accept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a copy of a configuration in which every known setting has the type that the code works with.

    Args:
        config: A configuration, which may lack any key and have others.

    Raises:
        ConfigError: Values can't work; all of them are named.
    """
    accepted, problems = dict(config), []
    for name, value in config.items():
        row = TABLE.get(name)
        if row is None or value is None:
            continue
        try:
            accepted[name] = row.accept(value)
        except ValueError as error:
            shown = "a secret" if row.secret else ascii(value)[:60]
            problems.append(f"{name} is {shown}: {error}; {row.fix}")
    if problems:
        raise ConfigError("; ".join(problems))
    return accepted


def derive_topic_prefix_re(prefix: str) -> str:
    r"""Make the regular expression for the prefix and the environment of a topic.

    Args:
        prefix: The topic prefix.

    Returns:
        The prefix with its dots escaped, a dot, and one word of letters.
    """
    # Only the dots, as 1.x does: programs compare the text.
    return prefix.replace(".", r"\.") + r"\.[^\W\d_]+"
