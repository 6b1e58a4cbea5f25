# SPDX-License-Identifier: LGPL-2.1-or-later
"""What consumers have in common that store what they make of messages together with how far they have come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fedmsg import meta
from fedmsg.config import settings
from fedmsg.consumers import FedmsgConsumer
from fedmsg.exceptions import Unavailable

__all__ = ["StoringConsumer"]


class StoringConsumer(FedmsgConsumer):
    """Stores many messages in one transaction, together with how far it has come.

    A durable one reads the stream of a relay, and returns the position in `stored_position`. Another one returns the
    last number of each service in ``replay_endpoints`` in `stored_numbers`, and gets what is missing. While the
    database is away, messages wait: at the relay, or in memory and then in the ``state_directory``.

    A subclass has `consume_many`, which calls `_open_once` first.

    Args:
        hub: The hub.
        durable: Whether it is durable, as configured.
    """

    overflows = True
    wants_origin = True

    def __init__(self, hub: Any, durable: bool | str | None) -> None:
        self.durable = durable or False
        self.replay_name = list(settings.of(hub.config).replay_endpoints or {})
        self._is_open = False
        self._opening = threading.Lock()
        super().__init__(hub)
        if self._initialized and not meta.processors:
            meta.make_processors(**hub.config)

    def consume(self, message: Any) -> None:
        """Store a message."""
        self.consume_many([message])

    def consume_many(self, messages: list[Any]) -> None:
        """Store messages; every such consumer has its own way."""
        raise NotImplementedError(f"{type(self).__name__} has no consume_many()")

    def _open_once(self, opened: Callable[[], object]) -> None:
        """Open the database, unless that was done.

        Raises:
            Unavailable: It is away.
        """
        with self._opening:
            if not self._is_open:
                opened()
                self._is_open = True

    def _try_to_open(self, opened: Callable[[], object]) -> None:
        """Open the database at the start; where it is away, that is logged, and messages wait."""
        try:
            self._open_once(opened)
        except Unavailable as error:
            self.log.warning("messages wait for the database: %s", error)
