# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fills the index of texts while a hub has nothing else to store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import ServiceThread
from fedmsg.exceptions import TransportError

__all__ = ["TextIndexer"]

log = logging.getLogger("fedmsg.datanommer")

_INTERVAL_S = 1.0
# Little at a time: on SQLite nothing can be stored meanwhile.
_MESSAGES = 200


class TextIndexer(ServiceThread):
    """Puts stored messages into the index of texts, a few at a time.

    Args:
        history: What works with the database.
        is_idle: Returns whether there is time for it.
    """

    def __init__(self, history: Any, is_idle: Callable[[], bool]) -> None:
        super().__init__("fedmsg-Nommer-texts")
        self._history = history
        self._is_idle = is_idle
        self._events = RateLimitedLog(log)

    def run(self) -> None:
        """Fill the index until the stop."""
        self.ready()
        while not self.stopping:
            if not (self._is_idle() and self._fill()):
                self.waker.wait(_INTERVAL_S)

    def _fill(self) -> bool:
        """Put some messages into the index; whether there may be more."""
        try:
            with self._history.used():
                return bool(self._history.index_texts(_MESSAGES))
        except TransportError as error:
            self._events.report("index", f"texts are not put into the index at present: {error}")
            return False
