# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shorter links: asked for once, and not at all while there are none to be had."""

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

# Seconds that it may take to answer, and to leave it alone when it doesn't.
_TIMEOUT = 3
_PAUSE = 60.0
# What such a service is good for, and what it may answer.
_LINK = re.compile(r"https?://[^\s\x00-\x20]+", re.IGNORECASE)


def ask(url: str, service: str = SERVICE) -> str:
    """Have a service shorten a link.

    Args:
        url: The link.
        service: The address of the service.

    Returns:
        The shorter link; when there is none, the link itself.
    """
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
    """Remembers what has been shortened.

    Args:
        shorten: Gives a shorter link for a link. When it raises, that is logged, and the link stays as it is.
        gives_up: Whether it says that there is no shorter link by giving the link itself.
    """

    def __init__(self, shorten: Callable[[str], str], *, gives_up: bool) -> None:
        self._shorten: Callable[[str], Any] = shorten
        self._gives_up = gives_up
        self._remembered = functools.lru_cache(256)(self._asked)
        self._not_before = 0.0

    def __call__(self, link: str) -> str:
        """Give a shorter link.

        Args:
            link: The link. What is none, or empty, is returned as it is.
        """
        if not _LINK.fullmatch(link) or time.monotonic() < self._not_before:
            return link
        try:
            return self._remembered(link)
        except _NotToBeHad:
            # Every message would wait for it otherwise, until they are too many.
            self._not_before = time.monotonic() + _PAUSE
            return link

    def _asked(self, link: str) -> str:
        try:
            shorter = self._shorten(link)
        except Exception as error:
            log.warning("a link is not shortened: %r", error)
            raise _NotToBeHad from error
        if not isinstance(shorter, str) or (self._gives_up and shorter == link):
            raise _NotToBeHad
        return text.harmless(shorter)


class _NotToBeHad(Exception):
    """There is no shorter link; not to be remembered."""
