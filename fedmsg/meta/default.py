# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processor of last resort, for messages that no plugin knows."""

from __future__ import annotations

from typing import Any

from fedmsg.meta import _groups, _guard
from fedmsg.meta.base import BaseProcessor

__all__ = ["DefaultProcessor"]


class DefaultProcessor(BaseProcessor):
    """Handles what no other processor does; it knows nothing but the topic."""

    __name__ = "unhandled"
    __description__ = "messages that no plugin of fedmsg.meta knows"
    __link__ = "https://fedmsg.readthedocs.io/"
    __docs__ = "https://fedmsg.readthedocs.io/"
    __obj__ = "Everything Else"

    @_guard.without_config
    def handle_msg(self, msg: dict[str, Any], **config: Any) -> str:  # noqa: ARG002 the signature of all processors
        """Take any message."""
        return self.title(msg)

    @_guard.without_config
    def title(self, msg: Any, **config: Any) -> str:  # noqa: ARG002 the signature of all processors
        """Return the topic without prefix and environment, where there is one."""
        return _groups.title_of(msg.get("topic") if isinstance(msg, dict) else None)
