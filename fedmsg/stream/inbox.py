# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a subscription has received: it passes from the thread that receives to the owner, and acks go back."""

from __future__ import annotations

import threading
from collections import deque

from fedmsg._util.service import Closeable, Waker
from fedmsg.transport.base import Delivery

__all__ = ["Inbox", "StreamDelivery"]

#: The name that deliveries have, as those of an endpoint have its name.
ENDPOINT = "relay_stream"
# Seconds to wait for the thread to return credit: it needs Python's lock, which the owner would keep for longer.
_RETURN_TIMEOUT = 0.002


class StreamDelivery(Delivery):
    """A message of a stream.

    Args:
        inbox: Where it is acknowledged.
        stream: The id of its stream.
        address: The address of the relay.
        position: Its position in the stream.
        stored: When the relay stored it, in seconds since the epoch.
        topic: Its topic as it came.
        body: Its body as it came.
    """

    __slots__ = ("_inbox", "position", "stored", "stream")

    def __init__(  # noqa: PLR0917 - names would cost more than all the rest
        self, inbox: Inbox, stream: str, address: str, position: int, stored: float, topic: bytes, body: bytes
    ) -> None:
        # Written out: this is done for each message that is received.
        self.address = address
        self.frame = topic
        self.data = body
        self.takers = 1
        self.name = ENDPOINT
        self._decoded = None
        self._inbox = inbox
        self.stream = stream
        self.position: int = position
        self.stored = stored

    def ack(self) -> None:
        """Move the cursor of a durable subscription here: this message and all before it are handled."""
        self._inbox.acknowledge(self.stream, self.position)

    def nack(self, error: BaseException | None = None, *, requeue: bool = False) -> None:  # noqa: ARG002 - the signature is that of Delivery
        """Move the cursor past it, unless it is to be delivered again: then the cursor stays before it."""
        if not requeue:
            self.ack()


class Inbox(Closeable):
    """Deliveries on their way to the owner; both threads may use it.

    Args:
        half: Half of the window, in messages and bytes: when so much was taken, the thread is woken.
        thread: Woken when there is something to return to the relay.
    """

    def __init__(self, half: tuple[int, int], thread: Waker) -> None:
        self._closed = True  # until there is something to close
        self._half, self._half_size = half
        self._thread = thread
        self.ready = Waker()
        self._closed = False
        self._lock = threading.RLock()
        self._deliveries: deque[StreamDelivery] = deque()
        self._size = 0
        self._returned = self._returned_size = 0
        self._stream = ""
        self._delivered = self._acked = self._looked_at = 0
        self._is_collected = threading.Event()
        # Whether the thread does not know yet that there is something to send to the relay.
        self._has_acks = False

    # ---------------------------------------------------------------- the thread that receives

    def open(self, stream: str, position: int) -> None:
        """Note where a subscription goes on; what was received of another stream can't be acknowledged any more."""
        with self._lock:
            if stream != self._stream:
                self._stream = stream
                self._delivered = self._acked = self._looked_at = position
        self.ready.wake()

    def put(self, deliveries: list[StreamDelivery]) -> None:
        """Add deliveries, and end a wait of the owner."""
        size = sum([len(delivery.frame) + len(delivery.data) for delivery in deliveries])
        with self._lock:
            self._deliveries.extend(deliveries)
            self._size += size
            self._delivered = deliveries[-1].position
        self.ready.wake()

    def notify(self) -> None:
        """End a wait of the owner."""
        self.ready.wake()

    def waiting(self) -> tuple[int, int]:
        """Return how many messages and bytes were not taken yet, and forget what was."""
        with self._lock:
            self._returned = self._returned_size = 0
            return len(self._deliveries), self._size

    def returned(self) -> tuple[int, int]:
        """Return, and forget, how many messages and bytes were taken since the last call."""
        with self._lock:
            found = self._returned, self._returned_size
            self._returned = self._returned_size = 0
            self._is_collected.set()
            return found

    def cursor(self, looked_at: int) -> int:
        """Return the position up to which everything is handled; what is acknowledged later wakes the thread again.

        Args:
            looked_at: Up to here there is nothing that was not delivered.
        """
        with self._lock:
            self._has_acks = False
            return max(looked_at, self._acked) if self._acked >= self._delivered else self._acked

    # ---------------------------------------------------------------- the owner

    def take(self, limit: int) -> list[StreamDelivery]:
        """Return what has arrived, at most so many."""
        with self._lock:
            deliveries = self._deliveries
            if len(deliveries) <= limit:
                taken, size = list(deliveries), self._size
                deliveries.clear()
            else:
                taken = [deliveries.popleft() for _ in range(limit)]
                size = sum([len(delivery.frame) + len(delivery.data) for delivery in taken])
            self._size -= size
            self._returned += len(taken)
            self._returned_size += size
            is_much = self._returned >= self._half or self._returned_size >= self._half_size
            if is_much:
                self._is_collected.clear()
            if not deliveries:
                self.ready.clear()
        if taken and is_much:
            # The relay sends more while the owner works on these.
            self._thread.wake()
            self._is_collected.wait(_RETURN_TIMEOUT)
        return taken

    @property
    def is_empty(self) -> bool:
        """Whether everything that has arrived was taken."""
        return not self._deliveries

    def acknowledge(self, stream: str, position: int) -> None:
        """Note that everything up to a position of a stream is handled; any thread may call this."""
        with self._lock:
            if stream != self._stream or position <= self._acked:
                return
            self._acked = position
            # To wake it for each message would cost more than all the rest.
            wakes, self._has_acks = not self._has_acks, True
        if wakes:
            self._thread.wake()

    def _close(self) -> None:
        self.ready.close()
