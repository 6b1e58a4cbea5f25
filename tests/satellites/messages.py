# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages to store."""

from __future__ import annotations

import itertools
from typing import Any

__all__ = ["START", "message"]

#: When the first of them was published.
START = 1_790_000_000

_numbers = itertools.count()


def message(topic: str = "org.fedoraproject.dev.shop.order", **envelope: Any) -> dict[str, Any]:
    """Return what a consumer receives; every message has an id of its own."""
    number = next(_numbers)
    body = {
        "i": number, "msg": {"number": number}, "msg_id": f"2026-{number:08x}-0000-4000-8000-000000000000",
        "timestamp": START + number, "topic": topic, "username": "tester", **envelope,
    }  # fmt: skip
    return {"topic": body["topic"], "body": body, "headers": {}}
