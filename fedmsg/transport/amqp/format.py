# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages as fedora-messaging has them: made of envelopes, and made into envelopes.

The routing key is the topic and the body the content. A header of ours has the rest of the envelope, so that a
signature is valid at the other end. A message without it comes from a program of others.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from fedmsg import _wire, encoding
from fedmsg.exceptions import MessageError

__all__ = ["FOREIGN_USER", "REST", "SENT_AT", "Packed", "envelope_of", "packed", "seconds_of"]

#: The header with the rest of the envelope.
REST = "fedmsg-envelope"
SENT_AT = "sent-at"
SCHEMA, SEVERITY = "fedora_messaging_schema", "fedora_messaging_severity"
#: The user of messages that come from programs of others.
FOREIGN_USER = "amqp-bridge"
#: In bytes: what AMQP allows a routing key and an id, and a header that stays well within a frame.
SHORT_MAX, REST_MAX = 255, 64 * 1024

_SEVERITY_DEFAULT, _SEVERITY_MAX = 20, 100
_DEPTH_MAX = 10
_YEAR = re.compile(r"\d{4}-")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:?\d\d)?")
# What the publishers of this project write, whose content can be cut out as it is; everything else is decoded.
_START = re.compile(rb'\{(?:"certificate":"[^"]*",)?(?:"crypto":"[^"]*",)?"i":\d+,"msg":')
_END = re.compile(
    rb',"msg_id":"([^"\\]{1,255})"((?:,"signature":"[^"]*")?,"timestamp":(\d+)),"topic":"([^"\\]*)"(,"username":"[^"\\]*"\})'
)
_END_MAX = 16 * 1024


class Packed(NamedTuple):
    """A message as it goes to the broker.

    Attributes:
        key: The routing key.
        message_id: The property; None where the envelope has none.
    """

    key: str
    body: bytes
    message_id: str | None
    headers: dict[str, Any]


def packed(topic: bytes, body: bytes) -> Packed:
    """Make a message of the two frames of an envelope.

    Raises:
        MessageError: AMQP has no room for its topic, its id or the rest of its envelope.
    """
    if len(topic) > SHORT_MAX:
        raise MessageError(f"its topic has {len(topic)} bytes, and AMQP allows {SHORT_MAX}", "topic")
    start, end = _START.match(body), None
    at = body.rfind(b',"msg_id":"', max(0, len(body) - _END_MAX))
    if start is not None and at >= start.end():
        end = _END.fullmatch(body, at)
    if start is None or end is None or end[4] != topic:
        return _taken_apart(topic, body)
    # Without the key of the content, and the comma before it.
    rest = body[: start.end() - 7] + end[2] + end[5]
    headers = _headers({}, int(end[3]), rest)
    return Packed(_key(topic), body[start.end() : at], end[1].decode(), headers)


def _taken_apart(topic: bytes, body: bytes) -> Packed:
    """Do the same with an envelope of any kind."""
    envelope = _wire.parse(topic, body)
    rest = {key: value for key, value in envelope.items() if key not in {"msg", "msg_id", "topic"}}
    message_id = envelope.get("msg_id")
    if message_id is not None and not 0 < len(message_id.encode(errors="replace")) <= SHORT_MAX:
        raise MessageError(f"its msg_id is empty or longer than the {SHORT_MAX} bytes that AMQP allows", "envelope")
    headers = envelope.get("headers")
    own = headers if isinstance(headers, dict) else {}
    content, text = encoding.dumps(envelope["msg"]).encode(), encoding.dumps(rest).encode()
    return Packed(_key(topic), content, message_id, _headers(own, envelope.get("timestamp"), text))


def _headers(own: Mapping[str, Any], timestamp: Any, rest: bytes) -> dict[str, Any]:
    """Return the headers; schema and severity are those that the message brings, if it does."""
    if len(rest) > REST_MAX:
        raise MessageError(f"its envelope has {len(rest)} bytes beside 'msg', and {REST_MAX} are allowed", "envelope")
    schema, severity = own.get(SCHEMA), own.get(SEVERITY)
    is_schema = isinstance(schema, str) and 0 < len(schema) <= SHORT_MAX
    is_severity = type(severity) is int and 0 <= severity <= _SEVERITY_MAX
    return {
        SCHEMA: schema if is_schema else "base.message",
        SEVERITY: severity if is_severity else _SEVERITY_DEFAULT,
        SENT_AT: _iso(_whole(timestamp)),
        REST: rest.decode(),
    }


def _key(topic: bytes) -> str:
    try:
        return topic.decode()
    except UnicodeDecodeError as error:
        raise MessageError("it is not UTF-8", "utf-8") from error


def _whole(timestamp: Any) -> int:
    """Return a time as whole seconds; the present for one that no calendar has."""
    if isinstance(timestamp, (int, float)) and 0 <= timestamp < 2**37:
        return int(timestamp)
    return int(time.time())


@lru_cache(maxsize=16)
def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))


# ---------------------------------------------------------------- received


def envelope_of(topic: str, body: bytes, properties: Any, received: float) -> dict[str, Any]:
    """Return the envelope of a message that was received.

    Args:
        topic: The routing key.
        body: The body.
        properties: The properties, as the library has them.
        received: When it was received, in seconds since the epoch.

    Raises:
        MessageError: It is none.
    """
    headers = properties.headers or {}
    _wire.check_topic(topic.encode(errors="replace"))
    content = _wire.decode_value(body)
    if REST in headers:
        return _put_together(topic, content, properties.message_id, headers[REST])
    return _foreign(topic, content, properties, received)


def _put_together(topic: str, content: Any, message_id: Any, rest: Any) -> dict[str, Any]:
    """Return exactly the envelope that was published."""
    text = rest.encode(errors="surrogatepass") if isinstance(rest, str) else rest
    if not isinstance(text, bytes) or len(text) > REST_MAX:
        raise MessageError(f"its header {REST} is no text, or longer than {REST_MAX} bytes", "envelope")
    envelope = _wire.decode_value(text)
    if type(envelope) is not dict or not envelope.keys().isdisjoint(("msg", "msg_id", "topic")):
        raise MessageError(f"its header {REST} is not the rest of an envelope", "envelope")
    envelope["topic"], envelope["msg"] = topic, content
    if message_id is not None:
        envelope["msg_id"] = message_id
    _wire.check_envelope(envelope, topic)
    return envelope


def _foreign(topic: str, content: Any, properties: Any, received: float) -> dict[str, Any]:
    """Return an envelope for a message of a program of others."""
    headers = {str(key): _plain(value) for key, value in (properties.headers or {}).items()}
    if properties.priority is not None:
        headers["priority"] = properties.priority
    seconds = seconds_of(headers.get(SENT_AT))
    if seconds is None:
        stamp = properties.timestamp
        seconds = int(stamp if isinstance(stamp, (int, float)) and 0 <= stamp < 2**37 else received)
    envelope: dict[str, Any] = {
        "topic": topic,
        "msg": content,
        "timestamp": seconds,
        "username": FOREIGN_USER,
        "i": 0,
        "headers": headers,
    }
    message_id = properties.message_id
    if isinstance(message_id, str) and message_id:
        envelope["msg_id"] = message_id if _YEAR.match(message_id) else f"{time.gmtime(seconds).tm_year}-{message_id}"
    _wire.check_envelope(envelope, topic)
    return envelope


def seconds_of(text: Any) -> int | None:
    """Return seconds since the epoch of a time in ISO 8601; UTC where it names no zone."""
    found = _ISO.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        seconds = calendar.timegm(time.strptime(found[1].replace(" ", "T"), "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None
    zone = (found[2] or "Z").replace(":", "")
    if zone != "Z":
        offset = 3600 * int(zone[1:3]) + 60 * int(zone[3:5])
        seconds -= offset if zone[0] == "+" else -offset
    return seconds


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value of a header as JSON has it; what is nested too deeply is left out."""
    if depth > _DEPTH_MAX:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    # The library has a class of its own for long numbers.
    if value is None or isinstance(value, (bool, float, str, int)):
        return int(value) if type(value) is not bool and isinstance(value, int) else value
    return value.isoformat() if isinstance(value, (datetime, date)) else str(value)
