# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``fedmsg-announce`` publishes, in words."""

from __future__ import annotations

from typing import Any

from fedmsg.meta import _guard
from fedmsg.meta.base import SenderProcessor

__all__ = ["AnnounceProcessor"]


class AnnounceProcessor(SenderProcessor):
    """Knows announcements, which are words already."""

    __name__ = "announce"
    __description__ = "announcements"
    __link__ = "https://fedmsg.readthedocs.io/"
    __docs__ = "https://fedmsg.readthedocs.io/"
    __obj__ = "Announcements"

    @_guard.without_config
    def subtitle(self, msg: dict[str, Any], **config: Any) -> str:  # noqa: ARG002 the signature of all processors
        """Return the text."""
        text: str = msg["msg"]["message"]
        return text

    @_guard.without_config
    def long_form(self, msg: dict[str, Any], **config: Any) -> str:
        """Return the text."""
        return self.subtitle(msg, **config)

    @_guard.without_config
    def link(self, msg: dict[str, Any], **config: Any) -> Any:  # noqa: ARG002 the signature of all processors
        """Return the link that the announcer named, or None."""
        return msg["msg"]["link"]
