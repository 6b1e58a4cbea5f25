# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every error that fedmsg raises on purpose, as one tree.

::

    FedmsgError
    ├── UsageError            (ValueError)   2   a call or command line that is not valid
    ├── ConfigError           (ValueError)   5   a configuration that can't work
    │   ├── MissingEndpoint   (KeyError)         no address is configured for a name
    │   │   └── MissingReplayEndpoint (IOError)  none for the stored messages of a name
    │   └── MissingExtra      (ImportError)      an optional library is not installed
    ├── RefusedAtStart        (IOError)      7   a key, certificate or CA is missing
    │   └── MissingKey        (KeyError)         no key is configured for a name
    ├── MessageError          (ValueError)  70   a message that must not go over the wire
    │   ├── ValidationError   (IOError)          a received message that failed validation
    │   └── RejectedByRelay                  1   the relay does not take the message
    ├── QueryError            (ValueError)  70   a query for stored messages that has no answer
    │   └── PositionGone      (LookupError)  1   the stream has no such position or msg_id
    ├── GpgBinaryError                      70   GnuPG failed
    └── TransportError        (IOError)      3
        ├── NotListening                     3   no relay or store accepted it in time
        ├── NotConfirmed                 3, 4   no relay has confirmed the message in time; 4 when it was sent
        ├── StoreError                       3   the message store could not be used
        ├── Unavailable                      3   what a consumer needs is away for now
        ├── PossiblyLost                     4   sent, then the connection broke
        ├── AddressInUse                     6   no configured address could be bound
        ├── HttpError                        3   an HTTP request failed
        └── WorkLeft                         8   stopped before everything was handled

The builtin in brackets is the one that callers of fedmsg 1.x catch, so each error is
also one of those. The number is the exit status of a command that ends with the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AddressInUse",
    "ConfigError",
    "FedmsgError",
    "GpgBinaryError",
    "HttpError",
    "MessageError",
    "MissingEndpoint",
    "MissingExtra",
    "MissingKey",
    "MissingReplayEndpoint",
    "NotConfirmed",
    "NotListening",
    "PositionGone",
    "PossiblyLost",
    "QueryError",
    "RefusedAtStart",
    "RejectedByRelay",
    "StoreError",
    "TransportError",
    "Unavailable",
    "UsageError",
    "ValidationError",
    "WorkLeft",
]


class FedmsgError(Exception):
    """The root of the tree: the base class of every error that fedmsg raises on purpose."""

    #: The exit status of a command that ends with this error.
    exit_status: int = 70

    def __str__(self) -> str:
        # KeyError, a base of one of ours, would show its argument in quotes.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class UsageError(FedmsgError, ValueError):
    """A call or a command line that is not valid."""

    exit_status = 2


class ConfigError(FedmsgError, ValueError):
    """A configuration that can't be read or can't work; the text says what is wrong, where, and the fix."""

    exit_status = 5


class MissingEndpoint(ConfigError, KeyError):
    """No address is configured for a name."""


class MissingReplayEndpoint(MissingEndpoint, IOError):
    """No address is configured for the stored messages of a name."""


class MissingExtra(ConfigError, ImportError):
    """A feature needs an optional library that is not installed.

    Args:
        feature: The feature, in the words of the documentation.
        extra: The extra of the distribution that installs the library.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs fedmsg[{extra}]: pip install 'fedmsg[{extra}]'")
        self.extra = extra


class RefusedAtStart(FedmsgError, IOError):
    """A feature is on, such as signing, and what it needs is missing or can't be used."""

    exit_status = 7


class MissingKey(RefusedAtStart, KeyError):
    """Signing is on, and no key is configured for the name of the publisher."""


class MessageError(FedmsgError, ValueError):
    """A message can't be sent, or a received message is malformed.

    Args:
        reason: What is wrong, for a log line.
        kind: A short fixed word by which rejected messages are counted.
    """

    def __init__(self, reason: str, kind: str = "malformed") -> None:
        super().__init__(reason)
        self.kind = kind


class ValidationError(MessageError, IOError):
    """A received message is not valid.

    Args:
        msg: The envelope, available as ``.msg``.
    """

    def __init__(self, msg: Mapping[str, Any] | None = None) -> None:
        super().__init__("the message is not valid", kind="invalid")
        self.msg = msg


class RejectedByRelay(MessageError):
    """The relay has rejected a message that was to be confirmed; sending it again would not help.

    Args:
        reason: Its reason.
        envelope: The envelope, available as ``.envelope``.
        kind: A short word for the reason.

    Attributes:
        unconfirmed: The envelopes that `fedmsg.publish_many` had no confirm for, this one first.
    """

    exit_status = 1

    def __init__(self, reason: str, envelope: Mapping[str, Any], kind: str = "rejected") -> None:
        super().__init__(f"rejected by the relay: {reason}", kind)
        self.envelope = envelope
        self.unconfirmed: list[Mapping[str, Any]] = [envelope]


class QueryError(FedmsgError, ValueError):
    """A query for stored messages is malformed, asks for too many, or finds none."""


class PositionGone(QueryError, LookupError):
    """The stream has no such position, or no message with such a ``msg_id``."""

    exit_status = 1


class GpgBinaryError(FedmsgError):
    """GnuPG failed; the text is its output."""


class TransportError(FedmsgError, IOError):
    """The bus could not be reached or used."""

    exit_status = 3


class NotListening(TransportError):
    """No relay accepted the message within ``timeout``, so nothing was sent."""


class NotConfirmed(TransportError):
    """No relay has confirmed a message within ``timeout``; `fedmsg.republish` sends it again without doubling it.

    Args:
        reason: Where it was sent, and for how long a confirm was waited for.
        envelope: The envelope, available as ``.envelope``.
        sent: Whether the message was handed over to a relay, which may have stored it; available as ``.sent``.

    Attributes:
        unconfirmed: The envelopes that `fedmsg.publish_many` had no confirm for, this one first.
    """

    def __init__(self, reason: str, envelope: Mapping[str, Any], sent: bool) -> None:
        super().__init__(reason)
        self.envelope = envelope
        self.sent = sent
        self.unconfirmed: list[Mapping[str, Any]] = [envelope]
        self.exit_status = 4 if sent else 3


class StoreError(TransportError):
    """The store of messages could not be read or written."""


class Unavailable(TransportError):
    """What a consumer needs is away, such as a database: the message is kept, and handled again until it is back."""


class PossiblyLost(TransportError):
    """The connection broke after messages had been sent, and it is unknown whether they arrived.

    Args:
        count: About how many.
        address: Where they were sent.
    """

    exit_status = 4

    def __init__(self, count: int, address: str) -> None:
        super().__init__(f"about {count} messages may be lost: the connection to {address} broke")
        self.count = count


class AddressInUse(TransportError):
    """None of the configured addresses could be bound."""

    exit_status = 6


class HttpError(TransportError):
    """An HTTP request failed, or its answer can't be used.

    Args:
        reason: Which server, and why.
        status: The status code of its answer, available as ``.status``; None when there was no answer.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class WorkLeft(TransportError):
    """A command was stopped before everything that had arrived was handled."""

    exit_status = 8
