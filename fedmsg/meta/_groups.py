# SPDX-License-Identifier: LGPL-2.1-or-later
"""Groups of messages: what all of them have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmsg.meta import _times

__all__ = ["describe_with", "template", "title_of"]

# Describes a message with all that processors know of it: message, subject, whether with lexer, configuration.
_Describe = Callable[[Any, Any, bool, Mapping[str, Any]], dict[str, Any]]
_describe: _Describe | None = None

_FAR_AWAY = 1e15


def describe_with(function: _Describe) -> None:
    """Register who describes a message; `fedmsg.meta`, which knows the processors, does at import.

    Args:
        function: Gets the message, the subject, whether a lexer is wanted, and the configuration.
    """
    global _describe
    _describe = function


def title_of(topic: object) -> str:
    """Return a topic without prefix and environment.

    Args:
        topic: The topic. One that a STOMP broker made, ``/topic/...``, stays as it is;
            what is no text has no title.
    """
    if not isinstance(topic, str):
        return ""
    if topic.startswith("/topic/"):
        return topic
    words = topic.split(".", 3)
    return words[3] if len(words) > 3 else ""


def template(
    constituents: Sequence[Mapping[str, Any]], subject: str | None, lexers: bool, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a group.

    Args:
        constituents: Its messages.
        subject: The user who is spoken to.
        lexers: Whether lexers are wanted too.
        config: The configuration.
    """
    assert _describe is not None, "fedmsg.meta is imported before its submodules"
    described = [(msg, _describe(msg, subject, lexers, config)) for msg in constituents]
    times = [msg["timestamp"] for msg in constituents if _is_time(msg.get("timestamp"))]
    topics = {msg["topic"] for msg in constituents if isinstance(msg.get("topic"), str)}
    mean = sum(times) / len(times) if times else None
    return {
        "start_time": min(times, default=None),
        "end_time": max(times, default=None),
        "timestamp": mean,
        "human_time": "" if mean is None else _times.ago(mean, time.time()),
        "msg_ids": {_key(msg): about for msg, about in described},
        "usernames": {name for _, about in described for name in about["usernames"]},
        "packages": {name for _, about in described for name in about["packages"]},
        "topics": topics,
        "categories": {words[3] for words in (topic.split(".", 4) for topic in topics) if len(words) > 3},
        "icon": described[0][1]["icon"] if described else None,
    }


def _is_time(value: Any) -> bool:
    # NaN is not between the two, and what is can be added up.
    return isinstance(value, (int, float)) and -_FAR_AWAY < value < _FAR_AWAY


def _key(msg: Mapping[str, Any]) -> str:
    """Return the id of a message, and text in its place where it has none that is."""
    found = msg.get("msg_id", "")
    return found if isinstance(found, str) else repr(found)
