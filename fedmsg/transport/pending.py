# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message on its way to who confirms it: what the thread that sends it and the caller share."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from fedmsg import encoding
from fedmsg.exceptions import NotConfirmed, RejectedByRelay

__all__ = ["Pending"]

_numbers = itertools.count(1)


class Pending:
    """One message; the caller waits for it, the thread of the sink settles it.

    Args:
        topic: The topic frame.
        body: The envelope as it goes over the wire.
        timeout: Seconds until the wait ends.
        via: The ids of the streams that it has passed.
        again: Whether it may have been sent before.

    Attributes:
        number: Its number in this process; the order of the calls.
        deadline: When the wait ends, by the monotonic clock.
        sent: Whether it was handed over to a relay.
        position: Where it is stored; None as long as it is not confirmed.
        rejection: Why the relay has rejected it, and a word for that; None where it has not.
        is_settled: Whether it is confirmed, rejected or no longer waited for.
        notify: Called by the thread of the sink, once, when it is settled.
    """

    __slots__ = (
        "_claim",
        "_waiter",
        "again",
        "body",
        "deadline",
        "is_settled",
        "notify",
        "number",
        "position",
        "rejection",
        "sent",
        "timeout",
        "topic",
        "via",
    )

    def __init__(
        self,
        topic: bytes,
        body: bytes,
        timeout: float,
        *,
        via: tuple[str, ...] = (),
        again: bool = False,
        notify: Callable[[], object] | None = None,
    ) -> None:
        self.topic, self.body, self.via, self.again = topic, body, via, again
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.number = next(_numbers)
        self.sent = self.is_settled = False
        self.position: int | None = None
        self.rejection: tuple[str, str] | None = None
        self.notify = notify
        # Taken by the thread that sends it, or by a caller who waits no longer.
        self._claim = threading.Lock()
        # A bare lock, which a signal handler that raises leaves as it is.
        self._waiter = threading.Lock()
        self._waiter.acquire()

    def settle(self, position: int | None, rejection: tuple[str, str] | None = None) -> None:
        """Note what became of it; called by the thread of the sink, once."""
        self.position, self.rejection = position, rejection
        self.is_settled = True
        self._waiter.release()
        if self.notify is not None:
            self.notify()

    def claim(self) -> bool:
        """Take it to be sent; False when the caller waits no longer. Called by the thread of the sink."""
        if not self.sent:
            if not self._claim.acquire(blocking=False):
                return False
            self.sent = True
        return True

    def abandon(self) -> None:
        """Wait for it no longer; what is not sent yet is not sent."""
        if not self._claim.acquire(blocking=False):
            self.sent = True
        self.is_settled = True

    def restart(self) -> None:
        """Let its time begin now: the message before it was settled."""
        self.deadline = time.monotonic() + self.timeout

    def wait(self) -> bool:
        """Wait until it is settled, or time is up; whether it is settled."""
        if not self.is_settled and self._waiter.acquire(timeout=max(0.0, self.deadline - time.monotonic())):
            # For another look at it.
            self._waiter.release()
        return self.is_settled

    @property
    def envelope(self) -> dict[str, Any]:
        """The envelope, decoded from its bytes."""
        found: dict[str, Any] = encoding.loads(self.body.decode())
        return found

    def result(self, explain: Callable[[Pending], str]) -> int:
        """Wait for the confirm, and return the position.

        Args:
            explain: Returns why there is none, for an error.

        Raises:
            NotConfirmed: There is none in time.
            RejectedByRelay: The relay has rejected it.
        """
        if not self.wait():
            self.abandon()
        if self.rejection is not None:
            raise RejectedByRelay(self.rejection[0], self.envelope, self.rejection[1])
        if self.position is None:
            raise NotConfirmed(explain(self), self.envelope, self.sent)
        return self.position
