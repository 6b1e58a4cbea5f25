# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds out anew which users and packages stored messages are about, and who did it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fedmsg import meta
from fedmsg.datanommer import models
from fedmsg.datanommer.models import Message, bulk, rows, schema, values
from fedmsg.datanommer.upkeep import reading

__all__ = ["extract"]

_TABLES = (("users", schema.users_messages), ("packages", schema.packages_messages))


def extract(
    config: Mapping[str, Any],
    start: dt.datetime | None,
    end: dt.datetime | None,
    topic: str | None,
    category: str | None,
) -> Iterator[tuple[int, int]]:
    """Ask the plugins about messages again; yields of each part how many those are, and how many have changed."""
    for page in reading.pages(start, end, topic, category):
        changed = _renew(page, config)
        yield len(page), changed


def _renew(page: Sequence[Message], config: Mapping[str, Any]) -> int:
    connection = models.session.connection()
    before = {name: _names(connection, name, table, page) for name, table in _TABLES}
    changed: set[tuple[int, dt.datetime]] = set()
    added: dict[str, list[tuple[Message, str]]] = {name: [] for name, _ in _TABLES}
    removed: dict[str, list[tuple[Message, str]]] = {name: [] for name, _ in _TABLES}
    for message in page:
        envelope = message.as_dict()
        *found, agent = meta.names(envelope, config)
        agent = values.indexed_text(agent)
        for (name, _), names in zip(_TABLES, found, strict=True):
            wanted = rows.storable_names(names, message.topic)
            there = before[name].get((message.id, message.timestamp), set())
            added[name] += [(message, one) for one in sorted(wanted - there)]
            removed[name] += [(message, one) for one in sorted(there - wanted)]
            if wanted != there:
                changed.add((message.id, message.timestamp))
        if agent != message.agent_name:
            message.agent_name = agent
            changed.add((message.id, message.timestamp))
    models.session.flush()
    topics = bulk.ids(connection, "topics", {message.topic: message.category for message in page})
    for name, table in _TABLES:
        _change(connection, name, table, added[name], removed[name], topics)
    models.session.commit()
    return len(changed)


def _names(
    connection: sa.Connection, name: str, table: sa.Table, page: Sequence[Message]
) -> dict[tuple[int, dt.datetime], set[str]]:
    """Return the names that messages have now."""
    named = schema.DeclarativeBase.metadata.tables[name]
    asked = sa.select(table.c.msg_id, table.c.msg_timestamp, named.c.name).join(
        named, named.c.id == next(iter(table.c))
    )
    span = table.c.msg_timestamp.between(page[0].timestamp, page[-1].timestamp)
    found: dict[tuple[int, dt.datetime], set[str]] = {}
    for number, moment, text in connection.execute(asked.where(span)):
        found.setdefault((number, moment), set()).add(text)
    return found


def _change(  # noqa: PLR0917 they are what one table needs
    connection: sa.Connection,
    name: str,
    table: sa.Table,
    added: Sequence[tuple[Message, str]],
    removed: Sequence[tuple[Message, str]],
    topics: Mapping[str, int],
) -> None:
    numbers = bulk.ids(connection, name, dict.fromkeys(sorted({one for _, one in (*added, *removed)})))
    columns = [column.name for column in table.c]
    bulk.insert(
        connection, table, columns,
        [
            (numbers[one], bulk.time_text(message.timestamp), message.id, topics[message.topic])
            for message, one in added
        ],
    )  # fmt: skip
    for message, one in removed:
        connection.execute(
            sa.delete(table).where(
                next(iter(table.c)) == numbers[one],
                table.c.msg_timestamp == message.timestamp,
                table.c.msg_id == message.id,
            )
        )
