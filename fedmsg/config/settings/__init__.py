# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings that fedmsg knows: one table, made of rows.

A configuration is a plain dict. Code reads it through :func:`of`, a view with a typed
attribute for each setting, or by the name of a key with :func:`get`; both also work on a
dict that has only some of the keys.

The defaults, the validation, the flags of the commands, the reference in the documentation
and the words of ``fedmsg-config`` are all made from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmsg.config.settings.rows import Settings, derive_topic_prefix_re
from fedmsg.config.settings.setting import Problem, Setting
from fedmsg.exceptions import ConfigError

__all__ = ["TABLE", "Problem", "Setting", "Settings", "accept", "conf_defaults", "defaults", "derive_topic_prefix_re",
           "get", "of"]  # fmt: skip


#: The settings by name.
TABLE: dict[str, Setting[Any]] = {
    row.name: row for room in Settings.__bases__ for row in vars(room).values() if isinstance(row, Setting)
}


def of(config: Mapping[str, Any]) -> Settings:
    """Return a view of a configuration, which may lack any key, with typed attributes."""
    return Settings(config)


def defaults() -> dict[str, Any]:
    """Return what ``load_config`` starts from: fresh copies of every default that says something.

    Settings that are off by default are left out: libraries such as moksha.hub look whether a key is there, and a
    hub whether the files have switched a consumer off. Of those that are None fedmsg 1.x has one.
    """
    return {row.name: row.fresh_default() for row in TABLE.values() if not row.is_off_by_absence}


def conf_defaults() -> dict[str, Any]:
    """Return what ``fedmsg.config.conf`` starts from: fresh copies, of its keys alone."""
    return {name: row.fresh_default(for_conf=True) for name, row in TABLE.items() if row.in_conf}


def get(config: Mapping[str, Any], name: str) -> Any:
    """Return the configured value of a setting of the table, or else its default."""
    try:
        return config[name]
    except KeyError:
        row = TABLE[name]
    return row.derived(config) if row.derived else row.fresh_default()


def accept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a configuration in which every known setting has the type that the code works with.

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
            what = f"a secret: it is not {row.type}" if row.secret else f"{ascii(value)[:60]}: {error}"
            problems.append(f"{name} is {what}; {row.fix}")
    if problems:
        raise ConfigError("; ".join(problems))
    return accepted
