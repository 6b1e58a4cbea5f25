# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which callbacks of a hub get which topics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Callback", "Subscriptions", "as_topics", "prefix"]

#: Takes a message.
Callback = Callable[[Any], object]

# Applications use few topics; one that makes them up must not fill memory with them.
_CACHED_TOPICS = 4096


def prefix(topic: str) -> str:
    """Return the prefix that a subscribed topic stands for.

    Args:
        topic: The topic; a ``*`` in it counts for nothing, wherever it stands.
    """
    return topic.replace("*", "")


def as_topics(topic: Any) -> list[str]:
    """Return a list of a consumer's ``topic``, which is text or some collection of texts."""
    return [topic] if isinstance(topic, str) else [str(one) for one in topic]


class Subscriptions:
    """The topics that are subscribed to, and their callbacks; threads share it.

    Args:
        strict: Whether a topic has to match as a whole; the empty one is everything even so.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._lock = threading.Lock()
        self._rows: list[tuple[bytes, str, Callback]] = []
        self._services: dict[Callback, str] = {}
        self._cache: dict[bytes, tuple[Callback, ...]] = {}

    @property
    def topics(self) -> dict[str, list[Callback]]:
        """The callbacks of each topic, as it was subscribed to."""
        found: dict[str, list[Callback]] = {}
        for _, topic, callback in self._rows:
            found.setdefault(topic, []).append(callback)
        return found

    @property
    def prefixes(self) -> set[bytes]:
        """The prefixes that the sockets have to subscribe to."""
        return {start for start, _, _ in self._rows}

    def add(self, topic: str, callback: Callback) -> None:
        """Add a subscription."""
        with self._lock:
            self._rows.append((prefix(topic).encode(), topic, callback))
            self._cache = {}

    def add_service(self, name: str, callback: Callback) -> None:
        """Deliver all messages of a service to a callback that has subscribed to some topics.

        Args:
            name: Its name in ``endpoints``.
            callback: The callback.
        """
        with self._lock:
            self._services = {**self._services, callback: name}

    @property
    def services(self) -> dict[str, tuple[Callback, ...]]:
        """The callbacks that get all messages of each service."""
        wanted = {row[2] for row in self._rows}
        found: dict[str, tuple[Callback, ...]] = {}
        for callback, name in self._services.items():
            if callback in wanted:
                found[name] = (*found.get(name, ()), callback)
        return found

    def remove(self, callback: Callback) -> None:
        """Remove all subscriptions of a callback."""
        with self._lock:
            self._rows = [row for row in self._rows if row[2] != callback]
            self._cache = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._rows)

    def cut(self, length: int) -> list[Callback]:
        """Remove all subscriptions but the first ones.

        Args:
            length: How many stay.

        Returns:
            The callbacks of those that were removed.
        """
        with self._lock:
            cut = [row[2] for row in self._rows[length:]]
            self._rows = self._rows[:length]
            self._cache = {}
        return cut

    def subscribers(self, frame: bytes) -> tuple[Callback, ...]:
        """Return the callbacks that get a message, each once however many of its topics match.

        Args:
            frame: The topic of the message.
        """
        found = self._cache.get(frame)
        if found is None:
            with self._lock:
                found = tuple(dict.fromkeys(row[2] for row in self._rows if self._matches(row[0], frame)))
                if len(self._cache) >= _CACHED_TOPICS:
                    self._cache = {}
                self._cache[frame] = found
        return found

    def _matches(self, start: bytes, frame: bytes) -> bool:
        return frame == start or not start if self._strict else frame.startswith(start)
