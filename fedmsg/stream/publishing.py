# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing with a confirm: a `fedmsg.transport.base.Sink` that returns when a relay has a message on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.exceptions import MissingEndpoint, NotConfirmed, RejectedByRelay
from fedmsg.stream.confirming import KEY, Confirming, curve_name
from fedmsg.transport.base import ConfirmingSink
from fedmsg.transport.pending import Pending
from fedmsg.transport.sharing import Shared
from fedmsg.transport.zmq import addresses, curve

__all__ = ["ConfirmedSink", "Window", "open_confirmed"]

# The settings that make two connections to the same relays different ones.
_SOCKET_SETTINGS = (
    "max_message_size",
    "publish_window",
    "zmq_heartbeat_ivl",
    "zmq_tcp_keepalive",
    "zmq_tcp_keepalive_cnt",
    "zmq_tcp_keepalive_idle",
    "zmq_tcp_keepalive_intvl",
)


class ConfirmedSink(ConfirmingSink):
    """Sends messages to the confirmed port of a relay; threads share it.

    Args:
        config: The configuration.
        relays: The addresses of relays, in the order in which they are tried.
    """

    def __init__(self, config: Mapping[str, Any], relays: tuple[str, ...]) -> None:
        self._closed = True  # until there is something to close
        self._where = ", ".join(relays)
        self._thread = Confirming(dict(config), relays)
        self._thread.start()
        self._closed = False

    def begin(
        self,
        topic: bytes,
        body: bytes,
        *,
        timeout: float,
        again: bool = False,
        notify: Callable[[], object] | None = None,
    ) -> Pending:
        """Send a message without waiting for its confirm; messages are sent in the order of the calls."""
        pending = Pending(topic, body, timeout, again=again, notify=notify)
        self._thread.put(pending)
        return pending

    def explain(self, pending: Pending) -> str:
        """Return why a message is not confirmed."""
        limit = f"within {pending.timeout:g} s"
        if pending.sent:
            return (
                f"{self._where} has not confirmed the message {limit}, and may have stored it; send it again by "
                "republish"
            )
        return (
            f"no relay confirms messages at {self._where} {limit}, the message was not sent: start fedmsg-relay "
            "there with a store, or correct 'relay_confirmed' in the configuration"
        )

    @property
    def alive(self) -> bool:
        """Whether messages can be sent."""
        return self._thread.alive

    def statistics(self) -> dict[str, Any]:
        """Return counts for status reports and metrics."""
        return dict(self._thread.counts)

    def release(self) -> None:
        """End one use of it; the last one closes it."""
        _shared.release(self)

    def _close(self) -> None:
        self._thread.close()


class Window(Closeable):
    """Messages that are sent ahead of their confirms, up to ``publish_window``, in order.

    Args:
        sink: Where they are sent.
        size: How many may be unconfirmed.
        timeout: How many seconds may pass from one confirm to the next.
    """

    def __init__(self, sink: ConfirmingSink, size: int, timeout: float) -> None:
        self._closed = True  # until there is something to close
        self._sink = sink
        self._size = size
        self._timeout = timeout
        self._waiting: deque[Pending] = deque()
        self._closed = False

    def send(self, topic: bytes, body: bytes) -> Iterator[int]:
        """Send a message; yield the positions that are known by now, and wait for some while too many are not.

        Raises:
            NotConfirmed: There is no confirm in time; its ``unconfirmed`` has all that have none.
            RejectedByRelay: The relay has rejected a message; the same.
        """
        while len(self._waiting) >= self._size:
            yield self._first()
        self._waiting.append(self._sink.begin(topic, body, timeout=self._timeout))
        while self._waiting and self._waiting[0].is_settled:
            yield self._first()

    def finish(self) -> Iterator[int]:
        """Wait for the confirms of all that was sent; yield the positions.

        Raises:
            NotConfirmed: There is no confirm in time; its ``unconfirmed`` has all that have none.
            RejectedByRelay: The relay has rejected a message; the same.
        """
        while self._waiting:
            yield self._first()

    def _first(self) -> int:
        # A relay that confirms one after the other is alive, however many there are.
        self._waiting[0].restart()
        try:
            position = self._sink.result(self._waiting[0])
        except (NotConfirmed, RejectedByRelay) as error:
            # Whether or not the later ones are confirmed by now: to send them again does not double them.
            error.unconfirmed = [one.envelope for one in self._waiting]
            self.close()
            raise
        self._waiting.popleft()
        return position

    def _close(self) -> None:
        for one in self._waiting:
            if not one.is_settled:
                one.abandon()
        self._waiting.clear()


def open_confirmed(config: Mapping[str, Any]) -> ConfirmedSink:
    """Open what confirmed messages are sent through, or share what this process has.

    Raises:
        MissingEndpoint: No address is configured. A KeyError.
        ConfigError: Something is no address.
        RefusedAtStart: A key for CURVE can't be read.
    """
    relays = tuple(addresses.checked(settings.get(config, KEY), KEY))
    if not relays:
        raise MissingEndpoint(f"{KEY} is not set: set it to the address of a relay with a store")
    name = curve_name(config)
    curve.prepare(config, [name])
    values = (settings.get(config, key) for key in _SOCKET_SETTINGS)
    identity = (*relays, *values, *curve.identity(config, name))
    return _shared.open(identity, lambda: ConfirmedSink(config, relays))


_shared: Shared[ConfirmedSink] = Shared()
