# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the history for requests: pages, single messages, all of a query; no query runs longer than it may."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg._web.arguments import BadArgument
from fedmsg.datagrepper.asked import Asked, Cursor
from fedmsg.datanommer import models
from fedmsg.exceptions import UsageError
from fedmsg.filters import MessageFilter, TopicFilter
from fedmsg.store import reading

__all__ = ["History", "Page", "count", "filters_of", "newest"]

# What to do where there are no tables of the history.
_MISSING = (
    "a hub that stores messages makes the tables, and datanommer-create-db; datanommer-load --from reads those of"
    " another release"
)
# How many messages of an answer are in memory at once, and how long they are together, one more included.
_CHUNK = 200
_CHUNK_CHARACTERS = 4 * 1024 * 1024
# A glob that stands for more topics is rejected: databases take so many values.
_MOST_TOPICS = 10_000


@dataclasses.dataclass
class Page:
    """A page of messages.

    Attributes:
        messages: The rows; the first of them where all are too long to be in memory at once.
        total: How many messages there are on all pages, or None where they were not counted.
        pages: How many pages, or None.
        cursor: Where the next page begins, or None on the last one.
        rest: Reads the messages that are not in memory yet, a part at a time; None where there are none.
    """

    messages: Sequence[models.Line]
    total: int | None
    pages: int | None
    cursor: Cursor | None
    rest: Iterator[Sequence[models.Line]] | None = None

    def parts(self) -> Iterator[Sequence[models.Line]]:
        """Yield all messages of the page, once, a part in memory at a time."""
        yield self.messages
        if self.rest is not None:
            yield from self.rest


class History:
    """The database of the history, opened to read; where `datanommer.models` is open already, that one.

    Args:
        url: Its URL; a file in the state directory where it is None.
        setting: The name of the setting that has it, for errors.
        timeout: How long a query may take, in seconds.
        processes: How many processes share the database.

    Raises:
        ConfigError: The URL can't be used.
    """

    def __init__(self, url: str | None, setting: str, timeout: float, processes: int = 1) -> None:
        self.timeout = timeout
        # The name that programs and their tests look at, too.
        if not getattr(models.session, "_datanommer_initialized", False):
            place = url or models.default_url()
            models.init(engine=reading.open_engine(place, setting, processes, missing=_MISSING))
            reading.limit_cache(models.session.get_bind().engine)

    @contextmanager
    def reading(self) -> Iterator[orm.Session]:
        """Yield a session whose statements end with an error when they take too long.

        Raises:
            QueryTooSlow: One did.
            StoreError: The database could not be read.
        """
        session = models.session()
        try:
            with reading.limited(session, self.timeout, missing=_MISSING):
                yield session
        finally:
            models.session.remove()

    # ------------------------------------------------------------ messages

    def search(self, asked: Asked) -> Page:
        """Return a page of messages."""
        rows, number = asked.given["rows_per_page"], asked.given["page"]
        with self.reading() as session:
            filters = filters_of(session, asked)
            if filters is None:
                return Page([], 0, 0, None)
            total = _estimate_of(session, asked, filters)
            skipped = (number - 1) * rows
            if total is not None and skipped >= total and asked.cursor is None:
                return Page([], total, -(-total // rows), None)
            is_counted = total is None and asked.given["count"] != "none"
            found = _find(asked, filters, limit=rows, offset=skipped, count=is_counted)
            place, rest = found.cursor, None
            missing = rows - len(found.messages)
            if place is not None and missing:
                rest = self.walk(asked, place, missing)
                # The place of the last one: what leads to the next page stands before the messages.
                place = _find(asked, filters, place=place, limit=1, offset=missing - 1).cursor
        total = found.total if is_counted else total
        cursor = None if place is None else Cursor(asked.order, place, asked.start, asked.end)
        return Page(found.messages, total, None if total is None else -(-total // rows), cursor, rest)

    def walk(self, asked: Asked, place: str | None = None, count: int | None = None) -> Iterator[Sequence[models.Line]]:
        """Yield messages of a query, a chunk in memory at once.

        Args:
            asked: What is asked for.
            place: After which message they begin, where not with the first one.
            count: How many, where not all.
        """
        limit, left = _CHUNK, count
        while left is None or left > 0:
            limit = limit if left is None else min(limit, left)
            with self.reading() as session:
                filters = filters_of(session, asked)
                if filters is None:
                    return
                found = _find(asked, filters, place=place, limit=limit)
            yield found.messages
            place = found.cursor
            if place is None:
                return
            # The database measures all of a chunk: of long ones no more than will fit.
            limit = min(_CHUNK, 2 * len(found.messages))
            left = None if left is None else left - len(found.messages)

    def one(self, msg_id: str) -> models.Line | None:
        """Return the message with an id, the newest where there are several."""
        with self.reading():
            return next(iter(models.Message.find(msg_id=msg_id, limit=1, lines=True).messages), None)

    def count(self) -> int:
        """Return how many messages there are."""
        with self.reading():
            return count({})

    def newest_position(self) -> int:
        """Return the position of the newest message: what a stream begins after that has to miss nothing."""
        with self.reading() as session:
            return newest(session)

    def check(self) -> None:
        """Raise what keeps the database from being read."""
        with self.reading() as session:
            session.execute(sa.select(models.Message.id).limit(1))


def filters_of(session: orm.Session, asked: Asked) -> dict[str, Any] | None:
    """Return the filters as `datanommer.models` takes them; None where nothing can match.

    Raises:
        BadArgument: A filter can't be used.
    """
    filters: dict[str, Any] = asked.filters()
    if asked.start is not None:
        if asked.start > (asked.end or 0.0):
            return None
        filters |= {"start": asked.start, "end": asked.end}
    for name in ("topics", "not_topics"):
        if any("*" in topic for topic in filters[name]):
            found = _topics(session, name.removesuffix("s"), filters[name])
            if not found and name == "topics":
                return None
            filters[name] = found
    if asked.given.get("q"):
        filters["search"] = [asked.given["q"]]
    conditions = {name: filters.pop(name) for name in ("where", "not_where")}
    if any(conditions.values()):
        filters["matching"] = MessageFilter(**conditions)
        try:
            models.Message.make_query(matching=filters["matching"])
        except UsageError as error:
            raise BadArgument("where", str(error)) from error
    return filters


def newest(session: orm.Session) -> int:
    """Return the position of the newest message, within `History.reading`."""
    counter = models.DeclarativeBase.metadata.tables["message_positions"]
    return int(session.scalar(sa.select(counter.c.newest)) or 0)


def _topics(session: orm.Session, argument: str, patterns: list[str]) -> list[str]:
    """Return the topics that some globs stand for."""
    wanted = TopicFilter(patterns, strict=True)
    every = session.scalars(sa.select(models.DeclarativeBase.metadata.tables["topics"].c.topic))
    found = [topic for topic in every if wanted.matches(topic)]
    if len(found) > _MOST_TOPICS:
        raise BadArgument(argument, f"it stands for more than {_MOST_TOPICS} topics")
    return found


def count(filters: dict[str, Any]) -> int:
    """Return how many messages some filters match, within `History.reading`."""
    return models.Message.count(**filters)


def _find(asked: Asked, filters: dict[str, Any], *, place: str | None = None, **more: Any) -> Any:
    """Return messages from a place on, else from that of the request."""
    cursor = place or (asked.cursor and asked.cursor.place)
    more["most_characters"] = _CHUNK_CHARACTERS
    try:
        return models.Message.find(cursor=cursor, order=asked.order, lines=True, **more, **filters)
    except UsageError as error:
        raise BadArgument("cursor", str(error)) from error


def _estimate_of(session: orm.Session, asked: Asked, filters: dict[str, Any]) -> int | None:
    """Return the total where an estimate is asked for, and the database makes one."""
    if asked.given["count"] != "estimated" or session.get_bind().dialect.name != "postgresql":
        return None
    return _estimate(session, models.Message.make_query(**filters))


def _estimate(session: orm.Session, query: Any) -> int:
    """Return how many rows the planner of PostgreSQL expects."""
    compiled = query.compile(session.connection(), compile_kwargs={"render_postcompile": True})
    plan: Any = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", compiled.params).scalar()
    return int(plan[0]["Plan"]["Plan Rows"])
