# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints so many messages that fedora-messaging receives, as lines of JSON; FEDORA_MESSAGING_CONF says from where."""

from __future__ import annotations

import json
import sys
from typing import Any

from fedora_messaging import api, exceptions

count = int(sys.argv[1])
seen: list[Any] = []


def take(message: Any) -> None:
    seen.append(message)
    kind = type(message)
    row = {
        "topic": message.topic,
        "body": message.body,
        "id": message.id,
        "severity": message.severity,
        "schema": f"{kind.__module__}:{kind.__name__}",
        "headers": {key: str(value) for key, value in message._properties.headers.items()},
    }
    print(json.dumps(row), flush=True)
    if len(seen) >= count:
        raise exceptions.HaltConsumer(exit_code=0)


api.consume(take)
