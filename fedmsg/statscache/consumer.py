# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that counts every message with each plugin."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.consumers.storing import StoringConsumer
from fedmsg.hub.consumer import runner_of
from fedmsg.hub.hooks import Origin
from fedmsg.statscache import missed
from fedmsg.stream.begin import Begin
from fedmsg.stream.progress import StoredPosition

__all__ = ["StatsConsumer"]

log = logging.getLogger("fedmsg.statscache")

_MANY = 2000


class StatsConsumer(StoringConsumer):
    """Counts each message once with each plugin, many in one transaction, together with how far each has come.

    Args:
        hub: The hub.

    Attributes:
        counting: What counts, with the plugins.
        counted: How many messages it has counted.
        skipped: How many it has not, for they were counted already.
    """

    config_key = "statscache.consumer.enabled"
    topic = ""

    log = log

    def __init__(self, hub: Any) -> None:
        self.counted = self.skipped = 0
        self._stopping = threading.Event()
        super().__init__(hub, settings.of(hub.config).statscache_durable)
        if not self._initialized:
            return
        self.counting = plugins.lazy("statistics").Counting(hub.config)
        runner = runner_of(self)
        runner.more_totals.append(self._totals)
        runner.hooks.more_missed = (self._missed,)
        self._try_to_open(self.counting.open)

    def _totals(self) -> dict[str, int]:
        return {"counted": self.counted, "skipped": self.skipped, **self.counting.totals()}

    @property
    def plugins(self) -> list[Any]:
        """The plugins."""
        return [slot.plugin for slot in self.counting.slots]

    # ---------------------------------------------------------------- counting

    def consume_many(self, messages: list[Any]) -> None:
        """Count messages in one transaction, and how far that is.

        Raises:
            Unavailable: The database is away.
            StoreError: It does not take something.
        """
        self._open_once(self.counting.open)
        self._count(messages)
        while self.counting.wants_history and not self._stopping.is_set():
            self.counting.wants_history = False
            self._count_again()

    def _count(self, messages: list[Any]) -> None:
        count = self.counting.count(messages)
        self.counted += count
        self.skipped += len(messages) - count

    def _count_again(self) -> None:
        """Read what a plugin has lost that holds something back in memory."""
        batch: list[Any] = []
        for message in runner_of(self).hooks.past(self._missed):
            batch.append(message)
            if len(batch) == _MANY:
                self.counting.count(batch)
                batch = []
        if batch:
            self.counting.count(batch)

    def refresh(self) -> None:
        """Have plugins do what depends on the clock; the producer calls it."""
        self._open_once(self.counting.open)
        self.counting.refresh()

    # ---------------------------------------------------------------- going on where it was

    def _missed(self) -> Iterator[tuple[dict[str, Any], Origin]]:
        """Yield what plugins have not counted, in the order of the history that has it."""
        self._open_once(self.counting.open)
        is_durable = runner_of(self).durable is not False
        yield from missed.read(self.hub.config, self.counting.slots, self._stopping, is_durable=is_durable)
        self.counting.is_started = True

    def stored_position(self, name: str) -> StoredPosition | Begin | None:
        """Return the last position of a stream that was counted; see `fedmsg.hub.Consumer.stored_position`."""
        del name
        self._open_once(self.counting.open)
        return missed.position(self.counting.slots)

    def stored_numbers(self) -> Mapping[str, int]:
        """Return the last number of each service that was counted."""
        self._open_once(self.counting.open)
        found: Mapping[str, int] = self.counting.numbers()
        return found

    def stop(self) -> None:
        """Release what the plugins hold."""
        self._stopping.set()
        if self._initialized:
            self.counting.close()
        super().stop()
