# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages are found, by their keys: from the index that has them in order, without reading messages."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer.models import query, texts
from fedmsg.datanommer.models.query import Filters

__all__ = ["key_of", "select"]


def select(session: orm.Session, model: Any, wanted: Filters) -> Any:
    """Return the query for the keys of messages, as the columns ``timestamp`` and ``id``."""
    if wanted.contains or wanted.search:
        found = texts.candidates(session.connection(), model, wanted)
        if found is not None:
            return _narrowed(session, model, found, wanted)
    if wanted.users or wanted.packages:
        return _of_names(session, model, wanted)
    key = model.timestamp.label("timestamp"), model.id.label("id")
    return sa.select(*key).where(*query.conditions(model, wanted))


def _of_names(session: orm.Session, model: Any, wanted: Filters) -> Any:
    """Return the query for keys by the association of users, or else of packages."""
    (association, table, names), others = _driving(wanted)
    one = next(iter(association.c))
    ids = _ids(session, wanted, table, names)
    key = association.c.msg_timestamp, association.c.msg_id
    asked = sa.select(key[0].label("timestamp"), key[1].label("id"))
    asked = asked.where(one == ids[0] if len(ids) == 1 else one.in_(ids))
    if len(ids) > 1:
        # A message is about several of them.
        asked = asked.distinct()
    if wanted.times:
        asked = asked.where(association.c.msg_timestamp.between(*wanted.times))
    if (topics := query.topic_ids(wanted)) is not None:
        asked = asked.where(association.c.topic_id.in_(topics))
    if wanted.agents:
        # A list, since one by one the messages themselves would be read.
        of_agents = query.conditions(model, Filters(agents=wanted.agents, start=wanted.start, end=wanted.end))
        asked = asked.where(sa.tuple_(*key).in_(sa.select(model.timestamp, model.id).where(*of_agents)))
    rest = Filters(
        msg_id=wanted.msg_id, not_agents=wanted.not_agents, contains=wanted.contains, search=wanted.search,
        more=wanted.more,
    )  # fmt: skip
    return asked.where(*_conditions(session, wanted, model, key, (others, rest)))


def _narrowed(session: orm.Session, model: Any, found: Any, wanted: Filters) -> Any:
    """Return a query for keys with the filters that have nothing to do with text, time and topic."""
    rest = Filters(agents=wanted.agents, not_agents=wanted.not_agents, msg_id=wanted.msg_id, more=wanted.more)
    key = tuple(found.selected_columns)
    return found.where(*_conditions(session, wanted, model, key, (query.associations(wanted), rest)))


def _ids(session: orm.Session, wanted: Filters, table: str, names: list[str]) -> list[int]:
    """Return the ids of users or packages, read once for all queries that some filters make."""
    asked = table, *names
    if asked not in wanted.ids:
        wanted.ids[asked] = list(session.scalars(query.ids_of_names(table, names)))
    return wanted.ids[asked]


def _conditions(
    session: orm.Session, wanted: Filters, model: Any, key: Any, asked: tuple[list[Any], Filters]
) -> list[Any]:
    """Return conditions on users and packages, and on the messages themselves, for the keys of messages."""
    names, rest = asked
    found = []
    for association, table, some, none in names:
        for wants, is_wanted in ((some, True), (none, False)):
            if wants:
                there = query.about(association, _ids(session, wanted, table, wants), key)
                found.append(there if is_wanted else ~there)
    if conditions := query.conditions(model, rest):
        is_it = (model.timestamp == key[0], model.id == key[1])
        found.append(sa.exists().where(*is_it, *conditions).correlate(key[0].table))
    return found


def _driving(wanted: Filters) -> tuple[tuple[sa.Table, str, Any], list[Any]]:
    """Return the association whose rows are gone through, and what else there is about users and packages."""
    users, packages = query.associations(wanted)
    if wanted.users:
        return users[:3], [(*users[:2], None, users[3]), packages]
    return packages[:3], [users, (*packages[:2], None, packages[3])]


def key_of(asked: Any) -> tuple[Any, Any]:
    """Return the columns of a query for keys by which it is ordered."""
    timestamp, number = asked.selected_columns
    return timestamp, number
