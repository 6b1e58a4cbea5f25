# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is stored, while it is stored: one reader of the database for all streams of this process.

A position is the place of a message in the order of storing. A stream asks for what comes after its position. What was
stored lately is in memory; what is older is read from the database, so that history and live messages join without a
gap, in one way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg._util.service import SafeCondition, ServiceThread
from fedmsg.datagrepper.asked import Asked
from fedmsg.datagrepper.history import History, filters_of, newest
from fedmsg.datanommer import models
from fedmsg.exceptions import StoreError
from fedmsg.filters import MessageFilter, TopicFilter
from fedmsg.store.reading import QueryTooSlow

__all__ = ["Entry", "Feed", "Gap", "Matcher"]

# How often it is looked for new messages while there are streams.
_INTERVAL_SECONDS = 0.05
_AWAY_SECONDS = 1.0
# So many of the newest messages, and bytes of them, are in memory.
_RECENT = 5000
_RECENT_BYTES = 32 * 1024 * 1024
_CHUNK = 100
# So many streams read the database at the same time: more would not be quicker, and each has a chunk in memory.
_READING = 4
# So many texts of a message are kept; streams that want yet another one write it themselves.
_MOST_TEXTS = 4
# A thread that no stream needs ends.
_IDLE_SECONDS = 30.0


_WITH_NAMES = (orm.selectinload(models.Message.users), orm.selectinload(models.Message.packages))


@dataclass
class Entry:
    """A message with its position, and texts that several streams send of it."""

    position: int
    message: models.Message
    envelope: dict[str, Any]
    size: int
    texts: dict[Any, str]

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What a condition on a field is about: of the message what a query for it looks at."""
        return {name: getattr(self.message, name) for name in (*models.CONDITION_KEYS, "msg")}

    def text(self, key: Any, write: Callable[[Entry], str]) -> str:
        """Return a text about the message, written once for streams that want the same, unless they want many."""
        found = self.texts.get(key)
        if found is None:
            found = write(self)
            if len(self.texts) < _MOST_TEXTS:
                self.texts[key] = found
        return found


class Gap(Exception):
    """Messages that a stream asks for are gone.

    Attributes:
        first: The position of the first one, or None where the position is of another database.
        last: That of the last one.
        goes_on: The position after which the stream goes on.
    """

    def __init__(self, first: int | None, last: int | None, goes_on: int) -> None:
        super().__init__(first, last)
        self.first, self.last, self.goes_on = first, last, goes_on


def _entry(message: models.Message) -> Entry:
    envelope = message.as_dict()
    size = len(str(envelope.get("msg"))) + 1000
    return Entry(message.position or 0, message, envelope, size, {})


class Feed:
    """Reads new messages for the streams of a process.

    Args:
        history: Where they are.
        most: How many streams there may be at the same time.
    """

    def __init__(self, history: History, most: int) -> None:
        self.history, self.most = history, most
        self._condition = SafeCondition()
        self._recent: deque[Entry] = deque()
        self._bytes = 0
        # Everything up to here was looked at.
        self._seen = -1
        self._thread: _Reader | None = None
        self._starting = threading.Lock()
        self._reading = threading.BoundedSemaphore(_READING)
        self.streams = 0
        self.sent = 0

    def __enter__(self) -> Feed:
        with self._condition.lock:
            self.streams += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition.lock:
            self.streams -= 1

    def begin(self, after: int | None) -> int:
        """Return the position that a stream begins after.

        Raises:
            Gap: What comes after the wanted position is gone.
        """
        with self.history.reading() as session:
            latest = newest(session)
            if after is None:
                return latest
            if after > latest:
                raise Gap(None, None, latest)
            oldest = session.scalar(sa.select(sa.func.min(models.Message.position)))
            first = latest + 1 if oldest is None else int(oldest)
            if after < first - 1 and after >= 0:
                if after == 0 and first == 1:
                    return after
                raise Gap(after + 1, first - 1, first - 1)
            return after

    def after(self, position: int, matcher: Matcher, limit: int = _CHUNK) -> tuple[list[Entry], int]:
        """Return messages after a position that match, and the position up to which it was looked."""
        self._ensure()
        with self._condition.lock:
            seen = self._seen
            is_recent = bool(self._recent) and self._recent[0].position <= position + 1
            # From the newest back: a stream that keeps up looks at what is new alone.
            newer = takewhile(lambda entry: entry.position > position, reversed(self._recent))
            recent = list(newer) if is_recent and not matcher.needs_database else []
        if position >= seen >= 0:
            return [], position
        if not is_recent or matcher.needs_database:
            return self._from_database(position, matcher, limit)
        fresh = recent[: -limit - 1 : -1]
        if not fresh:
            return [], max(position, seen)
        return [entry for entry in fresh if matcher.matches(entry)], fresh[-1].position

    def _from_database(self, position: int, matcher: Matcher, limit: int) -> tuple[list[Entry], int]:
        with self._reading, self.history.reading() as session:
            latest = newest(session)
            if latest <= position:
                return [], position
            query = matcher.query(session)
            place = models.Message.position
            if query is None:
                return [], latest
            query = query.where(place > position, place <= latest).order_by(place).limit(limit)
            found = [_entry(message) for message in session.scalars(query)]
        return found, found[-1].position if len(found) == limit else latest

    def wait(self, position: int, seconds: float, ending: threading.Event) -> None:
        """Wait until there is something after a position, or the server stops."""
        self._ensure()
        self._condition.wait_for(lambda: self._seen > position or ending.is_set(), seconds)

    def wake(self) -> None:
        """Have all that wait look again; a signal handler may call it."""
        with self._condition.lock:
            self._condition.notify_all()

    # ------------------------------------------------------------ the thread

    def _ensure(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.alive:
                self._thread = _Reader(self)
                self._thread.start()

    def stop(self) -> None:
        """End the reader, and the waits of all streams."""
        with self._starting:
            if self._thread is not None:
                self._thread.close()
                self._thread = None

    def read(self) -> None:
        """Look for new messages, once."""
        with self.history.reading() as session:
            latest = newest(session)
            if self._seen < 0 or latest < self._seen:
                # The first look, or another database at the same place.
                with self._condition.lock:
                    self._recent.clear()
                    self._bytes, self._seen = 0, latest
                    self._condition.notify_all()
            while self._seen < latest:
                place = models.Message.position
                query = sa.select(models.Message).where(place > self._seen, place <= latest).options(*_WITH_NAMES)
                found = [_entry(one) for one in session.scalars(query.order_by(place).limit(_CHUNK))]
                self._add(found, found[-1].position if len(found) == _CHUNK else latest)

    def _add(self, found: list[Entry], seen: int) -> None:
        with self._condition.lock:
            self._recent.extend(found)
            self._bytes += sum(entry.size for entry in found)
            while len(self._recent) > _RECENT or (self._bytes > _RECENT_BYTES and len(self._recent) > 1):
                self._bytes -= self._recent.popleft().size
            self._seen = seen
            self._condition.notify_all()


class _Reader(ServiceThread):
    """The thread that looks for new messages."""

    def __init__(self, feed: Feed) -> None:
        super().__init__("datagrepper-live")
        self._feed = feed

    def run(self) -> None:
        """Look until it is stopped."""
        self.ready()
        idle = 0.0
        while not self.stopping and idle < _IDLE_SECONDS:
            try:
                self._feed.read()
                pause = _INTERVAL_SECONDS
            except (StoreError, QueryTooSlow):
                # Streams find out by themselves.
                pause = _AWAY_SECONDS
            self.waker.wait(pause)
            idle = 0.0 if self._feed.streams else idle + pause


class Matcher:
    """Decides which messages a stream wants: in memory where the filters allow it, else by a query.

    Args:
        asked: What the request asks for.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        given = asked.given
        self._topics = TopicFilter(given["topic"], strict=True)
        self._excluded = TopicFilter(given["not_topic"], strict=True) if given["not_topic"] else None
        self._fields = MessageFilter(where=given["where"], not_where=given["not_where"])
        self.needs_database = bool(given["q"] or given["contains"] or given["not_contains"])

    def query(self, session: orm.Session) -> Any:
        """Return the query for what is wanted; None where nothing is."""
        filters = filters_of(session, self._asked)
        return None if filters is None else models.Message.make_query(**filters)

    def check(self, history: History) -> None:
        """Reject filters that can't be used.

        Raises:
            BadArgument: One can't.
        """
        with history.reading() as session:
            filters_of(session, self._asked)

    def matches(self, entry: Entry) -> bool:
        """Return whether a message is wanted."""
        message, given = entry.message, self._asked.given
        if not self._topics.matches(message.topic) or (self._excluded and self._excluded.matches(message.topic)):
            return False
        for name, value in (("category", message.category), ("agent", message.agent_name)):
            if (given[name] and value not in given[name]) or value in given[f"not_{name}"]:
                return False
        return self._is_about(message) and self._fields.matches(entry.fields)

    def _is_about(self, message: models.Message) -> bool:
        given = self._asked.given
        for name, known in (("user", message.users), ("package", message.packages)):
            some, none = given[name], given[f"not_{name}"]
            if some or none:
                found = {one.name for one in known}
                if (some and found.isdisjoint(some)) or not found.isdisjoint(none):
                    return False
        return True
