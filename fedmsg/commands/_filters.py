# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages a command is interested in: by topic, and by whom or what they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg import meta
from fedmsg.exceptions import UsageError

__all__ = ["about", "by_topic"]

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
    """
    tests = []
    for key, ask in (("users", meta.msg2usernames), ("packages", meta.msg2packages)):
        names = {name.strip() for name in (config.get(key) or "").split(",")} - {""}
        if names:
            meta.make_processors(**config)
            tests.append((names, ask))
    return lambda envelope: all(not names.isdisjoint(ask(envelope, **config)) for names, ask in tests)
