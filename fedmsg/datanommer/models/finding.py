# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds messages: by page, as programs always did, or from a cursor, at the same cost on every page."""

from __future__ import annotations

import binascii
import datetime as dt
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer.models import counting, keys, opening, query
from fedmsg.datanommer.models.query import Filters
from fedmsg.exceptions import UsageError

__all__ = ["Page", "find", "grep"]

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


def grep(model: Any, wanted: Filters, *, page: int, rows_per_page: int | None, order: str, defer: bool) -> Any:
    """Find messages; see `Message.grep`."""
    session = opening.current_session()()
    found = keys.select(session, model, wanted)
    found = query.ordered(keys.key_of(found), found, order)
    if not rows_per_page:
        total, pages = counting.total(session, model, wanted), 1
        asked = _messages(model, found.subquery(), order)
    elif wanted.contains or wanted.search:
        total, asked = _page_and_total(session, model, found, (rows_per_page, rows_per_page * (page - 1)), order)
        pages = -(-total // rows_per_page)
    else:
        total = counting.total(session, model, wanted)
        pages = -(-total // rows_per_page)
        asked = _messages(model, found.limit(rows_per_page).offset(rows_per_page * (page - 1)).subquery(), order)
    return total, pages, asked if defer else session.scalars(asked).all()


def _page_and_total(
    session: orm.Session, model: Any, found: Any, place: tuple[int, int], order: str
) -> tuple[int, Any]:
    """Return how many keys are found, and the query for the messages of a page: texts are searched once for both."""
    rows, skipped = place
    one = found.order_by(None).subquery()
    counted = sa.select(one.c.timestamp, one.c.id, sa.func.count().over())
    page = session.execute(query.ordered((one.c.timestamp, one.c.id), counted, order).limit(rows).offset(skipped)).all()
    total = page[0][2] if page else 0
    if skipped and not page:
        total = session.scalar(sa.select(sa.func.count()).select_from(one)) or 0
    is_one = sa.tuple_(model.timestamp, model.id).in_([(row[0], row[1]) for row in page])
    return total, query.ordered((model.timestamp, model.id), query.MessageQuery(model).where(is_one), order)


def find(
    model: Any, wanted: Filters, *, cursor: str | None, limit: int, offset: int = 0, order: str, count: bool
) -> Page:
    """Find messages; see `Message.find`."""
    session = opening.current_session()()
    found = keys.select(session, model, wanted)
    key = keys.key_of(found)
    if cursor is not None:
        found = found.where(*_behind(key, _decode(cursor), order))
    found = query.ordered(key, found, order).limit(limit + 1).offset(offset)
    messages = session.scalars(_messages(model, found.subquery(), order)).all()
    total = counting.total(session, model, wanted) if count else None
    more = len(messages) > limit
    return Page(messages[:limit], total, _encode(messages[limit - 1]) if more else None)


def _messages(model: Any, page: Any, order: str) -> Any:
    """Return the query for the messages of some keys."""
    asked = query.MessageQuery(model).join(page, sa.and_(model.timestamp == page.c.timestamp, model.id == page.c.id))
    return query.ordered((model.timestamp, model.id), asked, order)


def _behind(key: tuple[Any, Any], place: tuple[dt.datetime, int], order: str) -> list[Any]:
    timestamp, number = (getattr(column, "element", column) for column in key)
    if order == "asc":
        return [timestamp >= place[0], sa.or_(timestamp > place[0], number > place[1])]
    return [timestamp <= place[0], sa.or_(timestamp < place[0], number < place[1])]


def _encode(message: Any) -> str:
    text = f"{(message.timestamp - _EPOCH) // _MICROSECOND}.{message.id}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[dt.datetime, int]:
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        microseconds, number = map(int, text.split("."))
        if abs(number) >= 2**63:
            raise ValueError(number)
        return _EPOCH + microseconds * _MICROSECOND, number
    except (ValueError, OverflowError, binascii.Error) as error:
        raise UsageError("the cursor is none that a page has ended with") from error
