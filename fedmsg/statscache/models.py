# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables that statistics are kept in: what a plugin derives its own from.

::

    model = type("Edits", (CategorizedModel,), {"__tablename__": "edits", "__unique__": ("category",)})

Times are in UTC, without a zone, as in the history.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import exc, orm

from fedmsg._web import written
from fedmsg.store import columns

__all__ = [
    "BaseModel",
    "CategorizedLogModel",
    "CategorizedModel",
    "ConstrainedCategorizedLogModel",
    "ScalarModel",
    "seconds",
]

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 as the columns have it


class Moment(sa.TypeDecorator[dt.datetime]):
    """A time in UTC; one with a zone is converted."""

    impl = sa.DateTime()
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 the signature is SQLAlchemy's
        """Return what is written of a time."""
        if isinstance(value, dt.datetime) and value.tzinfo is not None:
            return value.astimezone(dt.timezone.utc).replace(tzinfo=None)
        return value


class Number(sa.TypeDecorator[float]):
    """A number; without a fraction it is read as an int."""

    impl = sa.Double()
    cache_ok = True

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 the signature is SQLAlchemy's
        """Return what is read."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Label(sa.TypeDecorator[str]):
    """A short text that rows are found by: the end of one that is too long for an index is a digest."""

    impl = sa.Text()
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 the signature is SQLAlchemy's
        """Return what is written of a text, or of what is none."""
        return None if value is None else columns.indexed_text(str(value))


class Words(sa.TypeDecorator[str]):
    """A text of any length, without what a database can't hold."""

    impl = sa.Text()
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 the signature is SQLAlchemy's
        """Return what is written of a text, or of what is none."""
        return None if value is None else columns.column_text(str(value))


def seconds(moment: dt.datetime) -> float:
    """Return a time of a column as seconds since 1970."""
    return (moment - _EPOCH).total_seconds()


class BaseModel(orm.DeclarativeBase):
    """A table of rows that each belong to a time.

    A program may read its plugins more than once: a table that is declared again replaces the one before it.

    Attributes:
        __unique__: Which columns no two rows of the same time have in common, where there are such, so that a row can
            be written by an upsert: ``("category",)``, or ``()`` for one row of each time.
    """

    __abstract__ = True
    # Plugins annotate their columns as they like.
    __allow_unmapped__ = True
    __unique__: ClassVar[tuple[str, ...] | None] = None

    id: orm.Mapped[int] = orm.mapped_column(_Id, primary_key=True)
    timestamp: orm.Mapped[dt.datetime] = orm.mapped_column(Moment(), nullable=False)

    def __init_subclass__(cls, **options: Any) -> None:
        if not cls.__dict__.get("__abstract__"):
            declared = cls.metadata.tables.get(cls.__tablename__)
            if declared is not None:
                cls.metadata.remove(declared)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This declarative base already contains a class", exc.SAWarning)
            super().__init_subclass__(**options)

    @orm.declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805 SQLAlchemy calls it on the class
        return "stats_" + re.sub(r"\W+", "_", cls.__name__.lower())

    @orm.declared_attr.directive
    def __table_args__(cls) -> Any:  # noqa: N805 SQLAlchemy calls it on the class
        # An id is not used again, so that pages can leave out what is newer.
        options = {"sqlite_autoincrement": True}
        if cls.__unique__ is None:
            return sa.Index(None, "timestamp", "id"), options
        return sa.Index(None, "timestamp", *cls.__unique__, unique=True, postgresql_include=["id"]), options

    @classmethod
    def ordering(cls) -> list[orm.InstrumentedAttribute[Any]]:
        """Return the columns that order the rows: an index has them so."""
        names = ("id",) if cls.__unique__ is None else cls.__unique__
        return [cls.__mapper__.attrs[name].class_attribute for name in ("timestamp", *names)]

    @classmethod
    def columns(cls) -> list[str]:
        """Return the names of the columns."""
        names = [attribute.key for attribute in cls.__mapper__.column_attrs]
        return ["id", "timestamp", *sorted(set(names) - {"id", "timestamp"})]

    @classmethod
    def as_dicts(cls, rows: Iterable[Any]) -> list[dict[str, Any]]:
        """Return rows as they are answered: without the id, times as seconds since 1970."""
        names = cls.columns()[1:]
        return [{name: _shown(getattr(row, name)) for name in names} for row in rows]

    @classmethod
    def to_json(cls, rows: Iterable[Any]) -> str:
        """Return rows as a JSON array of objects."""
        return written.dump(cls.as_dicts(rows))

    @classmethod
    def to_csv(cls, rows: Iterable[Any]) -> str:
        """Return rows as CSV (RFC 4180), the names of the columns first."""
        found = [list(map(_cell, row.values())) for row in cls.as_dicts(rows)]
        return written.lines([cls.columns()[1:], *found])


def _cell(value: Any) -> str:
    # A number that begins with a minus is no formula.
    return written.dump(value) if isinstance(value, (int, float)) else written.cell(value)


def _shown(value: Any) -> Any:
    return seconds(value) if isinstance(value, dt.datetime) else value


class ScalarModel(BaseModel):
    """A number for each time."""

    __abstract__ = True

    scalar: orm.Mapped[float] = orm.mapped_column(Number(), nullable=False)


class CategorizedModel(BaseModel):
    """A number for each time and category."""

    __abstract__ = True

    category: orm.Mapped[str] = orm.mapped_column(Label(), nullable=False)
    scalar: orm.Mapped[float] = orm.mapped_column(Number(), nullable=False)

    @classmethod
    def collate(cls, rows: Iterable[Any]) -> OrderedDict[float, OrderedDict[str, float]]:
        """Return rows by time and category, 0 where a time has no row of a category."""
        found = list(rows)
        categories = sorted({row.category for row in found})
        collated: OrderedDict[float, OrderedDict[str, float]] = OrderedDict()
        for row in found:
            moment = seconds(row.timestamp)
            if moment not in collated:
                collated[moment] = OrderedDict.fromkeys(categories, 0)
            collated[moment][row.category] += row.scalar
        return collated


class CategorizedLogModel(BaseModel):
    """A text for each time and category."""

    __abstract__ = True

    category: orm.Mapped[str] = orm.mapped_column(Label(), nullable=False, index=True)
    message: orm.Mapped[str] = orm.mapped_column(Words(), nullable=False)


class ConstrainedCategorizedLogModel(CategorizedLogModel):
    """The same, with what its category is one of."""

    __abstract__ = True

    category_constraint: orm.Mapped[str | None] = orm.mapped_column(Label(), nullable=True)
