# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message as it is counted: its time, its key, and the users and packages that it is about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Any

from fedmsg import meta
from fedmsg.datanommer import models
from fedmsg.hub.hooks import Origin
from fedmsg.store import columns
from fedmsg.store.recovery import message_key

__all__ = ["KEY_BYTES", "Item", "Items"]

#: The length of a key.
KEY_BYTES = 8


class Item:
    """A message that is to be counted.

    Args:
        message: What a consumer receives.
        config: For `fedmsg.meta`.

    Attributes:
        envelope: The envelope.
        topic: Its topic.
        arrival: When it was received or stored first, in seconds since the epoch.
        time: When it was published; when it arrived, where it says nothing that can be.
        key: What it is known by: the same message has the same key, wherever it comes from.
        origin: Where it comes from.
    """

    __slots__ = ("_config", "_names", "arrival", "envelope", "key", "origin", "time", "topic")

    def __init__(self, message: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.envelope = envelope = message["body"]
        self.topic: str = envelope["topic"]
        self.origin: Origin = getattr(message, "origin", None) or Origin()
        self.arrival = self.origin.stored or time.time()
        self.time = models.time_or_arrival(envelope.get("timestamp"), self.arrival)
        self.key = _key(envelope)
        self._config = config
        self._names: models.Names | None = None

    @property
    def users(self) -> frozenset[str]:
        """The users that it is about."""
        return self.names[0]

    @property
    def packages(self) -> frozenset[str]:
        """The packages that it is about."""
        return self.names[1]

    @property
    def names(self) -> models.Names:
        """The users and packages that it is about, and who did it; found out once."""
        if self._names is None:
            users, packages, agent = meta.names(self.envelope, self._config)
            self._names = models.storable_names(users, self.topic), models.storable_names(packages, self.topic), agent
        return self._names


class Items(list[Item]):
    """Messages that are counted together: what several plugins ask of all of them is found out once."""

    def __init__(self, items: Iterable[Item]) -> None:
        super().__init__(items)
        self._buckets: dict[int, list[int]] = {}

    def buckets(self, seconds: int) -> list[int]:
        """Return the beginning of the bucket of each message, for buckets of a length."""
        found = self._buckets.get(seconds)
        if found is None:
            found = self._buckets[seconds] = [int(item.time // seconds) * seconds for item in self]
        return found

    @cached_property
    def categories(self) -> list[str]:
        """The category of each message, as a column has it."""
        return self._by_topic(models.category_of)

    @cached_property
    def topics(self) -> list[str]:
        """The topic of each message, as a column has it."""
        return self._by_topic(str)

    def _by_topic(self, find: Callable[[str], str]) -> list[str]:
        # Most messages share some topics.
        found = {topic: columns.indexed_text(find(topic)) or "" for topic in {item.topic for item in self}}
        return [found[item.topic] for item in self]

    @cached_property
    def newest(self) -> float:
        """The time of the newest message, or of its arrival where that is earlier."""
        return max(min(item.time, item.arrival) for item in self)

    @cached_property
    def positions(self) -> list[tuple[str, int]]:
        """The last position of each stream, in the order of the messages where these change streams."""
        found: list[tuple[str, int]] = []
        for origin in (item.origin for item in self if item.origin.stream):
            if found and found[-1][0] == origin.stream:
                found[-1] = origin.stream, max(found[-1][1], origin.position)
            else:
                found.append((origin.stream, origin.position))
        return found


def _key(envelope: Mapping[str, Any]) -> bytes:
    """Return the key of a message: of its id and its time, as the history has them, or of all that it says."""
    moment: Any
    msg_id, moment = envelope.get("msg_id"), envelope.get("timestamp")
    if type(msg_id) is str and type(moment) in {int, float}:
        # To the second: some histories have no fraction.
        text = f"{msg_id}\n{int(moment) if abs(moment) < 2**53 else 0}"
    else:
        text = message_key(envelope)
    return blake2b(text.encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()
