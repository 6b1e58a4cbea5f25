# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which web sites' pages may connect to a server on this machine.

A browser lets every page that its user looks at connect to any WebSocket server that the
browser can reach, also to one that only this machine can. It does say whose page it is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["Policy"]


class Policy:
    """Decides by the origin of a page.

    Args:
        allowed: Origins such as ``https://wall.example.org``; ``*`` is every one. None means that the
            interface decides: what is served to this machine only is for pages of this machine,
            and what is served to others is for everybody's pages.
        host: The interface that is served.
    """

    def __init__(self, allowed: Iterable[str] | None, host: str) -> None:
        self._own = allowed is None and _is_loopback(host)
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in (["*"] if allowed is None else allowed))

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may connect.

        Args:
            origin: What the browser says: scheme, host and port, or ``null`` for a page from nowhere.
        """
        if self._own:
            return _is_loopback(_host_of(origin))
        return "*" in self._allowed or origin.lower() in self._allowed


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
