# SPDX-License-Identifier: LGPL-2.1-or-later
"""JSON as it goes over the wire: the same bytes for the same message, everywhere.

What :func:`dumps` returns is both sent and signed, so it is always what Python's own
json module writes, with sorted keys and no spaces. What json can't write is turned into
something it can, in this order:

1. an object with a method ``__json__()``: what that returns,
2. ``datetime`` and ``date``: seconds since the epoch, taken as local time,
3. ``set``: a list,
4. an instance of an SQLAlchemy model: its columns and relationships, see
   :func:`fedmsg.encoding.sqla.to_json`.

Anything else is a TypeError.
"""

from __future__ import annotations

import json
import json.encoder
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from fedmsg._util import plugins
from fedmsg.encoding import _plain
from fedmsg.exceptions import MissingExtra

__all__ = [
    "FedMsgEncoder",
    "canonical",
    "decode",
    "dumps",
    "encoder",
    "loads",
    "pretty_dumps",
    "pretty_encoder",
]

log = logging.getLogger(__name__)

_TOO_DEEP = "nested too deeply"
# A key that may have been a number, a boolean or None.
_ODD_KEY = re.compile(r'"(?:-?\d[\d.e+-]*|true|false|null|NaN|-?Infinity)":')


class FedMsgEncoder(json.JSONEncoder):
    """The json encoder that knows how to write what the json module can't."""

    def default(self, o: Any) -> Any:
        """Turn an object that json can't write into one that it can, or that is turned once more.

        Raises:
            TypeError: There is no way to write this object.
        """
        # Who has a date has loaded datetime; on the way to a first message its 2 ms are saved.
        import datetime as dt

        if hasattr(o, "__json__"):
            return o.__json__()
        if isinstance(o, dt.date):  # a datetime is one too
            return time.mktime(o.timetuple())
        if isinstance(o, time.struct_time):
            return time.mktime(o)
        if isinstance(o, set):
            return list(o)
        if _is_model(o):
            return plugins.lazy("sqla").to_json(o)
        return super().default(o)


def _is_model(obj: Any) -> bool:
    """Return whether a class is mapped by SQLAlchemy, without ever importing SQLAlchemy."""
    mapper = vars(type(obj)).get("__mapper__")
    orm = sys.modules.get("sqlalchemy.orm")
    return mapper is not None and orm is not None and isinstance(mapper, orm.Mapper)


encoder = FedMsgEncoder(sort_keys=True, separators=(",", ":"))
pretty_encoder = FedMsgEncoder(indent=2)


def _make_chunks() -> Callable[[Any, int], Iterable[str]]:
    """Build once what ``encoder.encode`` builds for every call: the C encoder.

    It is also built without the table in which json looks for circular structures. Both
    together save a third of the time for a message. A circular structure then ends in a
    RecursionError, see :func:`dumps`.
    """
    make: Callable[..., Any] | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return lambda obj, _level: encoder.iterencode(obj)
    escape = json.encoder.encode_basestring_ascii
    markers, indent, sort_keys, skip_keys, allow_nan = None, None, True, False, True
    chunks: Callable[[Any, int], Iterable[str]] = make(
        markers, encoder.default, escape, indent, ":", ",", sort_keys, skip_keys, allow_nan
    )
    return chunks


_chunks = _make_chunks()


def dumps(o: Any) -> str:
    """Write an object as canonical JSON, what is sent and what is signed: ASCII, sorted keys, no white space.

    Raises:
        TypeError: It contains something that can't be written, or keys that can't be sorted.
        ValueError: It is circular, nested too deeply, or has a number of over 4,300 digits.
    """
    try:
        return "".join(_chunks(o, 0))
    except RecursionError:
        # Circular, or only deep? The encoder that looks for circles finds out.
        return _encode(encoder, o)


def canonical(o: Any) -> str:
    """Write an object as the canonical JSON of what a receiver makes of it: what is signed.

    That is what `dumps` writes, but for dicts with keys that are not text: they are sorted as the text
    that they become on the wire, ``{"10": 1, "9": 2}``, and not as the numbers that they are here.

    Raises:
        TypeError: As for `dumps`.
        ValueError: As for `dumps`.
    """
    text = dumps(o)
    return dumps(loads(text)) if _ODD_KEY.search(text) else text


def pretty_dumps(o: Any) -> str:
    """Write an object as JSON for people: indented by two, keys in their own order.

    Raises:
        TypeError: It contains something that can't be written.
        ValueError: It is circular, nested too deeply, or has a number of over 4,300 digits.
    """
    return _encode(pretty_encoder, o)


def _encode(with_encoder: FedMsgEncoder, obj: Any) -> str:
    """Encode the way that finds circles, and name the other reason for running out of stack."""
    try:
        return with_encoder.encode(obj)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def loads(s: str | bytes | bytearray, **kw: Any) -> Any:
    """Read JSON, exactly as ``json.loads`` does, faster where the ``speed`` extra is installed.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    if kw or not isinstance(s, (str, bytes)):
        return _loads(s, **kw)
    try:
        return decode(s.encode() if isinstance(s, str) else s)
    except ValueError:
        # No JSON, or in another encoding, or with lone surrogates: json knows the difference.
        return _loads(s)


def _loads(s: str | bytes | bytearray, **kw: Any) -> Any:
    """Read with the module json; name the reason when the stack runs out."""
    try:
        return json.loads(s, **kw)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def decode(body: bytes) -> Any:
    """Read JSON that must be UTF-8, as quickly as it can be done: for received messages.

    There may be no byte order mark. The result is what ``json.loads`` makes of it, whichever decoder does the work.

    Raises:
        ValueError: It is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return _decode(body)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def _choose() -> None:
    """Decide at the first message how all are decoded: a program that only publishes never loads orjson."""
    global _decode
    try:
        speed = plugins.lazy("speed")
    except ImportError as error:
        _decode = _plain.decode
        if not isinstance(error, MissingExtra):  # installed, but not for this Python, or too old
            log.warning("Decoding with Python's json: %s", error)
    else:
        _decode = speed.decode


def _decode_first(body: bytes) -> Any:
    _choose()
    return _decode(body)


_decode: Callable[[bytes], Any] = _decode_first


def __getattr__(name: str) -> ModuleType:
    """Return ``fedmsg.encoding.sqla``, which needs not be imported by name."""
    if name == "sqla":
        return plugins.lazy(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
