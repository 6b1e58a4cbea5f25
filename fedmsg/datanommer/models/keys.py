# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which messages are found, by their keys: from the index that has them in order, without reading messages."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer.models import query
from fedmsg.datanommer.models.query import Filters

__all__ = ["key_of", "select"]


def select(session: orm.Session, model: Any, wanted: Filters) -> Any:
    """Return the query for the keys of messages, as the columns ``timestamp`` and ``id``."""
    if not (wanted.users or wanted.packages):
        key = model.timestamp.label("timestamp"), model.id.label("id")
        return sa.select(*key).where(*query.conditions(model, wanted))
    (association, table, names), others = _driving(wanted)
    one = next(iter(association.c))
    ids = list(session.scalars(query.ids_of_names(table, names)))
    key = association.c.msg_timestamp.label("timestamp"), association.c.msg_id.label("id")
    asked = sa.select(*key).where(one == ids[0] if len(ids) == 1 else one.in_(ids))
    if len(ids) > 1:
        # A message is about several of them.
        asked = asked.distinct()
    if wanted.times:
        asked = asked.where(association.c.msg_timestamp.between(*wanted.times))
    if (topics := query.topic_ids(wanted)) is not None:
        asked = asked.where(association.c.topic_id.in_(topics))
    for other, other_table, some, none in others:
        for wants, is_wanted in ((some, True), (none, False)):
            if wants:
                found = list(session.scalars(query.ids_of_names(other_table, wants)))
                there = query.about(other, found, (association.c.msg_timestamp, association.c.msg_id))
                asked = asked.where(there if is_wanted else ~there)
    if wanted.agents:
        # A list, since one by one the messages themselves would be read.
        of_agents = query.conditions(model, Filters(agents=wanted.agents, start=wanted.start, end=wanted.end))
        theirs = sa.select(model.timestamp, model.id).where(*of_agents)
        asked = asked.where(sa.tuple_(association.c.msg_timestamp, association.c.msg_id).in_(theirs))
    if wanted.msg_id or wanted.not_agents or wanted.contains:
        rest = Filters(msg_id=wanted.msg_id, not_agents=wanted.not_agents, contains=wanted.contains)
        is_it = (model.timestamp == association.c.msg_timestamp, model.id == association.c.msg_id)
        asked = asked.where(sa.exists().where(*is_it, *query.conditions(model, rest)))
    return asked


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
