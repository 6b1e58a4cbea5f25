# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shorter links: each is asked for once, and none while the service is away."""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from fedmsg._util import plugins
from fedmsg.exceptions import FedmsgError
from fedmsg.irc import text

__all__ = ["SERVICE", "Shortener", "ask"]

log = logging.getLogger("fedmsg.consumers.ircbot")

#: The service that shortens links.
SERVICE = "https://da.gd/s"

# The timeout of the service, and the pause after a failure, in seconds.
_TIMEOUT = 3
_PAUSE = 60.0
# What is shortened, and what a service may return.
_LINK = re.compile(r"https?://[^\s\x00-\x20]+", re.IGNORECASE)


def ask(url: str, service: str = SERVICE) -> str:
    """Return a link that a service has shortened, or the link itself when that fails."""
    try:
        answer: str = plugins.lazy("http").get_text(service, {"url": url}, _TIMEOUT).strip()
    except FedmsgError as error:
        log.warning("a link is not shortened: %s", error)
        return url
    if not _LINK.fullmatch(answer) or len(answer) > max(len(url), 50):
        log.warning("a link is not shortened: %s answers %a", service, answer[:100])
        return url
    return answer


class Shortener:
    """Caches links that were shortened.

    Args:
        shorten: Returns a shorter link. When it raises, that is logged, and the link stays as it is.
        gives_up: Whether it returns the link itself when it fails.
    """

    def __init__(self, shorten: Callable[[str], str], *, gives_up: bool) -> None:
        self._shorten: Callable[[str], Any] = shorten
        self._gives_up = gives_up
        self._cached = functools.lru_cache(256)(self._asked)
        self._not_before = 0.0

    def __call__(self, link: str) -> str:
        """Return a shorter link; what is no link is returned as it is."""
        if not _LINK.fullmatch(link) or time.monotonic() < self._not_before:
            return link
        try:
            return self._cached(link)
        except _NotShortened:
            # Otherwise every message would wait for the timeout.
            self._not_before = time.monotonic() + _PAUSE
            return link

    def _asked(self, link: str) -> str:
        try:
            shorter = self._shorten(link)
        except Exception as error:
            log.warning("a link is not shortened: %r", error)
            raise _NotShortened from error
        if not isinstance(shorter, str) or (self._gives_up and shorter == link):
            raise _NotShortened
        return text.harmless(shorter)


class _NotShortened(Exception):
    """There is no shorter link now; this is not cached."""
