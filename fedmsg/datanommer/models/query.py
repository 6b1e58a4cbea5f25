# SPDX-License-Identifier: LGPL-2.1-or-later
"""Queries for messages: filters as SQL, pages, totals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from fedmsg.datanommer.models import opening, rows, schema, values
from fedmsg.exceptions import UsageError

__all__ = ["Filters", "grep", "ordered", "select"]

Moment = dt.datetime | float


@dataclass
class Filters:
    """What messages are asked for; see `Message.make_query`."""

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

    def __post_init__(self) -> None:
        if (self.start is None) != (self.end is None):
            raise UsageError("start and end go together: both or neither")
        for field in fields(self):
            if field.name not in {"start", "end", "msg_id"}:
                setattr(self, field.name, _texts(getattr(self, field.name)))

    @property
    def is_narrowed(self) -> bool:
        """Whether there is a filter other than times, topics and categories."""
        counted = {"start", "end", "topics", "categories"}
        return any(getattr(self, field.name) for field in fields(self) if field.name not in counted)


def _texts(given: Iterable[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def select(model: Any, wanted: Filters) -> Any:
    """Return the query for what is wanted."""
    return sa.select(model).where(*conditions(model, wanted))


def conditions(model: Any, wanted: Filters) -> list[Any]:
    """Return the filters as conditions."""
    found: list[Any] = []
    if wanted.start is not None and wanted.end is not None:
        found.append(model.timestamp.between(rows.as_time(wanted.start), rows.as_time(wanted.end)))
    if wanted.msg_id:
        found.append(model.msg_id == values.indexed_text(wanted.msg_id))
    for column, some, none in (
        (model.category, wanted.categories, wanted.not_categories),
        (model.topic, wanted.topics, wanted.not_topics),
        (model.agent_name, wanted.agents, wanted.not_agents),
    ):
        if some:
            found.append(column.in_(_indexed(some)))
        if none:
            found.append(sa.or_(column.is_(None), column.not_in(_indexed(none))))
    found += _about(model, schema.users_messages, "users", wanted.users, wanted.not_users)
    found += _about(model, schema.packages_messages, "packages", wanted.packages, wanted.not_packages)
    return found


def _indexed(texts: Iterable[str]) -> list[str | None]:
    return [values.indexed_text(text) for text in texts]


def _about(model: Any, association: sa.Table, table: str, some: Any, none: Any) -> list[Any]:
    """Return the conditions about users or packages."""
    names = schema.DeclarativeBase.metadata.tables[table]
    one = next(iter(association.c))
    found = []
    for texts, is_wanted in ((some, True), (none, False)):
        if texts:
            ids = sa.select(names.c.id).where(names.c.name.in_(_indexed(texts)))
            there = sa.exists().where(
                one.in_(ids), association.c.msg_timestamp == model.timestamp, association.c.msg_id == model.id
            )
            found.append(there if is_wanted else ~there)
    return found


def ordered(model: Any, asked: Any, order: str) -> Any:
    """Return a query in the order of time."""
    if order not in {"asc", "desc"}:
        raise UsageError(f"order is {order!r}; it is asc or desc")
    by = (model.timestamp, model.id)
    return asked.order_by(*by) if order == "asc" else asked.order_by(*(column.desc() for column in by))


def grep(
    model: Any, page: int, rows_per_page: int | None, order: str, defer: bool, wanted: Filters
) -> tuple[int, int, Any]:
    """Find messages; see `Message.grep`."""
    session = opening.current_session()
    asked = select(model, wanted)
    total = session.scalar(sa.select(sa.func.count()).select_from(model).where(*conditions(model, wanted))) or 0
    asked = ordered(model, asked, order)
    pages = 1
    if rows_per_page:
        pages = -(-total // rows_per_page)
        asked = asked.offset(rows_per_page * (page - 1)).limit(rows_per_page)
    return total, pages, asked if defer else session.scalars(asked).all()
