# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages to store."""

from __future__ import annotations

import itertools
from typing import Any

__all__ = ["START", "Knowing", "message"]

#: When the first of them was published.
START = 1_600_000_000

_numbers = itertools.count()


def message(topic: str = "org.fedoraproject.dev.shop.order", **envelope: Any) -> dict[str, Any]:
    """Return what a consumer receives; every message has an id of its own."""
    number = next(_numbers)
    body = {
        "i": number, "msg": {"number": number}, "msg_id": f"2026-{number:08x}-0000-4000-8000-000000000000",
        "timestamp": START + number, "topic": topic, "username": "tester", **envelope,
    }  # fmt: skip
    return {"topic": body["topic"], "body": body, "headers": {}}


class Knowing:
    """A processor of `fedmsg.meta` that knows the users and packages of such messages."""

    __name__ = "knowing"

    @staticmethod
    def handle_msg(_msg: Any, **_config: Any) -> str:
        """Handle all of them."""
        return ""

    @staticmethod
    def usernames(msg: Any, **_config: Any) -> set[str]:
        """Return the users."""
        return set(msg["msg"].get("users", ()))

    @staticmethod
    def packages(msg: Any, **_config: Any) -> set[str]:
        """Return the packages."""
        return set(msg["msg"].get("packages", ()))

    @staticmethod
    def agent(msg: Any, **_config: Any) -> str | None:
        """Return the agent."""
        found: str | None = msg["msg"].get("agent")
        return found
