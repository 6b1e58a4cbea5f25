# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message of the history, and the users and packages that messages are about."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer.models import (
    bulk,
    containing,
    counting,
    finding,
    matching,
    opening,
    partitions,
    query,
    rows,
    schema,
    texts,
    values,
)
from fedmsg.datanommer.models.line import Published

if TYPE_CHECKING:
    from typing_extensions import Self

    from fedmsg.filters import MessageFilter

__all__ = ["Message", "Package", "User"]


class _Named:
    """What users and packages have in common."""

    if TYPE_CHECKING:

        def __init__(self, *, name: str) -> None: ...

    id: orm.Mapped[int] = orm.mapped_column(sa.Integer(), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.Text(), unique=True)

    @classmethod
    def get_or_create(cls, name: str) -> Self:
        """Return the row of a name, made where there is none."""
        name = values.indexed_text(name) or ""
        found = opening.current_session().scalars(sa.select(cls).where(cls.name == name)).one_or_none()
        if found is None:
            found = cls(name=name)
            opening.current_session().add(found)
            opening.current_session().flush()
        return found

    @classmethod
    def clear_cache(cls) -> None:
        """Do nothing: no names are cached. Programs call it between their tests."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class User(_Named, schema.DeclarativeBase):
    """A user that messages are about."""

    __tablename__ = "users"


class Package(_Named, schema.DeclarativeBase):
    """A package that messages are about."""

    __tablename__ = "packages"


class Message(Published, schema.DeclarativeBase):
    """A message as it was published.

    Attributes:
        timestamp: When it was published, in UTC.
        is_time_of_arrival: Whether its own time made no sense, and ``timestamp`` is that of its arrival.
        position: Its place in the order of storing; None for what was imported.
        original: Its canonical JSON, where the columns do not hold all of it.
    """

    __tablename__ = "messages"
    __table_args__ = (
        sa.UniqueConstraint("msg_id", "timestamp", name="uq_messages_msg_id"),
        sa.Index("ix_messages_topic", "topic", "timestamp", "id"),
        sa.Index("ix_messages_category", "category", "timestamp", "id"),
        sa.Index("ix_messages_agent_name", "agent_name", "timestamp", "id", "topic"),
        sa.Index("ix_messages_position", "position"),
        {"postgresql_partition_by": "RANGE (timestamp)"},
    )

    timestamp: orm.Mapped[dt.datetime] = orm.mapped_column(sa.DateTime(), primary_key=True)
    id: orm.Mapped[int] = orm.mapped_column(
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    msg_id: orm.Mapped[str] = orm.mapped_column(sa.Text())
    i: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger())
    topic: orm.Mapped[str] = orm.mapped_column(sa.Text())
    certificate: orm.Mapped[str | None] = orm.mapped_column(sa.Text())
    signature: orm.Mapped[str | None] = orm.mapped_column(sa.Text())
    category: orm.Mapped[str] = orm.mapped_column(sa.Text())
    username: orm.Mapped[str | None] = orm.mapped_column(sa.Text())
    agent_name: orm.Mapped[str | None] = orm.mapped_column(sa.Text())
    crypto: orm.Mapped[str | None] = orm.mapped_column(sa.Text())
    source_name: orm.Mapped[str | None] = orm.mapped_column(sa.Text(), default=rows.SOURCE_NAME)
    source_version: orm.Mapped[str | None] = orm.mapped_column(sa.Text(), default=rows.source_version)
    msg: orm.Mapped[Any] = orm.mapped_column(schema.Json(), nullable=True)
    headers: orm.Mapped[Any] = orm.mapped_column(schema.Json(), nullable=True)
    seq_id: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger())
    position: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger())
    original: orm.Mapped[str | None] = orm.mapped_column(sa.Text())
    is_time_of_arrival: orm.Mapped[bool] = orm.mapped_column(sa.Boolean(), default=False, server_default=sa.false())

    users: orm.Mapped[list[User]] = orm.relationship(
        User,
        secondary=schema.users_messages,
        primaryjoin=lambda: sa.and_(
            Message.id == schema.users_messages.c.msg_id, Message.timestamp == schema.users_messages.c.msg_timestamp
        ),
        secondaryjoin=lambda: User.id == schema.users_messages.c.user_id,
        foreign_keys=list(schema.users_messages.c)[:3],
    )
    packages: orm.Mapped[list[Package]] = orm.relationship(
        Package,
        secondary=schema.packages_messages,
        primaryjoin=lambda: sa.and_(
            Message.id == schema.packages_messages.c.msg_id,
            Message.timestamp == schema.packages_messages.c.msg_timestamp,
        ),
        secondaryjoin=lambda: Package.id == schema.packages_messages.c.package_id,
        foreign_keys=list(schema.packages_messages.c)[:3],
    )

    @orm.validates("topic", "category", "msg_id", "username", "agent_name")
    def _fitting(self, key: str, text: str | None) -> str | None:
        if key == "topic" and text is not None:
            self.category = self.get_category(text)
        return values.indexed_text(text)

    @staticmethod
    def get_category(topic: str) -> str:
        """Return the category of a topic."""
        return values.category_of(topic)

    @classmethod
    def create(
        cls, *, users: Iterable[str] | None = None, packages: Iterable[str] | None = None, **columns: Any
    ) -> Self:
        """Store one message of the given columns, about users and packages by name, in the current transaction."""
        made = cls(**columns)
        made.users = [User.get_or_create(name) for name in dict.fromkeys(users or ())]
        made.packages = [Package.get_or_create(name) for name in dict.fromkeys(packages or ())]
        opening.current_session().add(made)
        opening.current_session().flush()
        return made

    @classmethod
    def from_msg_id(cls, msg_id: str) -> Self | None:
        """Return the message with an id, the newest where there are several; None where there is none."""
        asked = sa.select(cls).where(cls.msg_id == (values.indexed_text(msg_id) or "")).order_by(cls.timestamp.desc())
        return opening.current_session().scalars(asked.limit(1)).first()

    @classmethod
    def make_query(  # noqa: PLR0917 programs read its signature, and pass some by place
        cls,
        start: dt.datetime | float | None = None,
        end: dt.datetime | float | None = None,
        msg_id: str | None = None,
        users: Iterable[str] | None = None,
        not_users: Iterable[str] | None = None,
        packages: Iterable[str] | None = None,
        not_packages: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        not_categories: Iterable[str] | None = None,
        topics: Iterable[str] | None = None,
        not_topics: Iterable[str] | None = None,
        agents: Iterable[str] | None = None,
        not_agents: Iterable[str] | None = None,
        contains: Iterable[str] | None = None,
        not_contains: Iterable[str] | None = None,
        search: Iterable[str] | None = None,
        matching: MessageFilter | None = None,
    ) -> sa.Select[tuple[Self]]:
        """Return a query for messages: values of a filter are alternatives, and all filters must match.

        The exceptions are texts: a message has to have all of ``contains``, and all that ``search`` has: words,
        ``"phrases in quotes"``, and what it must not have, ``-with -"a minus"``. ``matching`` is a filter as for live
        messages, which may have no regular expressions.

        Raises:
            ValueError: There is only one of ``start`` and ``end``.
        """
        given = {key: value for key, value in locals().items() if key not in {"cls", "__class__"}}
        return query.select(cls, cls._wanted(given))

    @classmethod
    def _wanted(cls, given: dict[str, Any]) -> query.Filters:
        matched: MessageFilter | None = given.pop("matching", None)
        unwanted = given.pop("not_contains", None) or ()
        wanted = query.Filters(**given)
        if matched is not None:
            wanted.more = matching.conditions(opening.current_session()(), cls, matched)
        for text in [unwanted] if isinstance(unwanted, str) else unwanted:
            there = sa.and_(*containing.conditions(cls.msg, [text], []))
            wanted.more = [*(wanted.more or []), ~sa.func.coalesce(there, sa.false())]
        return wanted

    @classmethod
    def grep(
        cls,
        *,
        page: int = 1,
        rows_per_page: int | None = 100,
        order: str = "asc",
        defer: bool = False,
        **filters: Any,
    ) -> tuple[int, int, Any]:
        """Find messages.

        Args:
            page: The page, the first is 1.
            rows_per_page: How many messages a page has; 0 or None is all of them on one page.
            order: ``asc`` or ``desc`` by time.
            defer: Return the query instead of the messages.
            filters: As for `make_query`.

        Returns:
            How many messages there are, on how many pages, and those of the page.
        """
        wanted = cls._wanted(filters)
        found: tuple[int, int, Any] = finding.grep(
            cls, wanted, page=page, rows_per_page=rows_per_page, order=order, defer=defer
        )
        return found

    @classmethod
    def find(
        cls,
        *,
        cursor: str | None = None,
        limit: int = 100,
        offset: int = 0,
        order: str = "desc",
        count: bool = False,
        lines: bool = False,
        most_characters: int | None = None,
        **filters: Any,
    ) -> finding.Page:
        """Find messages from a cursor on: the page costs the same wherever it is, and is stable while others arrive.

        Args:
            cursor: What the page before ended with; None is the first page.
            limit: How many messages a page has.
            offset: How many messages after the cursor are skipped, which costs more the more there are.
            order: ``asc`` or ``desc`` by time; the same for all pages.
            count: Whether the total is wanted, too.
            lines: Return `Line` in place of messages of the ORM, which cost more.
            most_characters: With ``lines``, how long messages may be together before the page ends early.
            filters: As for `make_query`.

        Raises:
            UsageError: The cursor is none, or a filter makes no sense. A ValueError.
        """
        wanted = cls._wanted(filters)
        place = finding.Place(finding.after(cursor), limit, offset, order, most_characters)
        return finding.find(cls, wanted, place, count=count, lines=lines)

    @classmethod
    def count(cls, **filters: Any) -> int:
        """Return how many messages the filters of `make_query` match."""
        return counting.total(opening.current_session()(), cls.__table__.c, cls._wanted(filters))

    @classmethod
    def get_first(cls, *, order: str = "asc", **filters: Any) -> Self | None:
        """Return the first message by time that the filters of `make_query` match, or the last one."""
        found = finding.find(cls, cls._wanted(filters), finding.Place(None, 1, 0, order))
        return found.messages[0] if found.messages else None

    def __repr__(self) -> str:
        return f"<Message {self.msg_id!r} {self.topic!r}>"


# ---------------------------------------------------------------- messages that programs add themselves


def _before_insert(_mapper: object, connection: sa.Connection, message: Message) -> None:
    message.timestamp = rows.as_time(cast("dt.datetime | None", message.timestamp) or time.time())
    if connection.dialect.name == "postgresql":
        partitions.ensure(connection, [message.timestamp])
    _count(connection, message, 1)


def _after_insert(_mapper: object, connection: sa.Connection, message: Message) -> None:
    texts.note(connection, [message.id], [message.timestamp])


def _after_delete(_mapper: object, connection: sa.Connection, message: Message) -> None:
    for association in (schema.users_messages, schema.packages_messages):
        key = association.c.msg_timestamp == message.timestamp, association.c.msg_id == message.id
        connection.execute(sa.delete(association).where(*key))
    texts.forget(connection, lambda key: (key.msg_timestamp == message.timestamp) & (key.msg_id == message.id))
    _count(connection, message, -1)


def _count(connection: sa.Connection, message: Message, number: int) -> None:
    topics = bulk.ids(connection, "topics", {message.topic: message.category})
    bulk.count(connection, {(topics[message.topic], bulk.day_of(message.timestamp)): number})


sa.event.listen(Message, "before_insert", _before_insert)
sa.event.listen(Message, "after_insert", _after_insert)
sa.event.listen(Message, "after_delete", _after_delete)
