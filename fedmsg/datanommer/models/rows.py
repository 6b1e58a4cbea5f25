# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns messages into rows, and rows back into the envelopes that were signed."""

from __future__ import annotations

import datetime as dt
import logging
import math
import time
import uuid
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import fedmsg.config
from fedmsg import encoding, meta
from fedmsg._util.text import quoted
from fedmsg.datanommer.models import values
from fedmsg.exceptions import MessageError

__all__ = [
    "COLUMNS",
    "SOURCE_NAME",
    "Row",
    "as_time",
    "envelope_of",
    "row_of",
    "seconds",
    "source_version",
    "storable_names",
    "time_or_arrival",
]

log = logging.getLogger("fedmsg.datanommer")

SOURCE_NAME = "datanommer"

_UTC = dt.timezone.utc
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 the columns are in UTC and have no zone
_EARLIEST = dt.datetime(2000, 1, 1, tzinfo=_UTC).timestamp()
_FUTURE_SECONDS = 86400.0
_INT64 = 2**63
_TEXTS = frozenset({"username", "crypto", "signature", "certificate"})


class Row(NamedTuple):
    """A message as the columns have it; those that the writer assigns come with `COLUMNS`."""

    msg_id: str
    i: int | None
    topic: str
    timestamp: dt.datetime
    certificate: str | None
    signature: str | None
    category: str
    username: str | None
    agent_name: str | None
    crypto: str | None
    source_name: str
    source_version: str
    msg: str
    headers: str | None
    seq_id: int | None
    original: str | None
    is_time_of_arrival: bool
    users: frozenset[str]
    packages: frozenset[str]


Names = tuple[frozenset[str], frozenset[str], Any]

#: The columns of a row, in order; the rest of it is for other tables.
COLUMNS = Row._fields[:-2]


def as_time(moment: float | dt.datetime) -> dt.datetime:
    """Return a time as the columns have it: in UTC, without a zone; a time without a zone is in UTC."""
    if isinstance(moment, dt.datetime):
        return moment.astimezone(_UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return _EPOCH + dt.timedelta(seconds=moment)


def seconds(moment: dt.datetime) -> float:
    """Return a time of a column as seconds since the epoch."""
    return moment.replace(tzinfo=_UTC).timestamp()


_version: str | None = None


def source_version() -> str:
    """Return the version of the distribution, which is stored with each message."""
    global _version
    if _version is None:
        _version = metadata.version("fedmsg")
    return _version


def row_of(message: Mapping[str, Any], config: Mapping[str, Any], *, names: Names | None = None) -> Row:
    """Turn what a consumer receives into a row.

    Args:
        message: ``body`` is the envelope; ``topic``, ``headers`` and ``stored`` may be there.
        config: For `fedmsg.meta`.
        names: The users and packages that it is about, and who did it, where they are known.

    Raises:
        MessageError: It can't be stored.
    """
    envelope = message.get("body")
    if not isinstance(envelope, dict):
        raise MessageError("its body is not an envelope", "envelope")
    topic = envelope.get("topic", message.get("topic"))
    if not isinstance(topic, str):
        raise MessageError("its 'topic' is not text", "topic")
    try:
        return _row(message, envelope, topic, _names(envelope, config) if names is None else names)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MessageError(f"it can't be written as JSON: {error}", "json") from error


def _row(message: Mapping[str, Any], envelope: dict[str, Any], topic: str, names: Names) -> Row:
    arrival = _arrival(message.get("stored"))
    timestamp, is_arrival = _timestamp(envelope.get("timestamp"), arrival)
    text = encoding.dumps(envelope.get("msg"))
    is_kept = values.is_kept_by_jsonb(text, envelope.get("msg"))
    transported = message.get("headers")
    transported = transported if isinstance(transported, dict) else {}
    own_headers = envelope.get("headers")
    headers = own_headers if "headers" in envelope or envelope.get("signature") else transported
    users, packages, agent = names
    row = Row(
        msg_id=values.indexed_text(_msg_id(envelope, transported, topic, timestamp)) or "",
        i=_integer(envelope.get("i")),
        topic=values.indexed_text(topic) or "",
        timestamp=timestamp,
        certificate=values.column_text(envelope.get("certificate")),
        signature=values.column_text(envelope.get("signature")),
        category=values.indexed_text(values.category_of(topic)) or "",
        username=values.indexed_text(envelope.get("username")),
        agent_name=values.indexed_text(agent),
        crypto=values.column_text(envelope.get("crypto")),
        source_name=SOURCE_NAME,
        source_version=source_version(),
        msg=text if is_kept else encoding.dumps(values.storable(envelope.get("msg"))),
        headers=encoding.dumps(values.storable(headers)) if headers else None,
        seq_id=_integer(envelope.get("seq_id")),
        original=None,
        is_time_of_arrival=is_arrival,
        users=users,
        packages=packages,
    )
    if is_kept and not is_arrival and _gives_back(row, envelope):
        return row
    return row._replace(original=encoding.canonical(envelope))


def _gives_back(row: Row, envelope: Mapping[str, Any]) -> bool:
    """Return whether the columns hold all of an envelope, its ``msg`` left aside."""
    for key, value in envelope.items():
        if key == "timestamp":
            # A float that stands for a whole second looks the same in the column.
            same = type(value) is int or (value == seconds(row.timestamp) and not value.is_integer())
        elif key == "headers":
            text = row.headers and encoding.dumps(value)
            same = bool(text) and text == row.headers and values.is_kept_by_jsonb(text or "", value)
        elif key in {"i", "seq_id"}:
            same = type(value) is int and value == getattr(row, key)
        elif key in _TEXTS or key in {"topic", "msg_id"}:
            same = value == getattr(row, key)
        else:
            same = key == "msg"
        if not same:
            return False
    return "topic" in envelope and "msg" in envelope


def _arrival(stored: Any) -> float:
    is_known = isinstance(stored, (int, float)) and math.isfinite(stored)
    return float(stored) if is_known else time.time()


def time_or_arrival(value: Any, arrival: float) -> float:
    """Return the time that a message says, in seconds since the epoch; that of its arrival, where that can't be."""
    if type(value) in {int, float} and _EARLIEST <= value <= arrival + _FUTURE_SECONDS:
        return value  # type: ignore[no-any-return] # it is a number
    return arrival


def _timestamp(value: Any, arrival: float) -> tuple[dt.datetime, bool]:
    """Return a timestamp, or else the time of arrival, and whether it is that."""
    found = time_or_arrival(value, arrival)
    return as_time(found), found is not value


def _integer(value: Any) -> int | None:
    return value if type(value) is int and -_INT64 <= value < _INT64 else None


def _msg_id(envelope: Mapping[str, Any], headers: Mapping[str, Any], topic: str, timestamp: dt.datetime) -> str:
    """Return the id of a message; one that has none gets the same at each arrival."""
    for found in (envelope.get("msg_id"), headers.get("message-id")):
        if isinstance(found, str) and found:
            return found
    content = f"{topic}\n{encoding.canonical(dict(envelope))}"
    return f"{timestamp.year}-{uuid.uuid5(uuid.NAMESPACE_URL, content)}"


def _names(envelope: Mapping[str, Any], config: Mapping[str, Any]) -> Names:
    """Return the users and packages that a message is about, and who did it."""
    users, packages, agent = meta.names(envelope, config)
    topic = envelope.get("topic")
    return storable_names(users, topic), storable_names(packages, topic), agent


def storable_names(names: Iterable[Any], topic: Any = None) -> frozenset[str]:
    """Return names for the database; what is none is left out, and logged."""
    if not names:
        return frozenset()
    found = frozenset(name for one in names if (name := values.indexed_text(one)))
    if any(not isinstance(one, str) for one in names):
        log.info("a plugin for %s has named a user or package that has no name: it is left out", quoted(str(topic)))
    return found


def configuration() -> Mapping[str, Any]:
    """Return the configuration for `fedmsg.meta`, with its processors loaded."""
    config = fedmsg.config.load_config()
    if not meta.processors:
        meta.make_processors(**config)
    return config


def envelope_of(original: str, columns: dict[str, Any]) -> dict[str, Any]:
    """Return what history hands out of a message whose columns don't hold all of it."""
    found = encoding.loads(original)
    # These two say where it comes from, and what a message says itself does not count.
    found = {key: value for key, value in found.items() if key not in {"source_name", "source_version"}}
    timestamp = found.pop("timestamp", None)
    if type(timestamp) in {int, float} and abs(timestamp) < _INT64:
        columns["timestamp"] = float(timestamp)
    return {**columns, "headers": None, **found}
