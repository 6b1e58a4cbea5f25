# SPDX-License-Identifier: LGPL-2.1-or-later
"""The flags that every command has, and when the command line is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedmsg.commands import _options
from fedmsg.commands._options import flag
from fedmsg.config import settings

__all__ = ["LateFlags", "declarations", "version"]

# The dests of flags that are about this run, and no part of the configuration.
_DEBUG, _LOG_LEVEL, _ALLOW_INSECURE = "fedmsg.debug", "fedmsg.log_level", "allow_insecure_config"
_PASSING = frozenset([_DEBUG, _LOG_LEVEL, _ALLOW_INSECURE])


def declarations() -> list[_options.Declaration]:
    """Declare the flags that every command has: settings that have one, and a few more."""
    flags: list[_options.Declaration] = []
    for row in settings.TABLE.values():
        if row.flag is not None and row.type == "true or false":
            flags.append(([row.flag], {"dest": row.name, "action": "store_true", "help": row.help}))
        elif row.flag is not None:
            what = (row.unit or row.type.rpartition(" ")[2]).upper()
            flags.append(([row.flag], {"dest": row.name, "type": _reader(row), "metavar": what, "help": row.help}))
    return [
        *flags,
        flag("--config-filename", metavar="FILE", help="Read this file, not those in the usual places."),
        flag(
            "--allow-insecure-config",
            dest=_ALLOW_INSECURE,
            action="store_true",
            help="Read files whatever their owner and mode.",
        ),
        flag(
            "--log-level",
            dest=_LOG_LEVEL,
            type=str.upper,
            choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
            help="Log what is at least as grave as this.",
        ),
        flag("--debug", dest=_DEBUG, action="store_true", help="Log everything, and show where a failure comes from."),
        flag("--version", action="version", version=version, help="Show the version and exit."),
    ]


def _reader(row: settings.Setting[Any]) -> Callable[[str], Any]:
    """Make the function that reads the value of a setting's flag."""

    def read(text: str) -> Any:
        try:
            return row.accept(text)
        except ValueError as error:
            raise ValueError(f"{error}; {row.fix}") from error

    return read


def version() -> str:
    """Return which version this is, for ``--version``."""
    # Costs 30 ms, and only --version needs it.
    from importlib import metadata

    try:
        return f"%(prog)s {metadata.version('fedmsg')}"
    except metadata.PackageNotFoundError:
        return "%(prog)s, run from its source without being installed"


class LateFlags(Mapping[str, Any]):
    """The flags on the command line of the process, which is read when this is first looked at.

    ``load_config`` looks at it, as that of fedmsg 1.x parses the command line itself. So a program, such as a
    test, that puts a configuration of its own in its place has no command line of ours.
    """

    def __init__(self, line: _options.CommandLine) -> None:
        self.log_level: str | None = None
        self._line = line
        self._given: _options.Given | None = None
        self._replaced: dict[str, Any] = {}

    def _values(self) -> dict[str, Any]:
        if self._given is None:
            self._given = self._line.parse(sys.argv[1:])
            self._replaced = self._given.replaced()
            level = self._replaced.pop(_LOG_LEVEL, None)
            self.log_level = "DEBUG" if self._replaced.pop(_DEBUG, False) else level
        return self._replaced

    def __getitem__(self, dest: str) -> Any:
        return self._values()[dest]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration with the flags added; only their defaults, where no command line was read."""
        given = self._given or _options.Given(self._line.defaults, [])
        return {key: value for key, value in given(config).items() if key not in _PASSING}
