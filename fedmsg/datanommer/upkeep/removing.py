# SPDX-License-Identifier: LGPL-2.1-or-later
"""Removes from the history: messages that are old, and a user out of the messages that stay."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer import models
from fedmsg.datanommer.models import Message, User, bulk, partitions, schema, texts, values, writing
from fedmsg.datanommer.upkeep import reading

__all__ = ["FORGOTTEN", "forget", "prune"]

#: What stands where the name of a user stood.
FORGOTTEN = "(forgotten)"

_STEP = 2000
_ASSOCIATIONS = (schema.users_messages, schema.packages_messages)


# ---------------------------------------------------------------- old messages


def prune(before: dt.datetime, category: str | None) -> Iterator[int]:
    """Remove the messages from before a time; yields how many after each step."""
    if category is None and models.session.get_bind().dialect.name == "postgresql":
        yield from _drop_months(before)
    while True:
        count = _step(before, category)
        if not count:
            return
        yield count


def _step(before: dt.datetime, category: str | None) -> int:
    session = models.session()
    writing.lock(session)
    asked = sa.select(Message.timestamp, Message.id, Message.topic).where(Message.timestamp < before)
    if category is not None:
        asked = asked.where(Message.category == category)
    found = session.execute(asked.order_by(Message.timestamp, Message.id).limit(_STEP)).all()
    if found:
        # In the database an id is that of one message; the times lead to its partition.
        ids, span = [row.id for row in found], (found[0].timestamp, found[-1].timestamp)
        for table in _ASSOCIATIONS:
            session.execute(sa.delete(table).where(table.c.msg_timestamp.between(*span), table.c.msg_id.in_(ids)))
        texts.forget(session.connection(), lambda key: key.msg_timestamp.between(*span) & key.msg_id.in_(ids))
        is_one = Message.timestamp.between(*span), Message.id.in_(ids)
        session.execute(sa.delete(Message).where(*is_one).execution_options(synchronize_session=False))
        _uncount(session, Counter((row.topic, _day(row.timestamp)) for row in found))
    session.commit()
    return len(found)


def _day(moment: dt.datetime) -> dt.datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _uncount(session: orm.Session, removed: Counter[tuple[str, dt.datetime]]) -> None:
    """Take messages out of the counts, by topic and day."""
    connection = session.connection()
    names = {topic for topic, _ in removed}
    asked = sa.select(schema.topics.c.topic, schema.topics.c.id).where(schema.topics.c.topic.in_(names))
    ids = {row.topic: row.id for row in connection.execute(asked)}
    bulk.count(connection, {(ids[topic], day): -number for (topic, day), number in removed.items() if topic in ids})
    for table in (schema.day_counts, schema.month_counts):
        session.execute(sa.delete(table).where(table.c.count <= 0, table.c.topic_id.in_(ids.values())))


def _drop_months(before: dt.datetime) -> Iterator[int]:
    """Drop the partitions all of whose messages are from before a time: at once, whatever is in them."""
    session = models.session()
    for month in partitions.months(session.connection()):
        if partitions.next_month(month) > before:
            break
        writing.lock(session)
        first, last = month, partitions.next_month(month)
        count = session.scalar(
            sa.select(sa.func.count()).select_from(Message).where(Message.timestamp >= first, Message.timestamp < last)
        )
        for table in _ASSOCIATIONS:
            session.execute(sa.delete(table).where(table.c.msg_timestamp >= first, table.c.msg_timestamp < last))
        texts.forget(
            session.connection(),
            lambda key, first=first, last=last: (key.msg_timestamp >= first) & (key.msg_timestamp < last),
        )
        for counts in (schema.day_counts, schema.month_counts):
            session.execute(sa.delete(counts).where(counts.c.start >= first, counts.c.start < last))
        partitions.drop(session.connection(), month)
        session.commit()
        yield count or 0
    session.rollback()


# ---------------------------------------------------------------- a user


def forget(name: str, *, everywhere: bool) -> Iterator[int]:
    """Take a user out of the messages that are about this name; yields how many after each step.

    What a message says of the name is replaced. With it its signature would be wrong, and goes.

    Args:
        name: The name.
        everywhere: Whether all messages are looked through, and not those alone that are known to be about the user.
    """
    session = models.session()
    user = session.scalars(sa.select(User).where(User.name == (values.indexed_text(name) or ""))).one_or_none()
    number = user.id if user is not None else None
    word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")
    last: tuple[dt.datetime, int] | None = None
    while True:
        found = session.scalars(_about(name, number, last, everywhere=everywhere)).all()
        if not found:
            break
        last = found[-1].timestamp, found[-1].id
        changed = [message for message in found if _replace(message, name, word)]
        _index_again(session, changed)
        if number is not None:
            table = schema.users_messages
            ids = [message.id for message in found]
            session.execute(sa.delete(table).where(table.c.user_id == number, table.c.msg_id.in_(ids)))
        session.commit()
        session.expunge_all()
        yield len(changed)
    if number is not None:
        session.execute(sa.delete(schema.users_messages).where(schema.users_messages.c.user_id == number))
        session.execute(sa.delete(User).where(User.id == number))
    if session.get_bind().dialect.name == "sqlite":
        _index_all_again(session)
    session.commit()


def _index_again(session: orm.Session, changed: Sequence[Message]) -> None:
    """Have the index of texts forget what messages were, and take in what they are."""
    session.flush()
    connection = session.connection()
    for message in changed:
        key = message.timestamp, message.id
        texts.forget(connection, lambda one, key=key: (one.msg_timestamp == key[0]) & (one.msg_id == key[1]))
        if connection.dialect.name != "sqlite" and not _waits(session, message.id):
            texts.note(connection, [message.id], [message.timestamp])


def _waits(session: orm.Session, number: int) -> bool:
    """Return whether a message is not in the index of texts yet."""
    waiting = schema.waiting_texts.c
    return bool(session.scalar(sa.select(sa.exists().where(waiting.first_id <= number, waiting.last_id >= number))))


def _index_all_again(session: orm.Session) -> None:
    """Have the index of texts begin anew: SQLite's can't forget single messages whose texts are gone."""
    connection = session.connection()
    if not texts.is_indexed(connection):
        return
    texts.clear(connection)
    session.execute(sa.delete(schema.waiting_texts))
    last = 0
    while True:
        asked = sa.select(Message.id, Message.timestamp).where(Message.id > last).order_by(Message.id).limit(_STEP)
        found = session.execute(asked).all()
        if not found:
            return
        texts.note(connection, [row.id for row in found], [row.timestamp for row in found])
        last = found[-1].id


def _about(name: str, number: int | None, last: tuple[dt.datetime, int] | None, *, everywhere: bool) -> Any:
    """Return the query for the next messages in the order of time."""
    asked = sa.select(Message).order_by(Message.timestamp, Message.id).limit(_STEP // 4)
    if last is not None:
        asked = asked.where(*reading.behind(last))
    if everywhere:
        return asked
    table = schema.users_messages
    there = sa.exists().where(
        table.c.user_id == number, table.c.msg_timestamp == Message.timestamp, table.c.msg_id == Message.id
    )
    indexed = values.indexed_text(name)
    return asked.where(sa.or_(Message.username == indexed, Message.agent_name == indexed, there))


def _replace(message: Message, name: str, word: re.Pattern[str]) -> bool:
    """Take a name out of a message; whether it was in it."""
    envelope = message.as_dict()
    msg, headers = (_without(envelope.get(key), word) for key in ("msg", "headers"))
    is_said = msg != envelope.get("msg") or headers != envelope.get("headers")
    is_named = name in {message.username, message.agent_name}
    if not (is_said or is_named):
        return False
    if message.username == name:
        message.username = None
    if message.agent_name == name:
        message.agent_name = None
    if is_said:
        message.msg, message.headers = msg, headers
    message.signature = message.certificate = message.crypto = message.original = None
    return True


def _without(value: Any, word: re.Pattern[str]) -> Any:
    """Return a value of JSON without a name in its texts and keys."""
    if isinstance(value, str):
        return word.sub(FORGOTTEN, value)
    if isinstance(value, dict):
        return {_without(key, word): _without(item, word) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, word) for item in value]
    return value
