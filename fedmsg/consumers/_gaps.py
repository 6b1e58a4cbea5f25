# SPDX-License-Identifier: LGPL-2.1-or-later
"""The numbers of the messages that a consumer gets, and what is done about those that are missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from fedmsg.replay.gaps import GapFiller

__all__ = ["Gaps"]


class Gaps:
    """Fills gaps in the numbers of one service, for one consumer.

    Args:
        config: The configuration: ``replay_endpoints``, ``timeout``.
        numbers: The service with its last number; kept up to date.
        validate: Answers whether a replayed envelope may be handled.
        hub: The hub, whose ``refusals`` count what is refused.

    Raises:
        MissingReplayEndpoint: There is no address to ask for what is missing.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        numbers: MutableMapping[str, int],
        validate: Callable[[dict[str, Any]], bool],
        hub: Any,
    ) -> None:
        (self._name,) = numbers
        self._filler = GapFiller(config, numbers=numbers, validate=validate, refusals=getattr(hub, "refusals", None))
        # `_consume` may be called by any thread.
        self._lock = threading.RLock()

    def fill(self, envelope: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Give the envelopes to handle now, in order: those that were missing, and this one unless it came before."""
        with self._lock:
            yield from self._filler.fill(self._name, envelope)

    def totals(self) -> dict[str, int]:
        """What became of what was missing."""
        return {"replayed": self._filler.counts["replayed"], "lost": self._filler.counts["lost"]}
