# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stores messages together with how far that is: in a stream, and in the numbers of services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer import models
from fedmsg.datanommer.models import rows
from fedmsg.hub.hooks import Origin
from fedmsg.stream.progress import StoredPosition

__all__ = ["store", "stored_numbers", "stored_position"]


def store(
    messages: Sequence[Mapping[str, Any]], origins: Sequence[Origin], name: str, config: Mapping[str, Any]
) -> int:
    """Store messages in one transaction with how far they are; return how many were not there yet.

    Args:
        messages: As for `fedmsg.datanommer.models.add_many`.
        origins: Where each of them comes from.
        name: Under which name the stream is read.
        config: For `fedmsg.meta`.

    Raises:
        MessageError: One of them can't be stored.
        StoreError: The database could not be written.
    """
    position = next((origin for origin in reversed(origins) if origin.stream), None)
    numbers = {origin.service: origin.number for origin in origins if origin.service}

    def note(session: orm.Session) -> None:
        if position is not None:
            session.merge(models.StreamCursor(name=name, stream=position.stream, position=position.position))
        for service, number in numbers.items():
            session.merge(models.ServiceCursor(service=service, seq_id=number))

    return models.add_many(messages, before_commit=note, config=config)


def stored_position(name: str) -> StoredPosition | None:
    """Return how far a stream was stored under a name; None where nothing is."""
    session = models.session()
    cursor = session.get(models.StreamCursor, name)
    if cursor is None:
        return None
    message = models.Message
    newest = sa.select(message.msg_id, message.timestamp).where(message.position.is_not(None))
    row = session.execute(newest.order_by(message.position.desc()).limit(1)).first()
    msg_id, time = (row.msg_id, rows.seconds(row.timestamp)) if row is not None else ("", 0.0)
    return StoredPosition(cursor.stream, cursor.position, msg_id, time)


def stored_numbers() -> dict[str, int]:
    """Return the last number of each service that was stored."""
    return {one.service: one.seq_id for one in models.session.scalars(sa.select(models.ServiceCursor))}
