# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filters as conditions on the messages, or on the associations of users and packages with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from fedmsg.datanommer.models import containing, opening, rows, schema, values
from fedmsg.exceptions import UsageError

__all__ = ["Filters", "MessageQuery", "conditions", "ids_of_names", "of_topics", "ordered", "select", "topic_ids"]

Moment = dt.datetime | float
_SINGLE = ("start", "end", "msg_id", "more")
# What a time that no database has stands for.
_FIRST, _LAST = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 30)  # noqa: DTZ001 as the columns, without a zone


@dataclass
class Filters:
    """What messages are asked for; see `Message.make_query`. More conditions are on the messages themselves."""

    start: Moment | None = None
    end: Moment | None = None
    msg_id: str | None = None
    users: Iterable[str] | None = None
    not_users: Iterable[str] | None = None
    packages: Iterable[str] | None = None
    not_packages: Iterable[str] | None = None
    categories: Iterable[str] | None = None
    not_categories: Iterable[str] | None = None
    topics: Iterable[str] | None = None
    not_topics: Iterable[str] | None = None
    agents: Iterable[str] | None = None
    not_agents: Iterable[str] | None = None
    contains: Iterable[str] | None = None
    search: Iterable[str] | None = None
    more: list[Any] | None = None

    def __post_init__(self) -> None:
        # Of users and packages, as they become known.
        self.ids: dict[tuple[str, ...], list[int]] = {}
        if (self.start is None) != (self.end is None):
            raise UsageError("start and end go together: both or neither")
        for field in fields(self):
            if field.name not in _SINGLE:
                setattr(self, field.name, _texts(field.name, getattr(self, field.name)))
        if self.topics and self.categories:
            # A topic has one category, so that the filter for it says nothing more.
            both = [one for one in self.topics if values.category_of(one) in self.categories]
            self.topics, self.categories = (both, []) if both else (self.topics, self.categories)

    @property
    def times(self) -> tuple[dt.datetime, dt.datetime] | None:
        """The first and the last time, both included; None when all times are asked for."""
        if self.start is None or self.end is None:
            return None
        return _bounded(self.start), _bounded(self.end)

    def only(self, *names: str) -> bool:
        """Return whether there are no other filters than the named ones."""
        return not any(
            getattr(self, field.name) for field in fields(self) if field.name not in {"start", "end", *names}
        )


def _texts(name: str, given: Any) -> list[str]:
    found = [given] if isinstance(given, str) else list(given or ())
    if not all(isinstance(one, str) for one in found):
        raise UsageError(f"{name}: {found!r} is not a list of texts")
    if name in {"contains", "search"}:
        return found
    return [values.indexed_text(one) or "" for one in found]


def _bounded(moment: Moment) -> dt.datetime:
    try:
        return min(max(rows.as_time(moment), _FIRST), _LAST)
    except (OverflowError, ValueError) as error:
        if isinstance(moment, (int, float)) and moment == moment:  # noqa: PLR0124 NaN is no time at all
            return _FIRST if moment < 0 else _LAST
        raise UsageError(f"{moment!r} is not a time") from error


class MessageQuery(sa.Select[Any]):
    """A query for messages that can be counted."""

    inherit_cache = True

    def count(self) -> int:
        """Return how many messages it finds."""
        asked = sa.select(sa.func.count()).select_from(self.order_by(None).subquery())
        return int(opening.current_session().scalar(asked) or 0)


def select(model: Any, wanted: Filters) -> MessageQuery:
    """Return the query for what is wanted."""
    return MessageQuery(model).where(*conditions(model, wanted))


def conditions(model: Any, wanted: Filters) -> list[Any]:
    """Return the filters as conditions on messages."""
    found: list[Any] = []
    if wanted.times:
        found.append(model.timestamp.between(*wanted.times))
    if wanted.msg_id:
        found.append(model.msg_id == values.indexed_text(wanted.msg_id))
    for column, some, none in (
        (model.category, wanted.categories, wanted.not_categories),
        (model.topic, wanted.topics, wanted.not_topics),
        (model.agent_name, wanted.agents, wanted.not_agents),
    ):
        if some and column is model.category and wanted.agents:
            # The index of agents has the topic, from which the category follows.
            topics = sa.select(schema.topics.c.topic).where(_is_one_of(schema.topics.c.category, some))
            found.append(model.topic.in_(topics))
        elif some:
            found.append(_is_one_of(column, some))
        if none:
            found.append(
                sa.or_(column.is_(None), column.not_in(none)) if column is model.agent_name else column.not_in(none)
            )
    for association, table, some, none in associations(wanted):
        key = (model.timestamp, model.id)
        if some:
            found.append(about(association, ids_of_names(table, some), key))
        if none:
            found.append(~about(association, ids_of_names(table, none), key))
    return found + (wanted.more or []) + containing.conditions(model.msg, wanted.contains or (), wanted.search or ())


def _is_one_of(column: Any, some: Any) -> Any:
    # What is equal to one value is in the order of an index.
    return column == some[0] if len(some) == 1 else column.in_(some)


def associations(wanted: Filters) -> list[tuple[sa.Table, str, Any, Any]]:
    """Return for users and for packages: the association, the names' table, those that are wanted, and those not."""
    return [
        (schema.users_messages, "users", wanted.users, wanted.not_users),
        (schema.packages_messages, "packages", wanted.packages, wanted.not_packages),
    ]


def ids_of_names(table: str, names: Any) -> Any:
    """Return the query for the ids of users or packages."""
    named = schema.DeclarativeBase.metadata.tables[table]
    return sa.select(named.c.id).where(named.c.name.in_(list(names)))


def about(association: sa.Table, ids: Any, key: tuple[Any, Any]) -> Any:
    """Return the condition that a message, by its key, is about one of some users or packages."""
    # The query around it may go through the same table.
    inner = association.alias()
    one = next(iter(inner.c))
    return sa.exists().where(
        _is_one_of(one, ids) if isinstance(ids, list) else one.in_(ids),
        inner.c.msg_timestamp == key[0],
        inner.c.msg_id == key[1],
    )


def of_topics(wanted: Filters) -> list[Any]:
    """Return the filters by topic and category as conditions on the table of topics."""
    found = []
    for column, some, none in (
        (schema.topics.c.topic, wanted.topics, wanted.not_topics),
        (schema.topics.c.category, wanted.categories, wanted.not_categories),
    ):
        if some:
            found.append(column.in_(list(some)))
        if none:
            found.append(column.not_in(list(none)))
    return found


def topic_ids(wanted: Filters) -> Any:
    """Return the query for the ids of the wanted topics; None where all are wanted."""
    found = of_topics(wanted)
    return sa.select(schema.topics.c.id).where(*found) if found else None


def ordered(key: tuple[Any, Any], asked: Any, order: str) -> Any:
    """Return a query in the order of time.

    Raises:
        UsageError: The order is none.
    """
    if order not in {"asc", "desc"}:
        raise UsageError(f"order is {order!r}; it is asc or desc")
    return asked.order_by(*key) if order == "asc" else asked.order_by(*(column.desc() for column in key))
