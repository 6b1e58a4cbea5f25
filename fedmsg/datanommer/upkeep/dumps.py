# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads messages out of files: what a dump wrote, ours or that of datanommer 1.x, and what fedmsg-tail printed."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from fedmsg import encoding
from fedmsg.datanommer.models import rows
from fedmsg.datanommer.models.rows import Row
from fedmsg.exceptions import MessageError

__all__ = ["message_of", "row_of", "values_in"]

_CHUNK = 1024 * 1024
# The longest value that is read: a message may have 16 MiB, and a few more in another notation.
_VALUE_MAX = 64 * 1024 * 1024
_BETWEEN = re.compile(r"[\s,\[\]]*")
# What a publisher leaves out where there is nothing.
_OPTIONAL = frozenset({"certificate", "crypto", "headers", "i", "signature", "username"})
_TAGS = frozenset({"source_name", "source_version", "original", "stored"})


def values_in(file: IO[str]) -> Iterator[Any]:
    """Yield the values of a JSON array or of lines of JSON, in constant memory.

    Raises:
        ValueError: It is something else, from some place on.
    """
    decoder = json.JSONDecoder()
    text, start, is_over = "", 0, False
    while True:
        found = _BETWEEN.match(text, start)
        assert found is not None
        start = found.end()
        if start < len(text):
            if text[start] != "{":
                raise ValueError(f"no message begins with {text[start : start + 20]!r}")
            try:
                value, start = decoder.raw_decode(text, start)
            except RecursionError as error:
                raise ValueError("a message is nested too deeply") from error
            except ValueError:
                if is_over or len(text) - start > _VALUE_MAX:
                    raise
            else:
                yield value
                continue
        elif is_over:
            return
        # Twice as much each time, so that a long value is not read from its beginning too often.
        more = file.read(max(_CHUNK, len(text) - start))
        is_over = not more
        text, start = text[start:] + more, 0


def message_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `fedmsg.datanommer.models.add_many` gets for a record of a file.

    Raises:
        MessageError: It is no message.
    """
    if not isinstance(record, dict) or not isinstance(record.get("topic"), str):
        raise MessageError("it has no topic", "topic")
    if "msg" not in record and "body" in record and "id" in record:
        return _of_fedora_messaging(record)
    original = record.get("original")
    stored = record.get("stored")
    if isinstance(original, str):
        return {"topic": record["topic"], "body": encoding.loads(original), "stored": stored}
    if "msg" not in record:
        raise MessageError("it has no 'msg'", "envelope")
    if "source_name" not in record:
        # As it was published.
        return {"topic": record["topic"], "body": dict(record), "stored": stored}
    envelope = {key: value for key, value in record.items() if key not in _TAGS}
    for key in _OPTIONAL:
        if envelope.get(key) is None or envelope[key] == {}:
            envelope.pop(key, None)
    if isinstance(when := envelope.get("timestamp"), float) and when.is_integer():
        envelope["timestamp"] = int(when)
    return {"topic": record["topic"], "body": envelope, "stored": stored}


def _of_fedora_messaging(record: Mapping[str, Any]) -> dict[str, Any]:
    headers = record.get("headers")
    headers = headers if isinstance(headers, dict) else {}
    envelope = {"topic": record["topic"], "msg": record["body"], "msg_id": record["id"]}
    when = _seconds(headers.get("sent-at"))
    if when is not None:
        envelope["timestamp"] = int(when) if when.is_integer() else when
    return {"topic": record["topic"], "body": envelope, "headers": headers}


def _seconds(text: Any) -> float | None:
    try:
        moment = dt.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", str(text)))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()


def row_of(record: Mapping[str, Any], config: Mapping[str, Any]) -> Row:
    """Return a record of a file as a row.

    Raises:
        MessageError: It can't be stored.
    """
    row = rows.row_of(message_of(record), config)
    name, version = record.get("source_name"), record.get("source_version")
    if isinstance(name, str):
        row = row._replace(source_name=name, source_version=version if isinstance(version, str) else "")
    return row


def batches(found: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield items, so many at a time."""
    batch: list[Any] = []
    for one in found:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
