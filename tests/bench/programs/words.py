# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts messages into words with fedmsg, ours or the peer, and times it."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import fedmsg.config
import fedmsg.meta
import fedmsg.meta.base
from tests.bench.programs.link import serve

MESSAGE = {
    "topic": "org.fedoraproject.dev.logger.log",
    "msg": {"log": "a line that somebody logged"},
    "username": "ralph",
    "timestamp": 1_790_000_000,
    "msg_id": "2026-7b5e0f6c-1b0e-4c57-8a5c-8b1c7f6a2d3e",
    "i": 1,
}
SAID = "logger.log -- a line that somebody logged (ralph) "

_config: dict[str, Any] = {}


def make() -> float:
    """Load the configuration and the processors that are installed.

    Returns:
        The milliseconds that the second took.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    _config.update(fedmsg.config.load_config())
    start = time.perf_counter()
    fedmsg.meta.make_processors(**_config)
    return (time.perf_counter() - start) * 1000


def add(count: int) -> int:
    """Put processors of other applications before those that there are.

    Returns:
        How many there are now, that for what nobody knows not counted.
    """
    about = dict.fromkeys(("__description__", "__link__", "__docs__", "__obj__"), "something")
    base = fedmsg.meta.base.BaseProcessor
    more = [type("Other", (base,), {**about, "__name__": f"other{n}"})(str, **_config) for n in range(count)]
    fedmsg.meta.processors = more + list(fedmsg.meta.processors)
    return len(fedmsg.meta.processors) - 1


def say(count: int) -> float:
    """Say so many times what a message says; microseconds for each time."""
    msg2repr, config, message = fedmsg.meta.msg2repr, _config, MESSAGE
    start = time.perf_counter()
    for _ in range(count):
        said = msg2repr(message, **config)
    seconds = time.perf_counter() - start
    assert said == SAID, said
    return seconds / count * 1e6


serve({"make": make, "add": add, "say": say})
