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
    """Fills gaps in the numbers of services, for one consumer.

    Args:
        numbers: The last number of each service, -1 before the first message; kept up to date.
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
        endpoints = settings.get(config, "endpoints") or {}
        self._services: dict[str, str] = {}
        for name in numbers:
            client.address_of(name, config)
            self._services |= dict.fromkeys(addresses.as_list(endpoints.get(name)), name)
        # What is put in by hand is taken for one of the only service.
        self._only = next(iter(numbers)) if len(numbers) == 1 else ""
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

    def service_of(self, item: Any) -> str:
        """Return the service that a message is one of; empty where it is of none.

        Args:
            item: What was received. Other services have numbers of their own, and of a message out of a
                file it is not known what was handled since; what is no `Delivery` was put in by hand.
        """
        return self._services.get(item.address, "") if isinstance(item, Delivery) else self._only

    def last(self, service: str) -> int:
        """Return the last number of a service."""
        return self._filler.numbers[service]

    def fill(self, service: str, envelope: dict[str, Any], *, wanted: bool) -> Iterator[dict[str, Any]]:
        """Yield the envelopes to handle now, in order: those that were missing, and this one unless it came before."""
        with self._lock:
            try:
                for one in self._filler.fill(service, envelope):
                    if (wanted and one is envelope) or self._topics.matches(one["topic"]):
                        yield one
            except GeneratorExit:
                self._report_rest(service, envelope["seq_id"])
                raise

    def catch_up(self, service: str) -> Iterator[dict[str, Any]]:
        """Yield the envelopes that the service has sent after its last number."""
        with self._lock:
            for one in self._filler.catch_up(service):
                if self._topics.matches(one["topic"]):
                    yield one

    def _report_rest(self, service: str, number: int) -> None:
        """Log what is missing before a message when the hub stops while it is handled."""
        last = self._filler.numbers[service]
        if (lost := number - 1 - last) > 0:
            self._filler.counts["lost"] += lost
            log.error(
                "%d messages of %s are lost, of the numbers %d to %d: the hub stopped before they were handled",
                lost, service, last + 1, number - 1,
            )  # fmt: skip

    def totals(self) -> dict[str, int]:
        """Return what became of what was missing."""
        return {"replayed": self._filler.counts["replayed"], "lost": self._filler.counts["lost"]}
