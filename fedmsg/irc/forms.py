# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forms in which a bot says a message."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg import encoding, meta
from fedmsg._util import plugins
from fedmsg.irc import text

__all__ = ["doubtful", "in_colour", "in_words", "whole"]

# How wide the column of topics is.
_WIDE = 30
# Of no use to a reader, and long.
_CREDENTIALS = ("signature", "certificate", "crypto")


def in_colour(title: str, subtitle: str, link: str, config: Mapping[str, Any]) -> str:
    """Say a message with its title and its link in colour.

    Args:
        title: The title.
        subtitle: What happened.
        link: Where to read more, or nothing.
        config: The configuration, with the colours of titles.
    """
    title, subtitle, link = text.harmless(title), text.harmless(subtitle), text.harmless(link)
    heading = text.painted(title, text.colour_of(title, config))
    return f"{heading} -- {subtitle} {text.painted(link, 'teal') if link else ''}"


def in_words(
    envelope: Any, config: Mapping[str, Any], *, colours: bool, shorten: Callable[[str], str] | None = None
) -> str:
    """Say in English what a message says.

    Args:
        envelope: The message.
        config: The configuration.
        colours: Whether to use colours.
        shorten: Makes a link shorter.
    """
    title, said, link = map(text.harmless, meta.parts(envelope, config))
    if link and shorten is not None:
        link = shorten(link)
    return in_colour(title, said, link, config) if colours else f"{title} -- {said} {link}"


def whole(topic: str, envelope: Mapping[str, Any], *, colours: bool) -> str:
    """Say a message as it is.

    Args:
        topic: Its topic.
        envelope: The message.
        colours: Whether to use colours.
    """
    shown = {key: value for key, value in envelope.items() if key != "topic" and key not in _CREDENTIALS}
    stamp = shown.get("timestamp")
    if isinstance(stamp, (int, float)):
        # It may be any number.
        with contextlib.suppress(ValueError, OverflowError, OSError):
            shown["timestamp"] = time.ctime(stamp)
    if colours:
        said: str = plugins.lazy("irc_json").paint(text.harmless(encoding.dumps(shown)))
    else:
        said = text.harmless(repr(shown))
    return f"{text.harmless(topic):<{_WIDE}} {said}"


def doubtful(topic: str, doubt: str, config: Mapping[str, Any], *, colours: bool, terse: bool) -> str:
    """Say that there was a message that is not to be trusted, and nothing of what is in it.

    Args:
        topic: The topic that it came under.
        doubt: Why it is not to be trusted.
        config: The configuration.
        colours: Whether to use colours.
        terse: Whether in English.
    """
    if not terse:
        return f"{text.harmless(topic):<{_WIDE}} {doubt}"
    return in_colour(topic, doubt, "", config) if colours else f"{text.harmless(topic)} -- {doubt} "
