# SPDX-License-Identifier: LGPL-2.1-or-later
"""The numbers of the messages that a consumer gets, and what is done about those that are missing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from fedmsg.config import settings
from fedmsg.replay import client
from fedmsg.replay.gaps import GapFiller
from fedmsg.store.history import Topics
from fedmsg.transport.base import Delivery
from fedmsg.transport.zmq import addresses

__all__ = ["Gaps"]

log = logging.getLogger("fedmsg.consumers")


class Gaps:
    """Fills gaps in the numbers of one service, for one consumer.

    Args:
        topics: What the consumer subscribes to. It sees all messages of the service, and handles these.
        hub: The hub, whose ``rejections`` count what is rejected.
        signed: Whether signatures are checked, so that numbers belong to signers; as configured when not given.

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
        *,
        signed: bool | None = None,
    ) -> None:
        (self._name,) = numbers
        client.address_of(self._name, config)
        own = (settings.get(config, "endpoints") or {}).get(self._name)
        self._addresses = frozenset(addresses.as_list(own))
        self._topics = Topics(topics, strict=settings.get(config, "zmq_strict"))
        self._filler = GapFiller(
            config,
            numbers=numbers,
            validate=validate,
            signed=bool(settings.get(config, "validate_signatures")) if signed is None else signed,
            rejections=getattr(hub, "rejections", None),
        )
        # Any thread may call `_consume`.
        self._lock = threading.RLock()

    def concern(self, item: Any) -> bool:
        """Return whether a message is one of the service.

        Args:
            item: What was received. Other services have numbers of their own, and of a message out of a
                file it is not known what was handled since; what is no `Delivery` was put in by hand.
        """
        return not isinstance(item, Delivery) or item.address in self._addresses

    def fill(self, envelope: dict[str, Any], *, wanted: bool) -> Iterator[dict[str, Any]]:
        """Yield the envelopes to handle now, in order: those that were missing, and this one unless it came before."""
        with self._lock:
            try:
                for one in self._filler.fill(self._name, envelope):
                    if (wanted and one is envelope) or self._topics.matches(one["topic"]):
                        yield one
            except GeneratorExit:
                self._report_rest(envelope["seq_id"])
                raise

    def _report_rest(self, number: int) -> None:
        """Log what is missing before a message when the hub stops while it is handled."""
        last = self._filler.numbers[self._name]
        if (lost := number - 1 - last) > 0:
            self._filler.counts["lost"] += lost
            log.error(
                "%d messages of %s are lost, of the numbers %d to %d: the hub stopped before they were handled",
                lost, self._name, last + 1, number - 1,
            )  # fmt: skip

    def totals(self) -> dict[str, int]:
        """Return what became of what was missing."""
        return {"replayed": self._filler.counts["replayed"], "lost": self._filler.counts["lost"]}
