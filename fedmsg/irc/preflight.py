# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with the bots of ``irc``: looked at before a start, by ``fedmsg-config --check``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedmsg.config.settings import Problem, of
from fedmsg.exceptions import ConfigError
from fedmsg.irc import configuration

__all__ = ["problems"]


def problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find entries that can't be used, and keys in them that nothing reads.

    Args:
        config: The configuration.
    """
    for number, entry in enumerate(of(config).irc):
        key = f"irc[{number}]"
        if not entry.get("channel"):
            yield Problem(key, "it has no channel, so that it is left out; write 'channel': '#name'", stops=False)
            continue
        try:
            configuration.read(entry)
        except ConfigError as error:
            yield Problem(key, str(error))
            continue
        for text in configuration.unknown(entry):
            yield Problem(key, text, stops=False)
