# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables of the history: messages, the users and packages that they are about, counts and cursors.

The migrations make them; a test compares the two.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from fedmsg.datanommer.models import values

__all__ = [
    "DeclarativeBase",
    "Json",
    "ServiceCursor",
    "StreamCursor",
    "counter",
    "day_counts",
    "month_counts",
    "packages_messages",
    "topics",
    "users_messages",
    "waiting_texts",
]

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# In the SQLite of Python a time is text, whose order is that of the times.
_Time = sa.DateTime()


class _SqliteJson(sa.JSON):
    """JSON as text in which every character stands for itself, so that it can be searched."""

    def bind_processor(self, dialect: sa.Dialect) -> Any:  # noqa: ARG002 the signature is SQLAlchemy's
        """Return what writes a value."""
        return lambda value: None if value is None else values.plain_json(value)


class Json(sa.TypeDecorator[Any]):
    """A value of JSON, without what a database can't hold: NUL, half characters, NaN."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Return the type of a kind of database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(
            _SqliteJson(none_as_null=True) if dialect.name == "sqlite" else sa.JSON(none_as_null=True)
        )

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 the signature is SQLAlchemy's
        """Return what is written of a value."""
        return None if value is None else values.storable(value)


class DeclarativeBase(orm.DeclarativeBase):
    """The base class of the models.

    Attributes:
        query: Finds rows by the session that is open; `init` sets it.
    """

    query: ClassVar[Any]


def _association(name: str, one: str) -> sa.Table:
    """Return the table of the messages of a user or package, in the order in which they are asked for."""
    columns = sa.Column("msg_timestamp", _Time, nullable=False), sa.Column("msg_id", _Id, nullable=False)
    return sa.Table(
        name,
        DeclarativeBase.metadata,
        sa.Column(one, sa.Integer(), nullable=False),
        *columns,
        # With it, messages of a name and a topic are counted without a look at them.
        sa.Column("topic_id", sa.Integer(), nullable=True, default=_topic_id),
        sa.PrimaryKeyConstraint(one, *columns, postgresql_include=["topic_id"], name=f"{name}_pkey"),
        sa.Index(f"ix_{name}_msg_timestamp", *columns, one),
        sqlite_with_rowid=False,
    )


def _topic_id(context: Any) -> int | None:
    """Return the topic of a message that a program adds a name to."""
    given = context.get_current_parameters()
    messages = DeclarativeBase.metadata.tables["messages"]
    asked = (
        sa.select(topics.c.id)
        .join(messages, messages.c.topic == topics.c.topic)
        .where(messages.c.id == given["msg_id"], messages.c.timestamp == given["msg_timestamp"])
    )
    found: int | None = context.connection.execute(asked).scalar()
    return found


#: Every topic that was ever stored.
topics = sa.Table(
    "topics",
    DeclarativeBase.metadata,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("topic", sa.Text(), nullable=False, unique=True),
    sa.Column("category", sa.Text(), nullable=False),
)

users_messages = _association("users_messages", "user_id")
packages_messages = _association("packages_messages", "package_id")


def _counts(name: str) -> sa.Table:
    return sa.Table(
        name,
        DeclarativeBase.metadata,
        sa.Column("topic_id", sa.Integer()),
        sa.Column("start", _Time),
        sa.Column("count", _Id, nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "start", name=f"{name}_pkey", postgresql_include=["count"]),
        sqlite_with_rowid=False,
    )


#: How many messages there are of each topic in each day: totals need not be counted.
day_counts = _counts("day_counts")
#: The same of each month.
month_counts = _counts("month_counts")

#: The position of the newest message, in the only row.
counter = sa.Table(
    "message_positions",
    DeclarativeBase.metadata,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("newest", _Id, nullable=False),
)


#: The messages that are not in the index of texts yet, by batches.
waiting_texts = sa.Table(
    "waiting_texts",
    DeclarativeBase.metadata,
    sa.Column("first_id", _Id, primary_key=True, autoincrement=False),
    sa.Column("last_id", _Id, nullable=False),
    sa.Column("first_time", _Time, nullable=False),
    sa.Column("last_time", _Time, nullable=False),
)


class StreamCursor(DeclarativeBase):
    """How far a durable subscription was stored.

    Attributes:
        name: The name of the subscription.
        stream: The id of the stream that the position counts in.
        position: The last position that was stored.
    """

    __tablename__ = "stream_cursors"

    name: orm.Mapped[str] = orm.mapped_column(sa.Text(), primary_key=True)
    stream: orm.Mapped[str] = orm.mapped_column(sa.Text())
    position: orm.Mapped[int] = orm.mapped_column(_Id)


class ServiceCursor(DeclarativeBase):
    """How far a publisher that numbers its messages was stored.

    Attributes:
        service: Its name in ``replay_endpoints``.
        seq_id: The last number that was stored.
    """

    __tablename__ = "service_cursors"

    service: orm.Mapped[str] = orm.mapped_column(sa.Text(), primary_key=True)
    seq_id: orm.Mapped[int] = orm.mapped_column(_Id)
