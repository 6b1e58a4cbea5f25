# SPDX-License-Identifier: LGPL-2.1-or-later
"""The messages that are sent: the same ones for all, and known to whoever checks them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["GREETING", "TOPIC", "body", "message", "message_500"]

#: The topic of what is timed.
TOPIC = "org.fedoraproject.dev.bench.update"


def message(size: int) -> dict[str, Any]:
    """A message whose JSON has about 300 bytes, or 10,000 as a nested dict.

    Args:
        size: 300 or 10,000.
    """
    small: dict[str, Any] = {
        "agent": "ralph",
        "update": {
            "title": "nethack-3.7.0-1.fc40",
            "karma": 3,
            "critpath": False,
            "status": "testing",
            "request": None,
            "notes": "Fixes a crash that happened when a kitten was fed after it had been renamed.",
            "builds": [{"nvr": "nethack-3.7.0-1.fc40", "epoch": 0}, {"nvr": "nethack-x11-3.7.0-1.fc40", "epoch": 0}],
        },
    }
    if size == 300:
        return small
    # As a new build with its change log: some dozens of values, most of the size in a few texts.
    changes = [
        {"author": f"user{number}", "karma": number % 3 - 1, "text": " ".join([small["update"]["notes"]] * 8)}
        for number in range(14)
    ]
    hosts = {arch: {"task": {"id": 1000, "host": {"load": 0.25}}} for arch in ("aarch64", "ppc64le", "s390x", "x86_64")}
    return {**small, "changes": changes, "builds": hosts, "deeply": {"nested": {"value": [1, [2, [3]]]}}}


def message_500(number: int) -> dict[str, Any]:
    """What is in the body with that number."""
    return {**message(300), "serial": f"FEDORA-EPEL-20-{number:08d}"}


def _split_body() -> tuple[str, str, str]:
    envelope = {
        "i": 10_000_000,
        "msg": {**message(300), "serial": "FEDORA-EPEL-20-@"},
        "msg_id": "2026-7b5e0f6c-1b0e-4c57-8a5c-8b1c7f6a2d3e",
        "timestamp": 1_790_000_000,
        "topic": TOPIC,
        "username": "bench",
    }
    text = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
    before, middle = text.split("10000000", 1)
    middle, after = middle.split("@", 1)
    return before, middle, after


_BEFORE, _MIDDLE, _AFTER = _split_body()


def body(number: int) -> bytes:
    """An envelope of 500 bytes in its canonical form; its ``i`` is ten million and the number."""
    return f"{_BEFORE}{10_000_000 + number}{_MIDDLE}{number:08d}{_AFTER}".encode()


_GREETING_TOPIC = b"org.fedoraproject.dev.bench.greeting"
#: The frames of a message that only finds out whether a connection stands.
GREETING = [_GREETING_TOPIC, body(0).replace(TOPIC.encode(), _GREETING_TOPIC)]
