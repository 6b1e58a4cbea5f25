# SPDX-License-Identifier: LGPL-2.1-or-later
"""The flags by which a command selects messages, and the filter that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import fedmsg
from fedmsg.commands._options import Declaration, flag
from fedmsg.exceptions import UsageError
from fedmsg.filters import MessageFilter

__all__ = ["FLAGS", "Selection"]

_INCLUDE = "^((?!_heartbeat).)*$"
# No real topic comes near. A regular expression may take 80 times the memory of what it searches.
_LONGEST_TOPIC = 4096

_REPEAT = {"action": "append", "default": None}

#: The flags, for the ``extra_args`` of a command.
FLAGS: list[Declaration] = [
    flag("--topic", default="", help="The beginning of topics; * stands for any text. Default: all."),
    flag("--users", metavar="NAMES", help="Only messages about one of these users: a,b,c."),
    flag("--packages", metavar="NAMES", help="Only messages about one of these packages: a,b,c."),
    flag(
        "--where",
        **_REPEAT,
        metavar="TERM",
        help="Only messages with such a field: PATH=VALUE, or with !=, ~ (regular expression), >, <, or "
        "'PATH exists'; as in msg.update.status=testing. Several: all must hold.",
    ),
    flag("--not-topic", **_REPEAT, metavar="TOPIC", help="Drop messages with these topics; may be repeated."),
    flag("--not-users", metavar="NAMES", help="Drop messages about one of these users."),
    flag("--not-packages", metavar="NAMES", help="Drop messages about one of these packages."),
    flag("--not-where", **_REPEAT, metavar="TERM", help="Drop messages with such a field; see --where."),
    flag(
        "--exclude",
        dest="exclusive_regexp",
        metavar="REGEXP",
        default="_heartbeat",
        help="Drop messages with topics in which this is found; default: %(default)s.",
    ),
    flag(
        "--include",
        dest="inclusive_regexp",
        metavar="REGEXP",
        default=_INCLUDE,
        help="Only topics in which this is found.",
    ),
]

_KEYS = ("topic", "users", "packages", "where", "not_topic", "not_users", "not_packages", "not_where")


class Selection:
    """Which messages the flags of a command select.

    Raises:
        UsageError: A flag makes no sense.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        flags = {key: config[key] for key in _KEYS if config.get(key)}
        if {"users", "packages", "not_users", "not_packages"} & flags.keys():
            fedmsg.meta.make_processors(**config)
        self._filter = MessageFilter.from_flags(
            flags,
            users_of=lambda envelope: fedmsg.meta.msg2usernames(envelope, **config),
            packages_of=lambda envelope: fedmsg.meta.msg2packages(envelope, **config),
        )
        prefixes = self._filter.prefixes()
        self.prefix = prefixes[0] if len(prefixes) == 1 else ""
        self._exclude = _compile("--exclude", config.get("exclusive_regexp"))
        self._include = _compile("--include", config.get("inclusive_regexp"))

    def matches(self, envelope: Mapping[str, Any]) -> bool:
        """Return whether a message is selected."""
        topic = envelope["topic"]
        return len(topic) <= _LONGEST_TOPIC and self._matches_expressions(topic) and self._filter.matches(envelope)

    def _matches_expressions(self, topic: str) -> bool:
        if self._exclude and self._exclude.search(topic):
            return False
        return not self._include or self._include.search(topic) is not None


def _compile(flag: str, expression: str | None) -> re.Pattern[str] | None:
    if expression is None:
        return None
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{flag}: {expression!r} is not a regular expression: {error}") from error
