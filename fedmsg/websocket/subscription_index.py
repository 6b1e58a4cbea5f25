# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the members that have subscribed to the topic of a message."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

from fedmsg._util.bounded import LRU
from fedmsg.filters import TopicFilter

__all__ = ["SubscriptionIndex"]

_Member = TypeVar("_Member")

# With more topics than that, comparing all of them would cost more than accepting every message.
_PREFIXES_MAX = 64
# For so many topics the members are cached.
_CACHED_TOPICS = 1000
_CACHED_LENGTH = 200


class SubscriptionIndex(Generic[_Member]):
    """Members and the topics that each of them has subscribed to; belongs to one thread.

    Args:
        strict: Whether a topic has to match as a whole, as with ``zmq_strict``.

    Attributes:
        prefixes: The topic of a message that a member has subscribed to begins with one of these. A
            tuple, for ``str.startswith``; other threads may read it.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.prefixes: tuple[str, ...] = ()
        self._strict = strict
        self._topics: dict[_Member, tuple[str, ...]] = {}
        self._filters: dict[_Member, TopicFilter] = {}
        self._counts: Counter[str] = Counter()
        self._cache: LRU[str, list[_Member]] = LRU(_CACHED_TOPICS)

    def add(self, member: _Member, topic: str) -> int:
        """Add a subscription; a ``*`` in the topic is removed, and no topic is all of them.

        Returns:
            How many subscriptions the member has.
        """
        topic, topics = topic.replace("*", ""), self._topics.get(member, ())
        if topic not in topics:
            topics = (*topics, topic)
            self._topics[member] = topics
            self._filters[member] = TopicFilter(topics, strict=self._strict, globs=False)
            self._counts[topic] += 1
            self._changed()
        return len(topics)

    def remove(self, member: _Member) -> None:
        """Remove a member, if it is there."""
        topics = self._topics.pop(member, ())
        self._filters.pop(member, None)
        for topic in topics:
            self._counts[topic] -= 1
            if not self._counts[topic]:
                del self._counts[topic]
        if topics:
            self._changed()

    def matching(self, topic: str) -> list[_Member]:
        """Return the members that have subscribed to a topic."""
        found = self._cache.get(topic)
        if found is None:
            found = [member for member, wanted in self._filters.items() if wanted.matches(topic)]
            if len(topic) <= _CACHED_LENGTH:
                self._cache.put(topic, found)
        return found

    def _changed(self) -> None:
        self._cache.clear()
        if len(self._counts) > _PREFIXES_MAX:
            self.prefixes = ("",)
        else:
            self.prefixes = TopicFilter(self._counts, globs=False).prefixes() if self._counts else ()
