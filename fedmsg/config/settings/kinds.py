# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of value that a setting may have, and how a configured value becomes one.

Each kind reads a value in two ways. ``strict`` is the reading of ``fedmsg.config.conf``:
what it takes and the words of its errors are those of fedmsg 1.x, which applications
compare. ``loose`` is the reading of ``load_config``: it takes what 1.x worked with
unchecked, and rejects what can't work.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["ADDRESS", "ANYTHING", "BOOLEAN", "ENDPOINTS", "FILE", "FILE_MODE", "FOLDER", "INTEGER", "LINES",
           "MAPPING", "NUMBER", "OUTPUT_FILE", "PATTERN", "POLICY", "RECORDS", "SECONDS", "TEXT", "TEXTS",
           "Kind"]  # fmt: skip

# Not compiled here: that would cost every program, and only --check looks at these.
_TRANSPORT = r"(?:tcp|ipc|inproc|ws|wss|tipc|vmci|pgm|epgm|norm|udp)://.+"
_TCP = r"tcp://(\[[^\]\s]+\]|[^:\[\]\s/]+):(\*|!|\d{1,5})"
_HIGHEST_PORT = 65535
# What the kernel takes for the name of a socket, in bytes.
_LONGEST_IPC_PATH = 107


T_co = TypeVar("T_co", covariant=True)


def _no_faults(value: Any) -> list[str]:  # noqa: ARG001 the signature is that of Kind.faults
    return []


class Kind(Generic[T_co]):
    """A kind of value.

    Attributes:
        name: What to call it, in the documentation and in error messages.
        strict: Reads a value for ``conf``; ValueError carries the reason.
        loose: Reads a value for ``load_config``; ValueError carries the reason.
        fix: What to write instead of a bad value.
        faults: What is wrong in a value that was taken, for ``fedmsg-config --check``.
    """

    def __init__(
        self,
        name: str,
        strict: Callable[[Any], Any],
        loose: Callable[[Any], Any],
        fix: str,
        faults: Callable[[Any], list[str]] = _no_faults,
    ) -> None:
        self.name, self.strict, self.loose, self.fix, self.faults = name, strict, loose, fix, faults


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f'"{value}" is not a boolean value.')
    word = value.strip().lower()
    if word not in {"true", "false"}:
        raise ValueError(f'"{value}" must be a boolean ("True" or "False")')
    return word == "true"


def _loose_boolean(value: Any) -> bool:
    # 1.x never looked at these, and 0 and 1 leave no doubt.
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    return _boolean(value)


def _integer(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if number < 0:
        raise ValueError("Integer must be greater than or equal to zero")
    return number


def _loose_integer(value: Any) -> int:
    # int() would make 0 of a time-out of 0.5.
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} is not a whole number")
    return _integer(value)


def _float(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    # Put so that it is true of NaN, too.
    if not number >= 0:
        raise ValueError("Floating point number must be greater than or equal to zero")
    return number


def _loose_float(value: Any) -> float:
    number = _float(value)
    if math.isinf(number):
        raise ValueError(f"{number} is not a time that ends")
    return number


def _loose_seconds(value: Any) -> int | float:
    number = _loose_float(value)
    return int(number) if number.is_integer() else number


def _instance(wanted: type) -> Callable[[Any], Any]:
    """Make the reader of 1.x for a type: an instance of it, or None."""

    def read(value: Any) -> Any:
        if value is None or isinstance(value, wanted):
            return value
        raise ValueError(f'"{value}" is not "{wanted}"')

    return read


_text, _mapping, _list = _instance(str), _instance(dict), _instance(list)


def _anything(value: Any) -> Any:
    return value


def _loose_list(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, set, frozenset)) else _list(value)


def _loose_texts(value: Any) -> Any:
    texts = _loose_list(value)
    for text in texts or ():
        if not isinstance(text, str):
            raise ValueError(f"{text!r} in the list is not text")
    return texts


def _loose_records(value: Any) -> Any:
    records = _loose_list(value)
    for record in records or ():
        if not isinstance(record, dict):
            raise ValueError(f"{record!r} in the list is not a dict")
    return records


def _text_or_list(value: Any) -> Any:
    return value if isinstance(value, list) else _text(value)


def _loose_text_or_list(value: Any) -> Any:
    return _text(value) if isinstance(value, str) or value is None else _loose_texts(value)


def _pattern(value: Any) -> Any:
    if _text(value) is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"it is not a regular expression: {error}") from error
    return value


def _endpoints(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise ValueError("The 'endpoints' config value must be a dict.")
    found = {}
    for name, addresses in value.items():
        listed = [addresses] if isinstance(addresses, str) else addresses
        if not isinstance(name, str) or not isinstance(listed, (list, tuple, set, frozenset)):
            raise ValueError(f"{name!r}: {addresses!r} is not a name with an address or a list of addresses")
        for address in listed:
            if not isinstance(address, str):
                raise ValueError(f"{address!r} under {name!r} is not an address")
        found[name] = list(listed)
    return found


def _address_faults(value: Any) -> list[str]:
    """Return what is wrong with an address, or with each address of a list."""
    if isinstance(value, (list, tuple)):
        return [fault for one in value for fault in _address_faults(one)]
    fault = _address_fault(value) if isinstance(value, str) else ""
    return [f"{value!r} {fault}"] if fault else []


def _address_fault(address: str) -> str:
    """Return what is wrong with an address, and the cure; nothing when it is in order."""
    transport, separator, rest = address.partition("://")
    if not re.fullmatch(_TRANSPORT, address):
        return f"does not begin with a transport; write 'tcp://{rest if separator else address}'"
    if transport == "tcp" and "," in rest:
        return "has several addresses in one; write a list: ['tcp://host:1234', 'tcp://host:1235']"
    parts = re.fullmatch(_TCP, address) if transport == "tcp" else None
    if transport == "tcp" and (parts is None or (parts[2].isdigit() and int(parts[2]) > _HIGHEST_PORT)):
        return "does not end in a port; write 'tcp://host:1234'"
    if transport == "ipc" and len(rest.encode(errors="replace")) > _LONGEST_IPC_PATH:
        return f"is too long: the path of a socket has at most {_LONGEST_IPC_PATH} bytes; use a shorter one"
    return ""


def _endpoint_faults(value: Any) -> list[str]:
    """Return what is wrong with the addresses under each name."""
    named = value.items() if isinstance(value, dict) else ()
    return [f"{name}: {fault}" for name, addresses in named for fault in _address_faults(addresses)]


def _folder_faults(value: Any) -> list[str]:
    """Return why nothing could be written to a folder, which may have to be made first."""
    if not isinstance(value, str) or not value:
        return []
    there = value
    while not os.path.lexists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there) or "."
    if not os.path.isdir(there):
        return [f"{value!r} can't be a folder: {there} is none; name another one"]
    if not os.access(there, os.W_OK | os.X_OK):
        return [f"{there} can't be written to; run 'chown' or 'chmod' on it, or name another folder"]
    return []


def _file_faults(value: Any) -> list[str]:
    """Return why a file can't be read."""
    if not isinstance(value, str) or not value:
        return []
    if os.access(value, os.R_OK) and not os.path.isdir(value):
        return []
    return [f"{value!r} can't be read; name a file that is there and that this user may read"]


def _output_faults(value: Any) -> list[str]:
    """Return why a file can't be written, which may not be there yet."""
    if not isinstance(value, str) or not value:
        return []
    if os.path.isdir(value):
        return [f"{value!r} is a folder; name a file"]
    folder = os.path.dirname(os.path.abspath(value))
    if not os.path.isdir(folder):
        return [f"{value!r} can't be written: there is no folder {folder}; make it, or name another file"]
    return _folder_faults(folder)


def _mode_faults(value: Any) -> list[str]:
    try:
        fits = value is None or 0 <= int(str(value), 8) <= 0o777
    except ValueError:
        fits = False
    return [] if fits else [f"{value!r} is no octal file mode; write one such as '0770'"]


def _policy(value: Any) -> Any:
    """Read who may send under which topic: text in place of a list would be searched for a part of it."""
    for topic, names in (_mapping(value) or {}).items():
        listed = names if isinstance(names, (list, tuple, set, frozenset)) else [None]
        if not isinstance(topic, str) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"{topic!r}: {names!r} is not a topic with a list of names")
    return value


BOOLEAN: Kind[bool] = Kind("true or false", _boolean, _loose_boolean, "write True or False")
INTEGER: Kind[int] = Kind("whole number", _integer, _loose_integer, "write a whole number")
NUMBER: Kind[float] = Kind("number", _float, _loose_float, "write a number")
SECONDS: Kind[float] = Kind("number", _integer, _loose_seconds, "write a number")
TEXT: Kind[str] = Kind("text", _text, _text, "write text in quotes")
PATTERN: Kind[str] = Kind("regular expression", _text, _pattern, "write a regular expression in quotes")
TEXTS: Kind[list[str]] = Kind("list of texts", _list, _loose_texts, "write a list of texts in quotes")
RECORDS: Kind[list[dict[str, Any]]] = Kind("list of dicts", _list, _loose_records, "write a list of dicts")
MAPPING: Kind[dict[str, Any]] = Kind("dict", _mapping, _mapping, "write a dict")
LINES: Kind[str | list[str]] = Kind("text or list of texts", _text_or_list, _loose_text_or_list,
             "write an address in quotes, or a list of them", _address_faults)  # fmt: skip
PREFIXES: Kind[str | list[str]] = Kind("text or list of texts", _text_or_list, _loose_text_or_list,
             "write a text in quotes, or a list of them")  # fmt: skip
ADDRESS: Kind[str] = Kind("text", _text, _text, "write an address in quotes", _address_faults)
ENDPOINTS: Kind[dict[str, list[str]]] = Kind("dict of names and lists of addresses", _anything, _endpoints,
                 "write a dict of names and lists of addresses", _endpoint_faults)  # fmt: skip
FOLDER: Kind[str] = Kind("text", _text, _text, "write a path in quotes", _folder_faults)
FILE: Kind[str] = Kind("text", _text, _text, "write a path in quotes", _file_faults)
OUTPUT_FILE: Kind[str] = Kind("text", _text, _text, "write a path in quotes", _output_faults)
FILE_MODE: Kind[str] = Kind("text", _text, _text, "write digits in quotes, such as '0770'", _mode_faults)
POLICY: Kind[dict[str, list[str]]] = Kind("dict of topics and lists of names", _policy, _policy,
                                          "write a dict of topics and lists of names")  # fmt: skip
ANYTHING: Kind[Any] = Kind("object", _anything, _anything, "")
