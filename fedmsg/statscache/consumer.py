# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that counts every message with each plugin."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.consumers.storing import StoringConsumer
from fedmsg.hub.consumer import runner_of
from fedmsg.hub.hooks import Origin
from fedmsg.statscache import configuration, missed
from fedmsg.statscache.late import LateReader
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
        self._began = time.time()
        self._late: LateReader | None = None
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
        """Count what the history has and a plugin has not: what it has lost from memory, or what came late."""
        batch: list[Any] = []
        for message in runner_of(self).hooks.past(self._history):
            if self._stopping.is_set():
                return
            batch.append(message)
            if len(batch) == _MANY:
                self.counted += self.counting.count(batch)
                batch = []
        if batch:
            self.counted += self.counting.count(batch)

    def _count_late(self) -> None:
        """Count what the history got after it was read."""
        self.counting.look_again(self._began)
        self._count_again()

    def refresh(self) -> None:
        """Have plugins do what depends on the clock; the producer calls it."""
        self._open_once(self.counting.open)
        self.counting.refresh()

    # ---------------------------------------------------------------- going on where it was

    def _history(self) -> Iterator[tuple[dict[str, Any], Origin]]:
        """Yield what plugins have not counted, in the order of the history that has it."""
        self._open_once(self.counting.open)
        return missed.read(self.hub.config, self.counting.slots, self._stopping, is_durable=self._is_durable)

    @property
    def _is_durable(self) -> bool:
        return runner_of(self).durable is not False

    def _missed(self) -> Iterator[tuple[dict[str, Any], Origin]]:
        """Yield what passed while the hub was down; what its history gets later is looked for later."""
        yield from self._history()
        self.counting.is_started = True
        delay = settings.of(self.hub.config).statscache_recheck
        # A stream has each message before those who listen to it do.
        looks_again = delay and not self._is_durable and configuration.has_history(self.hub.config)
        if looks_again and not self._stopping.is_set():
            self._late = LateReader(self._count_late, delay)
            self._late.start()

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
        if self._late is not None:
            self._late.close()
        if self._initialized:
            self.counting.close()
        super().stop()
