# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stores messages out of files and other databases, and counts what becomes of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from fedmsg._util.text import quoted
from fedmsg.datanommer.models import writing
from fedmsg.datanommer.models.rows import Row
from fedmsg.datanommer.upkeep import dumps
from fedmsg.exceptions import MessageError, StoreError
from fedmsg.store import database

__all__ = ["Loaded", "load_file"]

log = logging.getLogger("fedmsg.datanommer")

_BATCH = 1000


class Loaded(NamedTuple):
    """What has become of some messages: stored, there already, not stored."""

    stored: int = 0
    known: int = 0
    bad: int = 0


def load_file(file: IO[str], config: Mapping[str, Any]) -> Iterator[Loaded]:
    """Store the messages of a file; yields what has become of each part of it.

    Raises:
        ValueError: It is no JSON, from some place on; what comes before that is stored.
        StoreError: The database could not be written.
    """
    records = dumps.values_in(file)
    failure: ValueError | None = None

    def until_failure() -> Iterator[Any]:
        nonlocal failure
        try:
            yield from records
        except ValueError as error:
            failure = error

    for batch in dumps.batches(until_failure(), _BATCH):
        found = [row for record in batch if (row := _row(record, config)) is not None]
        stored, bad = _store(found)
        yield Loaded(stored, len(found) - stored - bad, len(batch) - len(found) + bad)
    if failure is not None:
        raise failure


def _row(record: Any, config: Mapping[str, Any]) -> Row | None:
    try:
        return dumps.row_of(record, config)
    except (MessageError, ValueError) as error:
        name = record.get("msg_id", record.get("id")) if isinstance(record, dict) else record
        log.error("the message %s can't be stored: %s", quoted(str(name)), error)
        return None


def _store(found: Sequence[Row]) -> tuple[int, int]:
    """Store rows, one by one where that fails; return how many, and how many can't be."""
    try:
        return writing.add_rows(found, is_import=True), 0
    except StoreError as error:
        if database.is_away(error):
            raise
    stored = bad = 0
    for row in found:
        try:
            stored += writing.add_rows([row], is_import=True)
        except StoreError as error:
            if database.is_away(error):
                raise
            bad += 1
            log.error("the message %s can't be stored: %s", quoted(row.msg_id), error)
    return stored, bad
