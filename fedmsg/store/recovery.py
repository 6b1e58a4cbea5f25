# SPDX-License-Identifier: LGPL-2.1-or-later
"""Joins history to live messages, without a gap and without duplicates.

What was missed is an interval: of numbers, after a gap in what a publisher sends, or of times,
after a restart. A `History` has the messages of the interval: a replay server, a datagrepper, or a
message log. A `Ledger` knows which messages were passed on. It is asked for each message, whether
that comes from history or live; the first one that claims a message passes it on. So history can be
read while live messages arrive, and it does not matter where the two meet.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Protocol, TypeGuard, TypeVar

from fedmsg.exceptions import FedmsgError

__all__ = ["History", "Ledger", "Message", "is_time", "message_key", "recover"]

#: An envelope.
Message = dict[str, Any]

Point_contra = TypeVar("Point_contra", contravariant=True)

# The last second of the year 9999: no clock shows more.
_TIME_MAX = 253402300799
# What a datagrepper or a broker adds to an envelope, or what is of no consequence.
_NOT_OF_PUBLISHER = frozenset({"headers", "source_name", "source_version", "timestamp"})


class History(Protocol[Point_contra]):
    """Has the messages of the past, by number or by time."""

    def read(self, first: Point_contra, last: Point_contra) -> Iterable[Message]:
        """Iterate over the messages of an interval, both ends included, the oldest first.

        Raises:
            FedmsgError: The rest can't be had; what came before the error is good.
        """


class Ledger(Protocol):
    """Knows which messages of an interval were passed on."""

    def claim(self, message: Message) -> bool:
        """Return whether a message of history is to be passed on, and remember that it is."""


def recover(
    history: History[Point_contra], first: Point_contra, last: Point_contra, ledger: Ledger
) -> Generator[Message, None, FedmsgError | None]:
    """Read an interval of history, and yield the messages that were not passed on before, the oldest first.

    Return why the rest can't be had; None when the whole interval was read.
    """
    try:
        for message in history.read(first, last):
            if ledger.claim(message):
                yield message
    except FedmsgError as error:
        return error
    return None


def message_key(message: Mapping[str, Any]) -> str:
    """Return the digest of a message, by which it is known whether it comes live or from history.

    It covers all that is signed, and the signature. So a message with the id of another one has
    another key. What history adds to a message (a name of its source, empty values, a fraction of
    a second) makes no difference.
    """
    # Here, because it loads OpenSSL: 4 MiB that a program which recovers nothing does without.
    import hashlib

    own = {key: value for key, value in message.items() if value is not None and key not in _NOT_OF_PUBLISHER}
    when = message.get("timestamp")
    own["timestamp"] = int(when) if is_time(when) else repr(when)
    try:
        text = json.dumps(own, sort_keys=True, separators=(",", ":"), default=repr)
    except (TypeError, ValueError, RecursionError):
        text = repr(own.get("msg_id"))
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=16).hexdigest()


def is_time(value: object, latest: float = _TIME_MAX) -> TypeGuard[float]:
    """Return whether a value is a time in seconds since the epoch."""
    # NaN is neither smaller nor greater.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= latest


def time_text(when: float) -> str:
    """Return a time as text for a log, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
