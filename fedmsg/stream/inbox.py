# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a subscription has received: it passes from the thread that receives to the owner, and acks go back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from fedmsg._util.service import Closeable, SafeCondition, Waker
from fedmsg.transport.base import Delivery

__all__ = ["Inbox", "RecoveredDelivery", "StreamDelivery", "size_of"]

#: The name that deliveries have, as those of an endpoint have its name.
ENDPOINT = "relay_stream"
HISTORY = "datagrepper"
# Seconds to wait for the thread to return credit: it needs Python's lock, which the owner would keep for longer.
_RETURN_TIMEOUT = 0.002
# So many messages of history may wait for the owner; and so many that were held back pass on at once.
_RECOVERED_MAX = 1000
_STEP = 50


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
        self.position: int | None = position
        self.stored = stored

    @property
    def is_kept(self) -> bool:  # type: ignore[override]
        """Whether the stream has it; one of a datagrepper has no position."""
        return self.position is not None

    def ack(self) -> None:
        """Move the cursor of a durable subscription here: this message and all before it are handled."""
        assert self.position is not None
        self._inbox.acknowledge(self.stream, self.position)

    def nack(self, error: BaseException | None = None, *, requeue: bool = False) -> None:  # noqa: ARG002 - the signature is that of Delivery
        """Move the cursor past it, unless it is to be delivered again: then the cursor stays before it."""
        if not requeue:
            self.ack()


class RecoveredDelivery(StreamDelivery):
    """A message that the stream no longer has, from the history of a datagrepper; it has no position.

    Args:
        inbox: Where it is acknowledged.
        address: The address of the datagrepper.
        number: Which one it is of those that were recovered.
        stored: The timestamp of its publisher, in seconds since the epoch.
        topic: Its topic.
        body: Its body.
    """

    __slots__ = ("_number",)

    def __init__(  # noqa: PLR0917 - as that of StreamDelivery
        self, inbox: Inbox, address: str, number: int, stored: float, topic: bytes, body: bytes
    ) -> None:
        super().__init__(inbox, "", address, 0, stored, topic, body)
        self.name = HISTORY
        self.position = None
        self._number = number

    def ack(self) -> None:
        """Let the cursor pass the messages that the stream does not have, when this is the last of them."""
        self._inbox.acknowledge_recovered(self._number)


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
        self._changed = SafeCondition()
        self._lock = self._changed.lock
        self._deliveries: deque[StreamDelivery] = deque()
        self._size = 0
        self._returned = self._returned_size = 0
        self._stream = ""
        self._delivered = self._acked = self._looked_at = 0
        self._is_collected = threading.Event()
        # What comes after messages that are being recovered: a part for each time that some were missing.
        self._held: deque[deque[StreamDelivery]] = deque()
        # How many were recovered, how many of them are not taken yet, and up to which they are acknowledged. A later
        # position stands for them all.
        self._recovered = self._waiting_recovered = self._acked_recovered = 0
        self._missing_until = 0
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
        size = size_of(deliveries)
        with self._lock:
            self._size += size
            if self._held:
                self._held[-1].extend(deliveries)
                return
            self._deliveries.extend(deliveries)
            self._delivered = deliveries[-1].position or 0
        self.ready.wake()

    def hold(self, until: int) -> None:
        """Hold back what is put from now on, until `release`; the cursor stays before it.

        Args:
            until: The last position that is missing, as far as is known.
        """
        with self._lock:
            self._held.append(deque())
            self._missing_until = max(self._missing_until, until)

    def notify(self) -> None:
        """End a wait of the owner."""
        self.ready.wake()

    def waiting(self) -> tuple[int, int]:
        """Return how many messages and bytes were not taken yet, and forget what was."""
        with self._lock:
            self._returned = self._returned_size = 0
            held = sum(map(len, self._held))
            return len(self._deliveries) - self._waiting_recovered + held, self._size

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
            is_complete = not self._held and self._acked_recovered >= self._recovered
            is_complete = is_complete and self._acked >= self._delivered
            return max(looked_at, self._acked) if is_complete else self._acked

    # ---------------------------------------------------------------- the thread that recovers

    def put_recovered(self, address: str, stored: float, topic: bytes, body: bytes) -> None:
        """Add a message of history."""
        with self._lock:
            self._recovered += 1
            self._waiting_recovered += 1
            delivery = RecoveredDelivery(self, address, self._recovered, stored, topic, body)
            self._deliveries.append(delivery)
        self.ready.wake()

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until there is room for a message of history; whether there is."""
        return self._changed.wait_for(lambda: self._waiting_recovered < _RECOVERED_MAX, timeout)

    def release(self, is_new: Callable[[StreamDelivery], bool]) -> None:
        """Pass on what was held back since the first `hold`, but for what history has had."""
        while True:
            with self._lock:
                part = self._held[0]
                for delivery in [part.popleft() for _ in range(min(_STEP, len(part)))]:
                    if is_new(delivery):
                        self._deliveries.append(delivery)
                        self._delivered = delivery.position or 0
                    else:
                        self._returned += 1
                        size = len(delivery.frame) + len(delivery.data)
                        self._returned_size += size
                        self._size -= size
                if not part:
                    self._held.popleft()
                    break
            self.ready.wake()
        self.ready.wake()
        self._thread.wake()

    @property
    def is_holding(self) -> bool:
        """Whether something is held back, or would be."""
        return bool(self._held)

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
                size = size_of(taken)
            count = len(taken)
            if self._waiting_recovered or self._held:
                # The relay has not sent what is of history.
                counted = [delivery for delivery in taken if delivery.position is not None]
                self._waiting_recovered -= count - len(counted)
                count, size = len(counted), size_of(counted)
                self._changed.notify_all()
            self._size -= size
            self._returned += count
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
            if position > self._missing_until:
                self._acked_recovered = self._recovered
            # To wake it for each message would cost more than all the rest.
            wakes, self._has_acks = not self._has_acks, True
        if wakes:
            self._thread.wake()

    def acknowledge_recovered(self, number: int) -> None:
        """Note that the messages of history up to this one are handled; any thread may call this."""
        with self._lock:
            self._acked_recovered = max(self._acked_recovered, number)
            wakes = self._acked_recovered >= self._recovered and not self._held
        if wakes:
            self._thread.wake()

    def _close(self) -> None:
        self.ready.close()


def size_of(deliveries: list[StreamDelivery]) -> int:
    """Return the bytes of topics and bodies."""
    return sum([len(delivery.frame) + len(delivery.data) for delivery in deliveries])
