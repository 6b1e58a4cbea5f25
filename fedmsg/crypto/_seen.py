# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bounded memory of messages that came through, so that none comes through twice."""

from __future__ import annotations

import threading
from typing import Any

from fedmsg.crypto._refused import Refused

__all__ = ["Seen"]


class Seen:
    """Remembers the ids of the last messages.

    Args:
        limit: How many are remembered; the oldest goes first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}
        self._lock = threading.Lock()

    def add(self, msg_id: Any) -> None:
        """Remember an id.

        Raises:
            Refused: It is remembered already, or is none.
        """
        if not isinstance(msg_id, str):
            raise Refused("id", "it has no msg_id, and max_seen_ids is set")
        with self._lock:
            if msg_id in self._ids:
                raise Refused("repeated", "a message with its msg_id came before")
            if len(self._ids) >= self._limit:
                del self._ids[next(iter(self._ids))]
            self._ids[msg_id] = None
