# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds messages: by page, as programs always did, or from a cursor, at the same cost on every page."""

from __future__ import annotations

import binascii
import datetime as dt
import functools
import itertools
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer.models import counting, keys, opening, query
from fedmsg.datanommer.models.line import Line
from fedmsg.datanommer.models.query import Filters
from fedmsg.exceptions import UsageError

__all__ = ["Page", "Place", "after", "find", "grep"]

# What a message can have much of.
_LONG = ("msg", "headers", "original", "certificate", "signature")
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 as the columns, without a zone
_MICROSECOND = dt.timedelta(microseconds=1)


class Page(NamedTuple):
    """Messages that were found from a cursor on.

    Args:
        messages: The messages of the page.
        total: How many there are altogether; None when that was not asked for.
        cursor: Where the next page begins; None on the last one.
    """

    messages: Sequence[Any]
    total: int | None
    cursor: str | None


class Place(NamedTuple):
    """Which of the messages are wanted.

    Args:
        after: What the first one comes after, None at the beginning; see `after`.
        limit: How many messages.
        offset: How many are skipped.
        order: ``asc`` or ``desc`` by time.
        most_characters: How long messages may be together: after the first one, what is longer is left for the next
            page. None is no limit.
    """

    after: tuple[dt.datetime, int] | None
    limit: int
    offset: int
    order: str
    most_characters: int | None = None


def grep(model: Any, wanted: Filters, *, page: int, rows_per_page: int | None, order: str, defer: bool) -> Any:
    """Find messages; see `Message.grep`."""
    session, columns = opening.current_session()(), model.__table__.c
    found = keys.select(session, columns, wanted)
    found = query.ordered(keys.key_of(found), found, order)
    if not rows_per_page:
        total, pages = counting.total(session, columns, wanted), 1
        asked = _messages(model, found.subquery(), order)
    elif wanted.contains or wanted.search:
        total, page_keys = _page_and_total(session, found, (rows_per_page, rows_per_page * (page - 1)), order)
        asked = _messages_of(query.MessageQuery(model), columns, page_keys, order)
        pages = -(-total // rows_per_page)
    else:
        total = counting.total(session, columns, wanted)
        pages = -(-total // rows_per_page)
        asked = _messages(model, found.limit(rows_per_page).offset(rows_per_page * (page - 1)).subquery(), order)
    return total, pages, asked if defer else session.scalars(asked).all()


def _page_and_total(session: orm.Session, found: Any, place: tuple[int, int], order: str) -> tuple[int, list[Any]]:
    """Return how many keys are found, and those of a page: texts are searched once for both."""
    rows, skipped = place
    one = found.order_by(None).subquery()
    counted = sa.select(one.c.timestamp, one.c.id, sa.func.count().over())
    page = session.execute(query.ordered((one.c.timestamp, one.c.id), counted, order).limit(rows).offset(skipped)).all()
    total = page[0][2] if page else 0
    if skipped and not page:
        total = session.scalar(sa.select(sa.func.count()).select_from(one)) or 0
    return total, [(row[0], row[1]) for row in page]


def find(model: Any, wanted: Filters, place: Place, *, count: bool = False, lines: bool = False) -> Page:
    """Find messages; see `Message.find`."""
    session, columns = opening.current_session()(), model.__table__.c
    total: int | None = None
    kind: Any = query.MessageQuery(model)
    if lines:
        kind = sa.select(*_columns(model.__table__, place.limit, place.most_characters))
    if count and place.after is None and (wanted.contains or wanted.search):
        found = keys.select(session, columns, wanted)
        total, page_keys = _page_and_total(session, found, (place.limit + 1, place.offset), place.order)
        asked = _messages_of(kind, columns, page_keys, place.order)
    else:
        if count:
            total = counting.total(session, columns, wanted)
        if total is not None and total <= place.offset:
            return Page([], total, None)
        asked = _page(session, columns, wanted, place, kind)
    if lines:
        messages, is_cut = _lines(session, columns, asked, place)
    else:
        messages, is_cut = session.scalars(asked).all(), False
    is_cut = (is_cut or len(messages) > place.limit) and bool(messages)
    messages = messages[: place.limit]
    return Page(messages, total, _encode(messages[-1]) if is_cut else None)


def _length(column: Any) -> Any:
    return sa.func.coalesce(sa.func.length(sa.cast(column, sa.Text)), 0)


# To make them takes as long as to read a few rows.
@functools.lru_cache(maxsize=256)
def _columns(table: sa.Table, limit: int, most_characters: int | None) -> list[Any]:
    """Return the columns of a `Line`; what is longer than its share of a page is NULL, and then ``msg`` too."""
    columns = table.c
    if most_characters is None:
        return [columns[name] for name in Line._fields]
    share = most_characters // (limit + 1)
    lengths = {name: _length(columns[name]) for name in _LONG}
    lengths["msg"] = sum(lengths.values())
    return [
        sa.case((lengths[name] <= share, columns[name])).label(name) if name in lengths else columns[name]
        for name in Line._fields
    ]


def _lines(session: orm.Session, columns: Any, asked: Any, place: Place) -> tuple[Sequence[Any], bool]:
    """Return messages, and whether some are left out because they are too long together."""
    connection, most = session.connection(), place.most_characters
    found = [Line._make(row) for row in connection.execute(asked)]
    if most is None or all(line.msg is not None for line in found):
        return found, False
    page_keys = [(line.timestamp, line.id) for line in found]
    length: Any = sum(_length(columns[name]) for name in _LONG)
    lengths = connection.execute(_messages_of(sa.select(length), columns, page_keys, place.order)).scalars()
    ends = itertools.accumulate(lengths)
    fitting = max(1, sum(end <= most for end in ends))
    whole = sa.select(*(columns[name] for name in Line._fields))
    rows = connection.execute(_messages_of(whole, columns, page_keys[:fitting], place.order))
    return [Line._make(row) for row in rows], fitting < len(page_keys)


def _page(session: orm.Session, columns: Any, wanted: Filters, place: Place, kind: Any) -> Any:
    """Return the query for the messages of a page and one more."""
    is_plain = not place.offset and wanted.only("msg_id", "topics", "not_topics", "categories", "not_categories")
    if is_plain:
        # The index has them in order, and all that is read is wanted.
        found, key = kind.where(*query.conditions(columns, wanted)), (columns.timestamp, columns.id)
    else:
        found = keys.select(session, columns, wanted)
        key = keys.key_of(found)
    if place.after is not None:
        found = found.where(*_behind(key, place.after, place.order))
    found = query.ordered(key, found, place.order).limit(place.limit + 1)
    return found if is_plain else _joined(kind, columns, found.offset(place.offset).subquery(), place.order)


def _messages(model: Any, page: Any, order: str) -> Any:
    """Return the query for the messages of some keys."""
    return _joined(query.MessageQuery(model), model.__table__.c, page, order)


def _joined(kind: Any, columns: Any, page: Any, order: str) -> Any:
    asked = kind.join(page, sa.and_(columns.timestamp == page.c.timestamp, columns.id == page.c.id))
    return query.ordered((columns.timestamp, columns.id), asked, order)


def _messages_of(kind: Any, columns: Any, page_keys: list[Any], order: str) -> Any:
    """Return the query for the messages of some keys that are known."""
    is_one = sa.tuple_(columns.timestamp, columns.id).in_(page_keys)
    return query.ordered((columns.timestamp, columns.id), kind.where(is_one), order)


def _behind(key: tuple[Any, Any], place: tuple[dt.datetime, int], order: str) -> list[Any]:
    timestamp, number = (getattr(column, "element", column) for column in key)
    if order == "asc":
        return [timestamp >= place[0], sa.or_(timestamp > place[0], number > place[1])]
    return [timestamp <= place[0], sa.or_(timestamp < place[0], number < place[1])]


def _encode(message: Any) -> str:
    text = f"{(message.timestamp - _EPOCH) // _MICROSECOND}.{message.id}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def after(cursor: str | None) -> tuple[dt.datetime, int] | None:
    """Return the message that a page has ended with, by its cursor.

    Raises:
        UsageError: It is no cursor.
    """
    if cursor is None:
        return None
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        microseconds, number = map(int, text.split("."))
        if abs(number) >= 2**63:
            raise ValueError(number)
        return _EPOCH + microseconds * _MICROSECOND, number
    except (ValueError, OverflowError, binascii.Error) as error:
        raise UsageError("the cursor is none that a page has ended with") from error
