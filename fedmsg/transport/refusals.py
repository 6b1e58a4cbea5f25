# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages that were refused: counted by kind, and told of without flooding the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

from fedmsg.exceptions import MessageError, ValidationError

__all__ = ["Refusals"]


class Refusals:
    """Counts what is refused and warns of it, once in a while for each kind and endpoint.

    Args:
        log: Where the warnings go.
        every: Seconds between two warnings about the same kind from the same endpoint.

    Attributes:
        counts: How many were refused, by kind.
    """

    def __init__(self, log: logging.Logger, every: float = 10.0) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._lock = threading.Lock()
        self._every = every
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._unsaid: Counter[tuple[str, str]] = Counter()

    def add(self, endpoint: str, error: MessageError) -> None:
        """Count one refused message, and perhaps say so.

        Args:
            endpoint: Where it came from, a configured address.
            error: Why it was refused.
        """
        which = (endpoint, error.kind)
        now = time.monotonic()
        # The workers of a hub share it.
        with self._lock:
            self.counts[error.kind] += 1
            if now < self._quiet_until.get(which, 0.0):
                self._unsaid[which] += 1
                return
            self._quiet_until[which] = now + self._every
            more = self._unsaid.pop(which, 0)
        since = f" (and {more} more like it)" if more else ""
        if isinstance(error, ValidationError):
            self._log.warning("!! invalid message received: from %s: %s%s", endpoint, error, since)
        else:
            self._log.warning("refused a message from %s: %s%s", endpoint, _harmless(str(error)), since)


def _harmless(reason: str) -> str:
    """A reason may quote the message; what it quotes must not steer a terminal or fill a disk."""
    return ascii(reason)[1:-1][:300]
