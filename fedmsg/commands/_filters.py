# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages a command is interested in: by topic, and by whom or what they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg.exceptions import UsageError
from fedmsg.utils import load_class

__all__ = ["about", "by_topic", "meta"]

Envelope = Mapping[str, Any]


def by_topic(config: Mapping[str, Any]) -> Callable[[str], bool]:
    """Make the test for a topic, from the flags ``--exclude`` and ``--include``.

    Args:
        config: The configuration; both regular expressions are searched for anywhere in
            the topic, and one that is None doesn't count.

    Raises:
        UsageError: One of them is no regular expression.
    """
    exclude = _compile("--exclude", config.get("exclusive_regexp"))
    include = _compile("--include", config.get("inclusive_regexp"))

    def wanted(topic: str) -> bool:
        return not (exclude and exclude.search(topic)) and not (include and not include.search(topic))

    return wanted


def _compile(flag: str, expression: str | None) -> re.Pattern[str] | None:
    if expression is None:
        return None
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"{flag}: {expression!r} is not a regular expression: {error}") from error


def about(config: Mapping[str, Any]) -> Callable[[Envelope], bool]:
    """Make the test for what a message is about, from the flags ``--users`` and ``--packages``.

    Args:
        config: The configuration; both are names with commas in between, and a message
            has to be about at least one of each list that is given.

    Raises:
        UsageError: They are given, and nothing is there that knows what messages are about.
    """
    tests = []
    for flag, key, function in (
        ("--users", "users", "msg2usernames"),
        ("--packages", "packages", "msg2packages"),
    ):
        names = {name.strip() for name in (config.get(key) or "").split(",")} - {""}
        if names:
            tests.append((names, meta(config, flag, function)))
    return lambda envelope: all(names & set(ask(envelope)) for names, ask in tests)


def meta(config: Mapping[str, Any], flag: str, function: str) -> Callable[[Envelope], Any]:
    """Give a function of ``fedmsg.meta`` that knows the configured processors.

    Args:
        config: The configuration.
        flag: The flag that asks for it, for the error.
        function: Its name, for example ``"msg2repr"``.

    Raises:
        UsageError: There is no such function.
    """
    try:
        # Looked up by name, because fedmsg.meta is a part that may be missing.
        load_class("fedmsg.meta:make_processors")(**config)
        ask = load_class(f"fedmsg.meta:{function}")
    except ImportError as error:
        raise UsageError(f"{flag} needs fedmsg.meta, which this version of fedmsg doesn't have") from error
    return lambda envelope: ask(envelope, **config)
