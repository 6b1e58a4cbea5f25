# SPDX-License-Identifier: LGPL-2.1-or-later
"""The numbers of the messages that a consumer gets, and what is done about those that are missing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from fedmsg.config import settings
from fedmsg.consumers.backlog import Topics
from fedmsg.replay import client
from fedmsg.replay.gaps import GapFiller
from fedmsg.transport.base import Delivery
from fedmsg.transport.zmq import addresses

__all__ = ["Gaps"]

log = logging.getLogger("fedmsg.consumers")


class Gaps:
    """Fills gaps in the numbers of one service, for one consumer.

    Args:
        config: The configuration: ``replay_endpoints``, ``timeout``.
        numbers: The service with its last number; kept up to date.
        topics: What the consumer listens to. It sees all messages of the service, and handles these.
        validate: Answers whether a replayed envelope may be handled.
        hub: The hub, whose ``rejections`` count what is refused.

    Raises:
        MissingReplayEndpoint: There is no address to ask for what is missing.
        ConfigError: It is no address.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        numbers: MutableMapping[str, int],
        topics: str | Iterable[str],
        validate: Callable[[dict[str, Any]], bool],
        hub: Any,
    ) -> None:
        (self._name,) = numbers
        client.address_of(self._name, config)
        own = (settings.get(config, "endpoints") or {}).get(self._name)
        self._addresses = frozenset(addresses.as_list(own))
        self._topics = Topics(topics, strict=settings.get(config, "zmq_strict"))
        self._filler = GapFiller(
            config, numbers=numbers, validate=validate, rejections=getattr(hub, "rejections", None)
        )
        # `_consume` may be called by any thread.
        self._lock = threading.RLock()

    def concern(self, item: Any) -> bool:
        """Say whether a message is one of the service.

        Args:
            item: As it came. Other services have numbers of their own, and of one out of a file nobody knows
                what was handled since; what is no `Message` was given to the consumer by hand.
        """
        return not isinstance(item, Delivery) or item.address in self._addresses

    def fill(self, envelope: dict[str, Any], *, wanted: bool) -> Iterator[dict[str, Any]]:
        """Give the envelopes to handle now, in order: those that were missing, and this one unless it came before.

        Args:
            envelope: What has come.
            wanted: Whether it is to be handled whatever its topic.
        """
        with self._lock:
            try:
                for one in self._filler.fill(self._name, envelope):
                    if (wanted and one is envelope) or self._topics.match(one["topic"]):
                        yield one
            except GeneratorExit:
                self._tell_of_the_rest(envelope["seq_id"])
                raise

    def _tell_of_the_rest(self, number: int) -> None:
        """Tell of what is missing before a message when the hub stops in the middle of it."""
        last = self._filler.numbers[self._name]
        if (lost := number - 1 - last) > 0:
            self._filler.counts["lost"] += lost
            log.error(
                "%d messages of %s are lost, of the numbers %d to %d: the hub stopped before they were handled",
                lost, self._name, last + 1, number - 1,
            )  # fmt: skip

    def totals(self) -> dict[str, int]:
        """What became of what was missing."""
        return {"replayed": self._filler.counts["replayed"], "lost": self._filler.counts["lost"]}
