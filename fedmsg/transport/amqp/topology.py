# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exchanges, queues and bindings of the broker: checked, made, and brought up to date."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.problems import Refused, of_channel
from fedmsg.transport.amqp.steps import Step, Steps
from fedmsg.transport.amqp.urls import Server

__all__ = ["check_exchange", "pattern_of", "patterns_of"]

_ACCESS_REFUSED = 403
_KEY_MAX = 255


def check_exchange(open_channel: Step, name: str, server: Server) -> Steps:
    """Make the exchange unless it is there, and check that it is of the type topic.

    One who may not make exchanges can only look whether it is there.
    """
    what = f"the exchange {name!r}"
    channel = yield open_channel
    try:
        yield partial(calls.declare_exchange, channel, name)
    except Refused as refused:
        if refused.code != _ACCESS_REFUSED:
            raise of_channel(refused, server, what) from refused
        channel = yield open_channel
        try:
            yield partial(calls.find_exchange, channel, name)
        except Refused as missing:
            raise of_channel(missing, server, what) from missing
    channel.close()


def pattern_of(prefix: str) -> str:
    """Return a binding that has at least the topics that begin with a prefix.

    The last word of a prefix need not be a whole one, so that the receiver has to look again.
    """
    words, dot, _ = prefix.rpartition(".")
    while len(words.encode()) + len(dot) + 1 > _KEY_MAX:
        words, dot, _ = words.rpartition(".")
    return f"{words}.#" if dot else "#"


def patterns_of(prefixes: Iterable[str]) -> set[str]:
    """Return the bindings for some prefixes; one for everything makes the others needless."""
    found = {pattern_of(prefix) for prefix in prefixes}
    return {"#"} if "#" in found else found
