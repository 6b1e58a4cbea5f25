# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a transport offers, be it ZeroMQ or a broker: deliveries, and where they come from and go to."""

from __future__ import annotations

import marshal
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from fedmsg import _wire
from fedmsg._util.service import Closeable
from fedmsg._util.text import quoted
from fedmsg.exceptions import MessageError
from fedmsg.transport.pending import Pending

__all__ = ["ConfirmingSink", "Delivery", "Reader", "Sink", "Source"]

# Decoding holds Python's own lock all the time, so that this one costs next to nothing.
_decoding = threading.Lock()


class Delivery:
    """One received message on its way to a consumer, which acknowledges it.

    Over ZeroMQ an acknowledgement means nothing; other sources override `ack` and `nack`.

    Args:
        address: The address it came by.
        frame: Its topic as it came.
        data: Its body as it came.
        takers: How many will ask for the envelope.
        name: The name of the endpoint that it came by; empty where it has none.

    Attributes:
        position: Its position in a message log; None where there is none.
        is_kept: Whether its source keeps it until it is acknowledged.
        is_trusted: Whether it is valid without a signature, because the configuration trusts who let it in.
    """

    __slots__ = ("_decoded", "address", "data", "frame", "name", "takers")

    position: int | None = None
    is_kept: bool = False
    is_trusted: bool = False

    def __init__(self, address: str, frame: bytes, data: bytes, takers: int = 1, name: str = "") -> None:
        self.address = address
        self.frame = frame
        self.data = data
        self.takers = takers
        self.name = name
        # Packed, or why it can't be.
        self._decoded: bytes | MessageError | None = None

    def envelope(self) -> dict[str, Any]:
        """Return the envelope, decoded and checked once; each taker gets a copy of its own.

        Raises:
            MessageError: It is not an envelope, or not one for its topic.
        """
        if self.takers == 1:
            return self._parse()
        with _decoding:
            if self._decoded is None:
                try:
                    # Twice as fast as decoding once more, and four times as fast as a deep copy.
                    self._decoded = marshal.dumps(self._parse())
                except MessageError as error:
                    self._decoded = error
            decoded = self._decoded
        if isinstance(decoded, MessageError):
            raise decoded
        envelope: dict[str, Any] = marshal.loads(decoded)  # noqa: S302 - of our own making, a few lines up
        return envelope

    def _parse(self) -> dict[str, Any]:
        """Decode and check it."""
        return _wire.parse(self.frame, self.data)

    def describe(self) -> str:
        """Return what names it in a log line."""
        topic = quoted(self.frame.decode(errors="replace"))
        return f"on {topic}" if self.position is None else f"at position {self.position}"

    def ack(self) -> None:
        """Acknowledge it: it was handled, or is a dead letter."""

    def nack(self, error: BaseException | None = None, *, requeue: bool = False) -> None:
        """Report that it was not handled; ``requeue`` has it delivered again."""


class Source(Protocol):
    """Where deliveries come from; belongs to the thread that opens it."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when something has arrived."""

    def poll(self, limit: int) -> list[Delivery]:
        """Return what has arrived, at most so many, without waiting."""

    def subscribe(self, prefixes: Iterable[str]) -> None:
        """Receive topics that begin with these, from now on."""

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""

    def close(self) -> None:
        """Close it; a second call does nothing."""


class Reader(Source, Protocol):
    """A source that one consumer of a hub reads by, in a thread of its own; its deliveries are acknowledged."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is something to `poll`, or `wake` is called; it may return earlier."""

    def wait_for_wake(self, timeout: float) -> None:
        """Wait until `wake` is called, and leave messages where they are."""

    def wake(self) -> None:
        """End a wait of the owner; any thread may call this."""

    def pace(self, seconds: float) -> None:
        """Note how long the consumer takes for a message, on average."""

    def totals(self) -> dict[str, int]:
        """Return counts for those of the consumer."""


class Sink(Protocol):
    """Where messages are sent to."""

    def send(self, topic: bytes, body: bytes, *, timeout: float) -> int | None:
        """Send the two frames of a message; return its position, where the other side confirms one.

        Raises:
            TransportError: It could not be sent in time.
        """

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""

    def close(self) -> None:
        """Close it; a second call does nothing."""


class ConfirmingSink(Closeable):
    """Sends messages that are confirmed; threads share it, and it is used up to `release`.

    A subclass has `begin`, `explain`, `statistics`, `release` and `alive`.

    Attributes:
        users: How many have opened it and not closed it yet.
    """

    users = 0

    def send(self, topic: bytes, body: bytes, *, timeout: float, again: bool = False) -> int:
        """Send the two frames of a message, and wait for the confirm.

        Args:
            topic: The topic frame.
            body: The envelope as it goes over ZeroMQ.
            timeout: Seconds to wait at most, for all that may confirm it together.
            again: Whether it may have been sent before.

        Returns:
            Its position, 0 where there are none.

        Raises:
            NotConfirmed: There is no confirm in time.
            MessageError: The other side does not take it.
        """
        pending = self.begin(topic, body, timeout=timeout, again=again)
        try:
            return self.result(pending)
        finally:
            # Also where a signal handler has raised.
            if not pending.is_settled:
                pending.abandon()

    def begin(
        self,
        topic: bytes,
        body: bytes,
        *,
        timeout: float,
        again: bool = False,
        notify: Callable[[], object] | None = None,
    ) -> Pending:
        """Send a message without waiting for its confirm; messages are sent in the order of the calls.

        Raises:
            MessageError: The other side does not take it.
        """
        raise NotImplementedError

    def result(self, pending: Pending) -> int:
        """Wait for a confirm; return and raise as `send`."""
        return pending.result(self.explain)

    def explain(self, pending: Pending) -> str:
        """Return why a message is not confirmed."""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Whether messages can be sent."""
        raise NotImplementedError

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        raise NotImplementedError

    def release(self) -> None:
        """End one use of it; the last one closes it."""
        raise NotImplementedError
