# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes over the wire: a topic frame and an envelope. Built, parsed and rejected here only.

An envelope is a JSON object with ``topic``, ``msg``, ``timestamp``, ``msg_id``, ``i`` and
``username``, and ``crypto``, ``signature``, ``certificate``, ``seq_id`` or ``headers``
where they apply; other keys pass. `encode` returns its canonical bytes, `parse` checks what
was received.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from fedmsg import encoding
from fedmsg.exceptions import MessageError

__all__ = [
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_TOPIC_BYTES",
    "check_envelope",
    "check_size",
    "check_topic",
    "decode_value",
    "encode",
    "encode_new",
    "encode_signed",
    "full_topic",
    "has_duplicate_keys",
    "message_id",
    "parse",
    "parse_stored",
    "quoted",
]

#: How deep an envelope may be nested, itself included.
MAX_DEPTH = 200
#: How many bytes a topic may have: lists of topics, patterns and caches are made for short ones.
MAX_TOPIC_BYTES = 4096
#: How many digits a number may have: Python's own limit for turning them into an int.
MAX_DIGITS = 4300
# A level takes 2 bytes as a list and 5 as a dict: where the length and 3 for each list come to
# no more than this, there is not room enough for too many levels, nor for too many digits.
_FLAT = 5 * MAX_DEPTH


def full_topic(prefix: str, environment: str, modname: str, topic: str) -> str:
    """Put the words of a topic together; one that begins with the prefix stays as it is."""
    words = f"{modname}.{topic}"
    return words if words.startswith(prefix) else f"{prefix}.{environment}.{words}"


# ------------------------------------------------------------------ message ids

# Random bytes are drawn for many ids at once: a system call for each costs more than the id.
_BATCH = 128
_ids: list[str] = []
_year = ""
_year_until = 0.0


def message_id(now: float) -> str:
    """Return a new ``<year>-<uuid4>``; the year is that of local time."""
    global _year, _year_until
    if now >= _year_until or now < _year_until - 900:
        # Every time zone and every change of one falls on a full quarter of an hour.
        _year = f"{time.localtime(now).tm_year}-"
        _year_until = now - now % 900 + 900
    try:
        return _year + _ids.pop()
    except IndexError:
        _ids.extend(_draw())
        return _year + _ids.pop()


def _draw() -> list[str]:
    digits = os.urandom(16 * _BATCH).hex()
    ids = []
    for start in range(0, len(digits), 32):
        d = digits[start : start + 32]
        # RFC 9562: version 4 in the thirteenth digit, the variant in the top bits of the seventeenth.
        ids.append(f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{'89ab'[int(d[16], 16) & 3]}{d[17:20]}-{d[20:]}")
    return ids


# A child must not use the ids that its parent has drawn.
os.register_at_fork(after_in_child=_ids.clear)


# ------------------------------------------------------------------ building


def encode_new(*, i: int, msg: object, msg_id: str, timestamp: int, topic: str, username: str) -> bytes:
    """Return the canonical bytes of an unsigned envelope, as `encode` makes them but faster.

    The id is plain ASCII without quotes, the username a JSON string.
    """
    body = (
        f'{{"i":{i},"msg":{encoding.dumps(msg)},"msg_id":"{msg_id}",'
        f'"timestamp":{timestamp},"topic":{quoted(topic)},"username":{username}}}'
    ).encode()
    if len(body) > _FLAT or len(body) + 3 * body.count(b"[") > _FLAT:
        _check_shape(body)
    return body


def encode_signed(
    *,
    i: int,
    msg: object,
    msg_id: str,
    timestamp: int,
    topic: str,
    username: str,
    crypto: str,
    sign: Callable[[bytes, bytes], Mapping[str, str]],
) -> bytes:
    """Return the canonical bytes of a signed envelope; they are encoded once, for signing and for sending.

    Args as for `encode_new`. ``sign`` takes the canonical envelope without credentials and the canonical
    ``msg``, and returns the ``signature`` and perhaps the ``certificate``.
    """
    text = encoding.canonical(msg)
    # The keys of an envelope are sorted: certificate, crypto, i, msg, msg_id, signature, timestamp ...
    start = f'"crypto":"{crypto}","i":{i},"msg":{text},"msg_id":"{msg_id}",'
    end = f'"timestamp":{timestamp},"topic":{quoted(topic)},"username":{username}}}'
    unsigned = f"{{{start}{end}".encode()
    if len(unsigned) > 2 * MAX_DEPTH:
        _check_shape(unsigned)
    credentials = sign(unsigned, text.encode())
    certificate = f'"certificate":{quoted(credentials["certificate"])},' if "certificate" in credentials else ""
    return f'{{{certificate}{start}"signature":{quoted(credentials["signature"])},{end}'.encode()


def encode(envelope: Mapping[str, Any], topic: str) -> bytes:
    """Return the canonical bytes of any envelope.

    Raises:
        MessageError: A receiver would have to reject it.
    """
    body = encoding.dumps(envelope).encode()
    _check_shape(body)
    check_envelope(envelope, topic)
    return body


def check_size(size: int, limit: int) -> None:
    """Reject what is larger than ``max_message_size``.

    Raises:
        MessageError: It is.
    """
    if size > limit:
        raise MessageError(f"it has {size} bytes, more than max_message_size allows ({limit})", "size")


def check_topic(frame: bytes) -> None:
    """Reject a topic that is too long.

    Raises:
        MessageError: It has more than `MAX_TOPIC_BYTES` bytes.
    """
    if len(frame) > MAX_TOPIC_BYTES:
        raise MessageError(
            f"its topic has {len(frame)} bytes, more than the {MAX_TOPIC_BYTES} that are allowed", "topic"
        )


# ------------------------------------------------------------------ parsing


def parse(frame: bytes, body: bytes) -> dict[str, Any]:
    """Turn the two frames of a received message into its envelope.

    Raises:
        MessageError: It is not an envelope, or not one for this topic; ``kind`` is the reason.
    """
    if len(frame) > MAX_TOPIC_BYTES:
        check_topic(frame)
    try:
        topic = frame.decode()
    except UnicodeDecodeError as error:
        raise MessageError("it is not UTF-8", "utf-8") from error
    envelope = _decode(body)
    check_envelope(envelope, topic)
    return envelope


def parse_stored(body: bytes) -> dict[str, Any]:
    """Turn a message that has no topic frame, as a replay server sends it, into its envelope.

    Raises:
        MessageError: It is not an envelope; ``kind`` is the reason.
    """
    envelope = _decode(body)
    topic = envelope.get("topic")
    if type(topic) is not str:
        raise MessageError("its 'topic' is not text", "topic")
    # No character has more than four bytes.
    if len(topic) > MAX_TOPIC_BYTES // 4:
        check_topic(topic.encode(errors="replace"))
    check_envelope(envelope, topic)
    return envelope


def has_duplicate_keys(body: str | bytes, decoded: Any) -> bool:
    """Return whether a dict in a message has a key twice, of which decoders differ in which one they take.

    To be asked where a signature was checked of what was decoded, and the body goes on as it came.
    """
    canonical = encoding.dumps(decoded)
    # Nearly every body is what a publisher wrote.
    if (canonical if isinstance(body, str) else canonical.encode()) == body:
        return False
    found = False

    def collect(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)

    json.loads(body, object_pairs_hook=collect)
    return found


def decode_value(body: bytes) -> Any:
    """Decode any JSON, after a check that no decoder can be harmed by it.

    Raises:
        MessageError: It is none, or nested too deeply; ``kind`` is the reason.
    """
    if len(body) > _FLAT or len(body) + 3 * body.count(b"[") > _FLAT:
        _check_shape(body)
    try:
        return encoding.decode(body)
    except UnicodeDecodeError as error:
        raise MessageError("it is not UTF-8", "utf-8") from error
    except ValueError as error:
        raise MessageError(f"its body is not JSON: {error}", "json") from error


def _decode(body: bytes) -> dict[str, Any]:
    envelope = decode_value(body)
    if type(envelope) is not dict:
        raise MessageError("its body is not a JSON object", "json")
    return envelope


def check_envelope(envelope: Mapping[str, Any], topic: str) -> None:
    """Check the keys of an envelope.

    Raises:
        MessageError: It is none, or not one for this topic.
    """
    # Nearly all messages have the keys that a publisher sets, with those of a signature or
    # without, and no others: these are recognised by one expression, the rest by the table.
    size = len(envelope)
    try:
        usual = (
            envelope["topic"] == topic
            and type(envelope["timestamp"]) is int
            and type(envelope["msg_id"]) is str
            and type(envelope["i"]) is int
            and type(envelope["username"]) is str
            and "msg" in envelope
            and (
                size == 6
                or (
                    size == 9
                    and type(envelope["crypto"]) is str
                    and type(envelope["signature"]) is str
                    and type(envelope["certificate"]) is str
                )
            )
        )
    except KeyError:
        usual = False
    if not usual:
        _find_fault(envelope, topic)


_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "timestamp": (frozenset({int, float}), "a number"),
    "i": (frozenset({int}), "an integer"),
    "seq_id": (frozenset({int}), "an integer"),
} | {key: (frozenset({str}), "text") for key in ("msg_id", "username", "crypto", "signature", "certificate")}


def _find_fault(envelope: Mapping[str, Any], topic: str) -> None:
    if envelope.get("topic") != topic:
        raise MessageError("the topic of its frame and of its envelope differ", "topic")
    for key, (types, name) in _TYPES.items():
        if key in envelope and type(envelope[key]) not in types:
            raise MessageError(f"its {key!r} is not {name}", "envelope")
    if "msg" not in envelope:
        raise MessageError("it has no 'msg'", "envelope")


# Every digit becomes 0, and of brackets the kind no longer matters.
_SHAPE = bytes.maketrans(b"123456789{}", b"000000000[]")
_TEXTS = re.compile(rb'"[^"]*"')
_TOO_LONG = b"0" * (MAX_DIGITS + 1)
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")
_NO_BRACKETS = bytes(sorted({*range(256)} - {*b"[]"}))
# Of digits that are too many in a row, every 64th byte alone shows this many.
_STEP = 64
_MAYBE_TOO_LONG = b"0" * (MAX_DIGITS // _STEP)
_FEW = 10


def _has_few(body: bytes, bracket: bytes) -> bool:
    """Return whether there are so few of a bracket that a message can't be nested too deeply."""
    at = -1
    # In a large message with few of them, `find` passes over the rest ten times as fast as `count`.
    for _ in range(_FEW):
        if (at := body.find(bracket, at + 1)) < 0:
            return True
    return body.count(bracket) <= MAX_DEPTH // 2


def _check_shape(body: bytes) -> None:
    """Reject, before it is parsed, what could harm a parser."""
    few_levels = _has_few(body, b"[") and _has_few(body, b"{")
    # By find, because `in` tries first whether what it is given is a number.
    if few_levels and body[::_STEP].translate(_SHAPE).find(_MAYBE_TOO_LONG) < 0:
        return
    shape = body.translate(_SHAPE)
    # Something may be wrong: look again without the texts, in which all this is harmless.
    # Escaped backslashes and quotes go first, so that a text ends at the next quote.
    shape = _TEXTS.sub(b"", shape.replace(rb"\\", b"").replace(rb"\"", b""))
    if _TOO_LONG in shape:
        raise MessageError(f"it has a number of more than {MAX_DIGITS} digits", "number")
    # One up for each opening bracket, one down for each closing one: so deep is it after each of them.
    steps = memoryview(shape.translate(_STEPS, _NO_BRACKETS)).cast("b")
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise MessageError(f"it is nested deeper than {MAX_DEPTH}", "depth")
