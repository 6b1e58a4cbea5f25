# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who in a hub wants which topics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Callback", "Subscriptions", "as_topics", "prefix"]

#: Takes a message.
Callback = Callable[[Any], object]

# Applications use few topics; one that makes them up as it goes must not fill memory with them.
_REMEMBERED = 4096


def prefix(topic: str) -> str:
    """Give the beginning that a subscribed topic stands for.

    Args:
        topic: The topic; a ``*`` in it counts for nothing, wherever it stands.
    """
    return topic.replace("*", "")


def as_topics(topic: Any) -> list[str]:
    """Make a list of a consumer's ``topic``, which is text or some collection of texts."""
    return [topic] if isinstance(topic, str) else [str(one) for one in topic]


class Subscriptions:
    """The topics that are subscribed to, and by whom; threads share it.

    Args:
        strict: Whether a topic has to match as a whole; the empty one is everything even so.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._lock = threading.Lock()
        self._wanted: list[tuple[bytes, str, Callback]] = []
        self._services: dict[Callback, str] = {}
        self._remembered: dict[bytes, tuple[Callback, ...]] = {}

    @property
    def topics(self) -> dict[str, list[Callback]]:
        """Who wants each topic, as it was subscribed to."""
        found: dict[str, list[Callback]] = {}
        for _, topic, callback in self._wanted:
            found.setdefault(topic, []).append(callback)
        return found

    @property
    def prefixes(self) -> set[bytes]:
        """What the sockets have to subscribe to."""
        return {start for start, _, _ in self._wanted}

    def add(self, topic: str, callback: Callback) -> None:
        """Note that somebody wants a topic."""
        with self._lock:
            self._wanted.append((prefix(topic).encode(), topic, callback))
            self._remembered = {}

    def add_service(self, name: str, callback: Callback) -> None:
        """Note that somebody who wants some topics has to see all messages of a service.

        Args:
            name: Its name in ``endpoints``.
            callback: Who has to.
        """
        with self._lock:
            self._services = {**self._services, callback: name}

    @property
    def services(self) -> dict[str, tuple[Callback, ...]]:
        """Who has to see all messages of each service."""
        wanted = {row[2] for row in self._wanted}
        found: dict[str, tuple[Callback, ...]] = {}
        for callback, name in self._services.items():
            if callback in wanted:
                found[name] = (*found.get(name, ()), callback)
        return found

    def remove(self, callback: Callback) -> None:
        """Forget all topics that somebody wants."""
        with self._lock:
            self._wanted = [row for row in self._wanted if row[2] != callback]
            self._remembered = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._wanted)

    def cut(self, length: int) -> list[Callback]:
        """Forget all but the first ones.

        Args:
            length: How many stay.

        Returns:
            Whose subscriptions these were.
        """
        with self._lock:
            cut = [row[2] for row in self._wanted[length:]]
            self._wanted = self._wanted[:length]
            self._remembered = {}
        return cut

    def who_wants(self, frame: bytes) -> tuple[Callback, ...]:
        """Give those who want a message, each once however many of their topics match.

        Args:
            frame: The topic of the message.
        """
        found = self._remembered.get(frame)
        if found is None:
            with self._lock:
                found = tuple(dict.fromkeys(row[2] for row in self._wanted if self._matches(row[0], frame)))
                if len(self._remembered) >= _REMEMBERED:
                    self._remembered = {}
                self._remembered[frame] = found
        return found

    def _matches(self, start: bytes, frame: bytes) -> bool:
        return frame == start or not start if self._strict else frame.startswith(start)
