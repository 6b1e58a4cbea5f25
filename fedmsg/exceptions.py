# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every error that fedmsg raises on purpose, as one tree.

::

    FedmsgError
    ├── UsageError            (ValueError)   2   a call or command line that makes no sense
    ├── ConfigError           (ValueError)   5   a configuration that can't work
    │   ├── MissingEndpoint   (KeyError)         no address is configured for a name
    │   │   └── MissingReplayEndpoint (IOError)  none to ask for stored messages at
    │   └── MissingExtra      (ImportError)      an optional library is not installed
    ├── RefusedAtStart        (IOError)      7   no key, certificate or CA where one is needed
    │   └── MissingKey        (KeyError)         no key is configured for a name
    ├── MessageError          (ValueError)  70   a message that must not go over the wire
    │   └── ValidationError   (IOError)          a received message that failed validation
    ├── QueryError            (ValueError)  70   a question for stored messages that has no answer
    ├── GpgBinaryError                      70   GnuPG did not do what it was asked to
    └── TransportError        (IOError)      3
        ├── NotListening                     3   nobody took the message in time
        ├── StoreError                       3   the store of messages could not be used
        ├── PossiblyLost                     4   handed over, then the connection broke
        ├── AddressInUse                     6   no configured address could be bound
        ├── HttpError                        3   a web server could not be asked, or said no
        └── WorkLeft                         8   stopped before everything was passed on

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
    "NotListening",
    "PossiblyLost",
    "QueryError",
    "RefusedAtStart",
    "StoreError",
    "TransportError",
    "UsageError",
    "ValidationError",
    "WorkLeft",
]


class FedmsgError(Exception):
    """The root of the tree: catch this to catch whatever fedmsg raises on purpose.

    Attributes:
        exit_status: What a command that ends with this error returns to its shell.
    """

    exit_status: int = 70

    def __str__(self) -> str:
        # KeyError, a base of one of ours, would show its argument in quotes.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class UsageError(FedmsgError, ValueError):
    """A call or a command line that makes no sense."""

    exit_status = 2


class ConfigError(FedmsgError, ValueError):
    """A configuration that can't be read or can't work; says what, where and the fix."""

    exit_status = 5


class MissingEndpoint(ConfigError, KeyError):
    """No address is configured under the name that was asked for."""


class MissingReplayEndpoint(MissingEndpoint, IOError):
    """No address is configured to ask for the stored messages of a name."""


class MissingExtra(ConfigError, ImportError):
    """A feature needs a library that the basic installation does not bring.

    Args:
        feature: What was asked for, in the user's words.
        extra: The extra of the distribution that brings the library.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs fedmsg[{extra}]: pip install 'fedmsg[{extra}]'")
        self.extra = extra


class RefusedAtStart(FedmsgError, IOError):
    """Signing or checking is on, and what it needs can't be had."""

    exit_status = 7


class MissingKey(RefusedAtStart, KeyError):
    """Signing is on, and no key is configured for whoever signs."""


class MessageError(FedmsgError, ValueError):
    """A message that is not fit for the wire, or came from it unfit.

    Args:
        reason: What is wrong, for a log line.
        kind: A short fixed word by which refused messages are counted.
    """

    def __init__(self, reason: str, kind: str = "malformed") -> None:
        super().__init__(reason)
        self.kind = kind


class ValidationError(MessageError, IOError):
    """A received message is not valid.

    Args:
        msg: The envelope in question, kept as ``.msg``.
    """

    def __init__(self, msg: Mapping[str, Any] | None = None) -> None:
        super().__init__("the message is not valid", kind="invalid")
        self.msg = msg


class QueryError(FedmsgError, ValueError):
    """A question for stored messages that is ill-formed, asks for too much, or finds nothing."""


class GpgBinaryError(FedmsgError):
    """GnuPG did not do what it was asked to; the text is what it said."""


class TransportError(FedmsgError, IOError):
    """The bus could not be reached or used."""

    exit_status = 3


class NotListening(TransportError):
    """Nobody subscribed to the topic within ``timeout``, so nothing was sent."""

    exit_status = 3


class StoreError(TransportError):
    """The store of messages could not be read or written."""


class PossiblyLost(TransportError):
    """The connection broke under messages that had been handed over.

    Args:
        count: About how many.
        address: Where they were going.
    """

    exit_status = 4

    def __init__(self, count: int, address: str) -> None:
        super().__init__(f"about {count} messages may be lost: the connection to {address} broke")
        self.count = count


class AddressInUse(TransportError):
    """None of the configured addresses could be bound."""

    exit_status = 6


class HttpError(TransportError):
    """A web server could not be asked, or what it said is of no use.

    Args:
        reason: Which server, and why.
        status: The status of its answer, kept as ``.status``; None when there was none.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class WorkLeft(TransportError):
    """Time ran out before everything that had arrived was passed on."""

    exit_status = 8
