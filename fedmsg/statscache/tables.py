# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables that say how far each plugin has counted; they change in the transactions that change its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from fedmsg.statscache.ledger import Counted
from fedmsg.statscache.models import BaseModel

__all__ = ["Progress", "add_counts", "load", "note", "note_numbers", "numbers", "prune", "take"]

_metadata = BaseModel.metadata
_Number = sa.BigInteger()

_state = sa.Table(
    "statscache_state", _metadata,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("number", _Number, nullable=False),
)  # fmt: skip
_progress = sa.Table(
    "statscache_progress", _metadata,
    sa.Column("ident", sa.Text(), primary_key=True),
    sa.Column("generation", sa.Integer(), nullable=False),
    sa.Column("stream", sa.Text(), nullable=False),
    sa.Column("position", _Number, nullable=False),
    sa.Column("since", sa.Double(), nullable=True),
    sa.Column("time", sa.Double(), nullable=True),
    sa.Column("pruned", sa.Double(), nullable=False),
    sa.Column("holds", sa.Boolean(), nullable=False),
)  # fmt: skip
_services = sa.Table(
    "statscache_services", _metadata,
    sa.Column("service", sa.Text(), primary_key=True),
    sa.Column("seq_id", _Number, nullable=False),
)  # fmt: skip
_counted = sa.Table(
    "statscache_counted", _metadata,
    sa.Column("id", _Number.with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("number", _Number, nullable=False),
    sa.Column("plugins", sa.Text(), nullable=False),
    sa.Column("newest", sa.Double(), nullable=False),
    sa.Column("keys", sa.LargeBinary(), nullable=False),
)  # fmt: skip

_TAKE = sa.update(_state).values(number=_state.c.number + 1)
_DIALECTS = {"postgresql": postgresql, "sqlite": sqlite}
_NUMBER = sa.select(_state.c.number)


class Progress(NamedTuple):
    """How far a plugin has counted.

    Attributes:
        ident: The plugin.
        generation: How often it was begun anew.
        stream: The id of the stream that the position counts in; empty where there is none.
        position: The last position that it has counted.
        since: Nothing of before that is counted from history, in seconds since the epoch; None until it has counted.
        time: The time of the newest message that it has counted; None before the first.
        pruned: The time of the newest message that may be counted and is not remembered any more.
        holds: Whether something may be in memory that it has not written.
    """

    ident: str
    generation: int = 0
    stream: str = ""
    position: int = 0
    since: float | None = None
    time: float | None = None
    pruned: float = 0.0
    holds: bool = False


def take(session: orm.Session) -> int:
    """Return the number of this transaction, the next after the last; others wait for its end."""
    if not session.execute(_TAKE).rowcount:  # type: ignore[attr-defined] # that of an update
        session.execute(_state.insert().values(id=1, number=1))
    return int(session.scalar(_NUMBER) or 0)


def load(session: orm.Session) -> tuple[int, dict[str, Progress], list[Counted]]:
    """Return the number of the last transaction, the progress by ident, and what is remembered."""
    found = session.execute(_progress.select()).all()
    progress = {row.ident: Progress(**row._mapping) for row in found}
    rows = session.execute(_counted.select().order_by(_counted.c.id)).all()
    counted = [Counted(row.number, frozenset(json.loads(row.plugins)), row.newest, bytes(row.keys)) for row in rows]
    return int(session.scalar(_NUMBER) or 0), progress, counted


def note(session: orm.Session, progress: Iterable[Progress], counted: Iterable[Counted]) -> None:
    """Write how far plugins are, and what they have counted."""
    if rows := [one._asdict() for one in progress]:
        _upsert(session, _progress, "ident", rows)
    if found := [{**row._asdict(), "plugins": json.dumps(sorted(row.plugins))} for row in counted]:
        session.execute(_counted.insert(), found)


def prune(session: orm.Session, rows: Iterable[Counted]) -> None:
    """Remove what need not be remembered."""
    if numbers := [row.number for row in rows]:
        session.execute(_counted.delete().where(_counted.c.number <= max(numbers)))


def note_numbers(session: orm.Session, numbers: Mapping[str, int]) -> None:
    """Write the last number of each service."""
    if numbers:
        rows = [{"service": service, "seq_id": number} for service, number in numbers.items()]
        _upsert(session, _services, "service", rows)


def numbers(session: orm.Session) -> dict[str, int]:
    """Return the last number of each service."""
    return {row.service: row.seq_id for row in session.execute(_services.select())}


def _upsert(session: orm.Session, table: sa.Table, key: str, rows: list[dict[str, Any]]) -> None:
    dialect: Any = _DIALECTS[session.get_bind().dialect.name]
    insert = dialect.insert(table)
    changed = {name: insert.excluded[name] for name in rows[0] if name != key}
    session.execute(insert.on_conflict_do_update(index_elements=[key], set_=changed), rows)


# ---------------------------------------------------------------- counts

# A row is an array: its time in seconds, its number, its category.
_ADD = {
    "postgresql": """INSERT INTO {table} (timestamp, scalar{names})
        SELECT to_timestamp(CAST(one ->> 0 AS DOUBLE PRECISION)) AT TIME ZONE 'UTC',
            CAST(one ->> 1 AS DOUBLE PRECISION){given}
        FROM jsonb_array_elements(CAST(:values AS JSONB)) AS one
        ON CONFLICT (timestamp{names}) DO UPDATE SET scalar = {table}.scalar + excluded.scalar""",
    "sqlite": """INSERT INTO {table} (timestamp, scalar{names})
        SELECT strftime('%Y-%m-%d %H:%M:%S.000000', json_extract(value, '$[0]'), 'unixepoch'),
            json_extract(value, '$[1]'){given}
        FROM json_each(:values) WHERE true
        ON CONFLICT (timestamp{names}) DO UPDATE SET scalar = {table}.scalar + excluded.scalar""",
}
_GIVEN = {"postgresql": ", one ->> 2", "sqlite": ", json_extract(value, '$[2]')"}


def add_counts(session: orm.Session, model: Any, counts: Mapping[tuple[int, str], int]) -> None:
    """Add to the numbers of a model, by time in whole seconds and category, in one statement.

    Args:
        session: In whose transaction.
        model: A `ScalarModel`, whose category is empty, or a `CategorizedModel`; no two rows have the same key.
        counts: What to add.
    """
    if not counts:
        return
    name = session.get_bind().dialect.name
    is_by_category = hasattr(model, "category")
    text = _ADD[name].format(
        table=model.__tablename__,
        names=", category" if is_by_category else "",
        given=_GIVEN[name] if is_by_category else "",
    )
    # In order, so that two that do this at once don't block each other.
    values = [(moment, number, category) for (moment, category), number in sorted(counts.items())]
    session.execute(sa.text(text), {"values": json.dumps(values)})
