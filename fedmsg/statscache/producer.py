# SPDX-License-Identifier: LGPL-2.1-or-later
"""The producer that has plugins do what depends on the clock."""

from __future__ import annotations

import logging
from typing import Any

from fedmsg.config import settings
from fedmsg.exceptions import Unavailable
from fedmsg.hub.producer import PollingProducer
from fedmsg.statscache import configuration
from fedmsg.statscache.consumer import StatsConsumer

__all__ = ["StatsProducer"]


class StatsProducer(PollingProducer):
    """Brings up to date what changes without a message; it runs where the consumer does."""

    log = logging.getLogger("fedmsg.statscache")

    def __init__(self, hub: Any) -> None:
        if not settings.of(hub.config).statscache_enabled:
            return
        super().__init__(hub)
        self.frequency = configuration.frequency(hub.config)

    def poll(self) -> None:
        """Have the plugins of the consumer do their work."""
        for consumer in self.hub.consumers:
            if isinstance(consumer, StatsConsumer):
                try:
                    consumer.refresh()
                except Unavailable as error:
                    self.log.info("the numbers are not brought up to date at present: %s", error)
