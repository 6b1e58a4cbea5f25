# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``fedmsg-logger`` publishes, in words."""

from __future__ import annotations

from typing import Any

from fedmsg import encoding
from fedmsg.meta import _guard
from fedmsg.meta.base import SenderProcessor

__all__ = ["LoggerProcessor"]


class LoggerProcessor(SenderProcessor):
    """Knows lines of text and JSON that were logged."""

    __name__ = "logger"
    __description__ = "what scripts and people log"
    __link__ = "https://fedmsg.readthedocs.io/"
    __docs__ = "https://fedmsg.readthedocs.io/"
    __obj__ = "System Logs"

    @_guard.without_config
    def subtitle(self, msg: dict[str, Any], **config: Any) -> str:  # noqa: ARG002 the signature of all processors
        """Return the text, and its user."""
        if "logger.log" not in msg["topic"]:
            return self._("<unhandled log message>")
        text = _text(msg)
        who = self.agent(msg)
        by = self._("(none)") if who is None else f"({who})"
        return f"{self._('<custom JSON message>') if text is None else text} {by}"

    @_guard.without_config
    def long_form(self, msg: dict[str, Any], **config: Any) -> str:
        """Return the text, or the JSON in a readable form."""
        if "logger.log" not in msg["topic"] or _text(msg) is not None:
            return self.subtitle(msg, **config)
        who = self.agent(msg)
        heading = self._("A custom JSON message was logged by {user}::").format(
            user=self._("(none)") if who is None else who
        )
        # What stands inside of the envelope, without its braces.
        inside = encoding.FedMsgEncoder(indent=4).encode({"msg": msg["msg"]})[2:-2]
        return f"{heading}\n\n{inside}"

    @_guard.without_config
    def subjective(self, msg: dict[str, Any], subject: str | None, **config: Any) -> str:  # noqa: ARG002 likewise
        """Return the text for the user who logged it; an empty one for others."""
        text = _text(msg)
        if subject is None or text is None or subject != self.agent(msg):
            return ""
        return self._('you logged "{text}"').format(text=text)


def _text(msg: dict[str, Any]) -> str | None:
    """Return the text that was logged, or None when it was JSON."""
    found = msg["msg"].get("log") if isinstance(msg["msg"], dict) else None
    return found if isinstance(found, str) else None
