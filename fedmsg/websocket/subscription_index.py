# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who wants which topics: subscriptions of many, asked for each message."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

__all__ = ["Audience"]

_Member = TypeVar("_Member")

# With more topics than that, looking at all of them would cost more than taking every message.
_MOST_TOPICS = 64
# For so many topics the answer is remembered.
_MOST_ANSWERS = 1000


class Audience(Generic[_Member]):
    """Members and the topics that each of them has subscribed to; belongs to one thread.

    Args:
        strict: Whether a topic has to match as a whole, as with ``zmq_strict``.

    Attributes:
        prefixes: A message that anybody wants begins with one of these; there are never many. A
            tuple, for ``str.startswith``; other threads may read it.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.prefixes: tuple[str, ...] = ()
        self._strict = strict
        self._topics: dict[_Member, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()
        self._answers: dict[str, list[_Member]] = {}

    def subscribe(self, member: _Member, topic: str) -> int:
        """Add a subscription.

        Args:
            member: Who subscribes.
            topic: What to; a ``*`` counts for nothing, and no topic is all of them.

        Returns:
            How many subscriptions the member has.
        """
        wanted, topics = topic.replace("*", ""), self._topics.get(member, ())
        if wanted not in topics:
            topics = (*topics, wanted)
            self._topics[member] = topics
            self._counts[wanted] += 1
            self._changed()
        return len(topics)

    def leave(self, member: _Member) -> None:
        """Remove a member, who need not be one."""
        topics = self._topics.pop(member, ())
        for topic in topics:
            self._counts[topic] -= 1
            if not self._counts[topic]:
                del self._counts[topic]
        if topics:
            self._changed()

    def of(self, topic: str) -> list[_Member]:
        """Give who wants messages of a topic."""
        found = self._answers.get(topic)
        if found is None:
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            found = [member for member, topics in self._topics.items() if self._match(topics, topic)]
            self._answers[topic] = found
        return found

    def _match(self, topics: tuple[str, ...], topic: str) -> bool:
        if self._strict:
            return topic in topics or "" in topics
        return topic.startswith(topics)

    def _changed(self) -> None:
        self._answers.clear()
        self.prefixes = tuple(self._counts) if len(self._counts) <= _MOST_TOPICS else ("",)
