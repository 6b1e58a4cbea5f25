# SPDX-License-Identifier: LGPL-2.1-or-later
"""The frames of the stream: how both sides of both ports write and read them.

Every message is ``[b"FM1", KIND, …]``. A number is 8 bytes, big-endian; options are a JSON object, of
which unknown keys are ignored; so are messages of an unknown kind. First the client sends ``HELLO``
and the relay answers ``WELCOME``; after that both send ``PING`` when they have nothing else to send,
and answer it with ``PONG``. A side that has sent nothing for `SILENCE_MAX` seconds is dead.

=================  ======================================================  ==========================================
kind               frames                                                  meaning
=================  ======================================================  ==========================================
``HELLO``          options: ``client``, a random id;                       a second one replaces the first
                   ``many``, whether it knows ``MSGS``, ``OKS``;
                   ``max_message_size``
``WELCOME``        options: ``stream``, ``first``, ``newest``,             the stream that the relay has
                   ``heartbeat``, ``max_message_size``;
                   ``many``, whether it knows ``PUBS``
``PING, PONG``     none
``OPEN``           options: ``topics``, ``durable``, and at most one of    begin; what was open before is closed
                   ``after``, ``since``, ``last``; ``resume``
``CREDIT``         messages, bytes                                         the first one after ``OPEN`` is the window,
                                                                           later ones return what was handled
``ACK``            position                                                moves the cursor of a durable subscription
``CLOSE``          none                                                    end of the subscription
``OPENED``         options: ``position``, of the last message before       the answer to ``OPEN``
``MSG``            position, previous, stored, topic, body                 stored: microseconds since the epoch
``MSGS``           numbers of each message, topics and bodies              many ``MSG``, to who has asked for them
``AT``             position                                                everything up to here was looked at
``LARGE``          position, size                                          this one is above ``max_message_size``
``LOST``           first, last                                             retention has removed these
``WAIT``           options: ``address`` of the other reader                another reader has the name
``NO``             options: ``code``, ``reason``                           the answer to ``OPEN`` or ``HELLO``
``INFO``           id                                                      asks for figures
``SUBSCRIPTIONS``  id, options: ``after``, a name, or ``name``             asks for durable names: a page, or one
``GET``            id, options: ``position`` or ``msg_id``                 asks for one message
``ANSWER``         id, options, topic, body                                the last two are empty but for ``GET``
``PUB``            id, options: ``via``, ``again``; topic, body            store this and confirm it (confirmed port)
``OK``             id, position                                            it is on disk; 0: it has been here before
``PUBS``           id and lengths of each message, topics and bodies       many ``PUB`` without options
``OKS``            ids and positions                                       many ``OK``, to who has asked for them
``NO``             id, options: ``code``, ``reason``, ``retry``            it is not; with ``retry`` begin again
=================  ======================================================  ==========================================

``resume`` marks that ``after`` is where this reader has come to: what is gone after position 0 was lost,
and a durable name goes on there if its cursor is behind it. The codes of ``NO`` and of an ``ANSWER`` with
an error are the constants ``CODE_…``. All numbers are below 2**63.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.exceptions import MessageError
from fedmsg.stream.records import Entry

__all__ = [
    "Malformed",
    "Message",
    "credit_of",
    "decode",
    "encode",
    "is_stream",
    "number",
    "read_number",
    "read_options",
    "text_of",
]

VERSION = b"FM1"

HELLO, WELCOME, PING, PONG = b"HELLO", b"WELCOME", b"PING", b"PONG"
OPEN, CREDIT, ACK, CLOSE = b"OPEN", b"CREDIT", b"ACK", b"CLOSE"
OPENED, MSG, AT, LOST, WAIT, NO = b"OPENED", b"MSG", b"AT", b"LOST", b"WAIT", b"NO"
MSGS, LARGE = b"MSGS", b"LARGE"
INFO, SUBSCRIPTIONS, GET, ANSWER = b"INFO", b"SUBSCRIPTIONS", b"GET", b"ANSWER"
PUB, OK = b"PUB", b"OK"
PUBS, OKS = b"PUBS", b"OKS"

#: The query or the start makes no sense.
CODE_BAD = "bad"
#: The position is beyond the newest one, the ``msg_id`` is not known, or the message is gone.
CODE_GONE = "gone"
#: There are as many durable names as there may be.
CODE_FULL = "full"
#: There are too many clients or requests: try again.
CODE_BUSY = "busy"
#: The relay does not know this client (any more): begin with ``HELLO``.
CODE_HELLO = "hello"
#: The store can't be read at the moment.
CODE_STORE = "store"

#: The message is not well formed, not validly signed, or too large.
CODE_REJECTED = "rejected"

#: Seconds between two signs of life, and without any after which a side is dead.
HEARTBEAT = 2.0
SILENCE_MAX = 8.0
#: How many frames a message may have.
FRAMES_MAX = 7
#: How long a name and an id may be, in bytes.
NAME_BYTES_MAX = 255
ID_BYTES_MAX = 64
_OPTIONS_BYTES_MAX = 1024 * 1024
_NUMBER_MAX = 2**63 - 1

_NUMBER = struct.Struct(">Q")
NUMBER_BYTES = _NUMBER.size
# Position, previous, stored; length of the topic and of the body. Id, and the same. Id and position.
_ROW = struct.Struct(">QQQII")
_PUB_ROW = struct.Struct(">QII")
_OK_ROW = struct.Struct(">QQ")
#: So many messages, or answers, are one at most; and so many bytes of topics and bodies, or one message.
MANY_MAX = 200
MANY_BYTES = 60_000
MANY_BYTES_MIN = 1_024

#: A message of a stream: position, previous, stored in microseconds, topic, body.
Row = tuple[int, int, int, bytes, bytes]

_FIELDS: dict[bytes, str] = {
    HELLO: "o", WELCOME: "o", PING: "", PONG: "",
    OPEN: "o", CREDIT: "nn", ACK: "n", CLOSE: "",
    OPENED: "o", MSG: "nnnbb", MSGS: "bb", LARGE: "nn", AT: "n", LOST: "nn", WAIT: "o", NO: "o",
    INFO: "b", SUBSCRIPTIONS: "bo", GET: "bo", ANSWER: "bobb",
    PUB: "bobb", OK: "bn", PUBS: "bb", OKS: "b",
}  # fmt: skip
# The answer to ``PUB``, which has an id.
_NO_WITH_ID = "bo"


class Malformed(MessageError):
    """Frames that are no message of this protocol."""


class Message(NamedTuple):
    """A message: its kind, and what its frames hold: numbers, options and bytes."""

    kind: bytes
    fields: tuple[Any, ...]


# ---------------------------------------------------------------- frames


def number(value: int) -> bytes:
    """Return a number as it goes over the wire."""
    return _NUMBER.pack(value)


def read_number(frame: bytes) -> int:
    """Return the number in a frame.

    Raises:
        Malformed: It is not a number.
    """
    if len(frame) != _NUMBER.size:
        raise Malformed(f"a number has {len(frame)} bytes instead of {_NUMBER.size}")
    value: int = _NUMBER.unpack(frame)[0]
    if value > _NUMBER_MAX:
        raise Malformed("a number is too large")
    return value


def read_options(frame: bytes) -> dict[str, Any]:
    """Return the options in a frame.

    Raises:
        Malformed: It is not a JSON object.
    """
    if len(frame) > _OPTIONS_BYTES_MAX:
        raise Malformed("options are too long")
    try:
        options = encoding.decode(frame)
    except ValueError as error:
        raise Malformed("options are not JSON") from error
    if not isinstance(options, dict):
        raise Malformed("options are not a JSON object")
    return options


def encode(kind: bytes, *fields: Any) -> list[bytes]:
    """Return the frames of a message."""
    frames = [VERSION, kind]
    for form, value in zip(_forms(kind, len(fields)) or "", fields, strict=True):
        if form == "n":
            frames.append(number(value))
        elif form == "o":
            frames.append(encoding.dumps(value).encode())
        else:
            frames.append(value)
    return frames


def encode_one(previous: int, entry: Entry) -> list[bytes]:
    """Return the frames of the ``MSG`` of a message that comes after ``previous``."""
    return encode(MSG, entry.position, previous, _microseconds(entry.stored), entry.topic, entry.body)


def encode_many(previous: int, entries: Iterable[Entry]) -> list[bytes]:
    """Return the frames of the ``MSGS`` of messages that come after ``previous``."""
    numbers: list[bytes] = []
    content: list[bytes] = []
    pack = _ROW.pack
    time, stamp = -1.0, 0
    for position, stored, topic, body, _ in entries:
        if stored != time:
            # Messages that came together have the same.
            time, stamp = stored, _microseconds(stored)
        numbers.append(pack(position, previous, stamp, len(topic), len(body)))
        content += (topic, body)
        previous = position
    return [VERSION, MSGS, b"".join(numbers), b"".join(content)]


def decode_many(numbers: bytes, content: bytes) -> list[Row]:
    """Return the messages in a ``MSGS``.

    Raises:
        Malformed: The two do not belong together, or there are too many, or a number is too large.
    """
    found: list[Row] = []
    at = 0
    for position, previous, stored, topic_length, body_length in _rows(_ROW, 3, numbers, content):
        middle = at + topic_length
        at = middle + body_length
        found.append((position, previous, stored, content[middle - topic_length : middle], content[middle:at]))
    return found


def encode_pubs(messages: Sequence[tuple[int, bytes, bytes]]) -> list[bytes]:
    """Return the frames of a ``PUBS``, of ids, topics and bodies."""
    numbers = [_PUB_ROW.pack(id_, len(topic), len(body)) for id_, topic, body in messages]
    return [VERSION, PUBS, b"".join(numbers), b"".join([part for one in messages for part in one[1:]])]


def decode_pubs(numbers: bytes, content: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Return the messages in a ``PUBS``: id, topic, body.

    Raises:
        Malformed: The two do not belong together, or there are too many, or a number is too large.
    """
    rows = _rows(_PUB_ROW, 1, numbers, content)
    return ((number(row[0]), topic, body) for row, topic, body in _split(rows, content))


def encode_oks(answers: Sequence[tuple[bytes, int]]) -> list[bytes]:
    """Return the frames of an ``OKS``, of ids and positions."""
    return [VERSION, OKS, b"".join([id_ + number(position) for id_, position in answers])]


def decode_oks(numbers: bytes) -> Iterator[tuple[int, int]]:
    """Return the ids and positions in an ``OKS``.

    Raises:
        Malformed: They are cut off, too many, or too large.
    """
    _check_rows(_OK_ROW, 2, numbers)
    return _OK_ROW.iter_unpack(numbers)


def _check_rows(form: struct.Struct, large: int, numbers: bytes) -> None:
    """Check how many rows there are, each of which begins with so many numbers of 8 bytes.

    Raises:
        Malformed: They are cut off, too many, or too large.
    """
    if len(numbers) % form.size or len(numbers) > MANY_MAX * form.size:
        raise Malformed(f"there are {len(numbers)} bytes of numbers instead of {form.size} for each of few messages")
    # The highest bit of each: to look at the numbers one by one would cost more than to read them.
    if any(max(numbers[8 * place :: form.size], default=0) & 0x80 for place in range(large)):
        raise Malformed("a number is too large")


def _rows(form: struct.Struct, large: int, numbers: bytes, content: bytes) -> list[tuple[int, ...]]:
    _check_rows(form, large, numbers)
    rows = list(form.iter_unpack(numbers))
    if sum([row[-2] + row[-1] for row in rows]) != len(content):
        raise Malformed("the lengths of the messages are not that of their content")
    return rows


def _split(rows: Iterable[tuple[int, ...]], content: bytes) -> Iterator[tuple[tuple[int, ...], bytes, bytes]]:
    at = 0
    for row in rows:
        middle = at + row[-2]
        end = middle + row[-1]
        yield row, content[at:middle], content[middle:end]
        at = end


def decode(frames: Sequence[bytes]) -> Message | None:
    """Return the message in some frames; None where its kind is not known.

    Raises:
        Malformed: It is no message.
    """
    if len(frames) < 2 or frames[0] != VERSION:
        raise Malformed("it does not begin like a message of the stream")
    kind = frames[1]
    forms = _forms(kind, len(frames) - 2)
    if forms is None:
        return None
    if len(frames) != len(forms) + 2:
        raise Malformed(f"{kind.decode()} has {len(frames)} frames instead of {len(forms) + 2}")
    return Message(kind, tuple([_READERS[form](frame) for form, frame in zip(forms, frames[2:], strict=True)]))


def _forms(kind: bytes, count: int) -> str | None:
    return _NO_WITH_ID if kind == NO and count == len(_NO_WITH_ID) else _FIELDS.get(kind)


def _as_it_is(frame: bytes) -> bytes:
    return frame


_READERS = {"n": read_number, "o": read_options, "b": _as_it_is}


def _microseconds(seconds: float) -> int:
    """Return a time as ``MSG`` has it."""
    return max(0, round(seconds * 1_000_000))


def size_max_of(options: Mapping[str, Any]) -> int:
    """Return the size above which the other side rejects messages; 0 where it has not said."""
    limit = options.get("max_message_size")
    return limit if type(limit) is int and limit > 0 else 0


def many_of(options: Mapping[str, Any]) -> int:
    """Return how many bytes of topics and bodies the other side takes in one message; 0 where it takes single ones.

    Its ``max_message_size`` is the limit: a frame that is much larger would end the connection.
    """
    size = min(MANY_BYTES, size_max_of(options) or MANY_BYTES)
    # With less there is no room for the numbers of many either.
    return size if options.get("many") is True and size >= MANY_BYTES_MIN else 0


def fit_into(size: int) -> int:
    """Return how many messages there may be in one of so many bytes, for their numbers are a frame as well."""
    return min(MANY_MAX, size // _ROW.size) or 1


def credit_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many messages and bytes may be in flight to a client of this configuration."""
    return settings.get(config, "stream_credit"), settings.get(config, "stream_credit_bytes")


def is_stream(value: str) -> bool:
    """Return whether a text may be the id of a stream: letters and digits, which any database can store."""
    return len(value) <= ID_BYTES_MAX and value.isascii() and value.isalnum()


def text_of(options: Mapping[str, Any], key: str, limit: int = ID_BYTES_MAX) -> str:
    """Return a short text in options; an empty one where there is none.

    Raises:
        Malformed: It is no text, or too long, or not printable.
    """
    value = options.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable() or len(value.encode(errors="replace")) > limit:
        raise Malformed(f"{key} is no short text")
    return value
