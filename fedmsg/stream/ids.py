# SPDX-License-Identifier: LGPL-2.1-or-later
"""What identifies a message: its ``msg_id`` with the SHA-256 of its bytes, found without parsing where possible.

An entry is 32 bytes: 8 of the key (a digest of the ``msg_id``), 8 of the position, 16 of the digest.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from hashlib import sha256
from itertools import takewhile

from fedmsg import encoding

__all__ = [
    "ENTRY",
    "RecentIds",
    "first_position",
    "identify",
    "key_of",
    "last_position",
    "make_entry",
    "msg_id_of",
    "newest_of",
    "split",
    "timestamp_of",
    "with_key",
]

#: The bytes of an entry.
ENTRY = 32

# Messages may come with one id and other bytes, and as many as a publisher likes: of a key the memory has so many.
_MOST_OF_A_KEY = 16

_KEY = b'"msg_id":"'
_NAME = b'"msg_id"'
_TIMESTAMP = re.compile(rb'"timestamp" ?: ?(\d{1,15}(?:\.\d{1,20})?)')
_POSITION = struct.Struct(">q")

make_entry = struct.Struct(">8sq16s").pack


def key_of(msg_id: bytes) -> bytes:
    """Return the 8 bytes by which a message is looked up."""
    return sha256(msg_id).digest()[:8]


def identify(topic: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return the key of a message and the SHA-256 of length of the topic, topic and body.

    Without ``msg_id`` the key comes from the digest.
    """
    digest = sha256(b"%d:%b%b" % (len(topic), topic, body)).digest()
    msg_id = msg_id_of(body)
    return (digest[24:] if msg_id is None else sha256(msg_id).digest()[:8]), digest


def msg_id_of(body: bytes) -> bytes | None:
    """Return the ``msg_id`` of an envelope in UTF-8; None where it has none.

    The body is parsed only where the text alone does not show it: the key is there twice, lies deeper
    than the envelope, or its value has an escape.
    """
    start = body.find(_KEY)
    if start >= 0:
        end = body.find(b'"', start + 10)
        found = body[start + 10 : end]
        if (
            end > 0
            and body[:1] == b"{"
            and b"\\" not in found
            and body.count(_NAME) == 1
            and body.count(b"{", 0, start) - body.count(b"}", 0, start) == 1
        ):
            return found
    elif _NAME not in body and b"\\u00" not in body:
        return None
    return _parsed(body)


def _parsed(body: bytes) -> bytes | None:
    try:
        envelope = encoding.loads(body)
    except (ValueError, RecursionError):
        return None
    found = envelope.get("msg_id") if isinstance(envelope, dict) else None
    return found.encode("utf-8", "surrogatepass") if isinstance(found, str) else None


def timestamp_of(body: bytes) -> float:
    """Return the time in an envelope, as its last ``timestamp`` shows it; infinity where there is none."""
    start = body.rfind(b'"timestamp"')
    found = _TIMESTAMP.match(body, start) if start >= 0 else None
    return float(found[1]) if found else math.inf


def split(entries: bytes) -> Iterator[bytes]:
    """Yield the single entries of several."""
    for start in range(0, len(entries), ENTRY):
        yield entries[start : start + ENTRY]


def first_position(entries: bytes, key: bytes, digest: bytes) -> int | None:
    """Return the first position of a message among entries of many keys, of which there may be very many."""
    wanted = digest[:16]
    start = entries.find(wanted)
    while start >= 0:
        if start % ENTRY == 16 and entries.startswith(key, start - 16):
            return int(_POSITION.unpack_from(entries, start - 8)[0])
        start = entries.find(wanted, start + 1)
    return None


def last_position(entries: bytes, digest: bytes) -> int | None:
    """Return the last position of a message among entries of its key; None where it is not."""
    for start in reversed(range(16, len(entries), ENTRY)):
        if entries.startswith(digest[:16], start):
            return int(_POSITION.unpack_from(entries, start - 8)[0])
    return None


def newest_of(entries: bytes) -> int:
    """Return the position of the last of several entries."""
    return int(_POSITION.unpack_from(entries, len(entries) - 24)[0])


def with_key(entries: bytes, key: bytes) -> bytes:
    """Return those of several entries that have a key."""
    found, start = [], entries.find(key)
    while start >= 0:
        if start % ENTRY == 0:
            found.append(entries[start : start + ENTRY])
        start = entries.find(key, start + 1)
    return b"".join(found)


class RecentIds:
    """Remembers the entries of the newest messages by their keys, in the order of their positions.

    Attributes:
        entries: For each key its entries, joined; mostly one.
    """

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def fill(self, entries: bytes) -> None:
        """Remember several entries, in the order of their positions."""
        mine = self.entries
        for entry in split(entries):
            key = entry[:8]
            if key in mine:
                self.add(key, entry)
            else:
                mine[key] = entry

    def add(self, key: bytes, entry: bytes) -> None:
        """Remember an entry whose key may be there already; it becomes the newest."""
        self.entries[key] = (self.entries.pop(key, b"") + entry)[-_MOST_OF_A_KEY * ENTRY :]

    def forget(self, until: int) -> None:
        """Forget the entries of all positions up to this one."""
        old = takewhile(lambda item: newest_of(item[1]) <= until, self.entries.items())
        for key in [key for key, _ in old]:
            del self.entries[key]
