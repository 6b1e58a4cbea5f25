# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the stream port share: a port that serves, clients of frames, and readers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import zmq

from fedmsg.stream import protocol
from fedmsg.stream.protocol import Message
from fedmsg.stream.server import StreamServer
from fedmsg.stream.subscription import StreamDelivery, Subscription
from fedmsg.stream.window import Window
from tests.stream_memory import MemoryLog

ANY_PORT = "tcp://127.0.0.1:*"


def body(number: int, padding: int = 0) -> bytes:
    """Return a body with a number, that is its ``msg_id`` too."""
    return b'{"msg_id":"id-%d","n":%d,"x":"%s"}' % (number, number, b"x" * padding)


def numbers(first: int, last: int, padding: int = 0) -> list[bytes]:
    """Return the bodies of some numbers, the last one included."""
    return [body(number, padding) for number in range(first, last + 1)]


@contextmanager
def serving(
    log: MemoryLog,
    config: dict[str, Any] | None = None,
    address: str = ANY_PORT,
    *,
    window: int = 0,
    clients_max: int = 1000,
) -> Iterator[StreamServer]:
    """Serve a stream; ``window`` limits the messages in memory."""
    kept = Window(log.newest(), window) if window else None
    with StreamServer(config or {}, [address], log, window=kept, clients_max=clients_max) as server:
        server.start()
        yield server


def take(subscription: Subscription, count: int, timeout: float = 30.0, limit: int = 1000) -> list[StreamDelivery]:
    """Return so many deliveries.

    Raises:
        TimeoutError: There are fewer.
    """
    got: list[StreamDelivery] = []
    deadline = time.monotonic() + timeout
    while len(got) < count:
        got += subscription.poll(min(limit, count - len(got)))
        if len(got) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(got)} of {count} messages: {subscription.statistics()}")
            subscription.wait(0.1)
    return got


def begun(subscription: Subscription, timeout: float = 20.0) -> Subscription:
    """Wait until a subscription has begun."""
    wait_for(lambda: subscription.position is not None, subscription, timeout)
    return subscription


def wait_for(condition: Callable[[], object], subscription: Subscription, timeout: float = 20.0) -> None:
    """Wait until something is true, without taking messages.

    Raises:
        TimeoutError: It is not.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true after {timeout} s: {subscription.statistics()}")
        if subscription.idle:
            subscription.poll(0)
            subscription.wait(0.02)
        else:
            zmq.Poller().poll(5)


def positions(deliveries: Sequence[StreamDelivery]) -> list[int]:
    """Return the positions of deliveries."""
    return [delivery.position or 0 for delivery in deliveries]


class FrameClient:
    """A client that sends and receives frames, as a program of others would."""

    def __init__(self, address: str, **options: int) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.socket.connect(address)

    def send(self, kind: bytes, *fields: Any) -> None:
        self.socket.send_multipart(protocol.encode(kind, *fields))

    def receive(self, timeout: float = 10.0, ignored: tuple[bytes, ...] = (protocol.PING,)) -> Message | None:
        """Return the next message but signs of life; None when there is none in time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if self.socket.poll(int(left * 1000) + 1):
                message = protocol.decode(self.socket.recv_multipart())
                assert message is not None
                if message.kind not in ignored:
                    return message
        return None

    def expect(self, kind: bytes, timeout: float = 10.0) -> Message:
        """Return the next message of a kind; others are passed over."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message is not None and message.kind == kind:
                return message
        raise TimeoutError(f"no {kind.decode()}")

    def hello(self) -> Message:
        self.send(protocol.HELLO, {})
        return self.expect(protocol.WELCOME)

    def open(self, messages: int = 0, size: int = 0, **options: Any) -> Message:
        self.hello()
        self.send(protocol.OPEN, options)
        if messages:
            self.send(protocol.CREDIT, messages, size)
        return self.expect(protocol.OPENED)

    def close(self) -> None:
        self.socket.close(0)
        self.context.term()

    def __enter__(self) -> FrameClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
