# SPDX-License-Identifier: LGPL-2.1-or-later
"""Relays with a store as processes, and what tests need to look at what they have kept and passed on."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zmq

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import NotConfirmed
from fedmsg.stream import asking, protocol
from fedmsg.stream.log import Entry, StreamLog
from fedmsg.testing import Bus, free_address, wait_until


class StreamBus(Bus):
    """A bus whose relay has a store.

    Args:
        url: The URL of the store.
        settings: Settings on top of those of the bus.

    Attributes:
        url: The URL of the store.
        confirmed: The address of the confirmed port.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        self.url = url
        self.confirmed: str = settings.get("relay_confirmed", [free_address()])[0]
        mine = {"relay_store": url, "relay_confirmed": [self.confirmed], "relay_stream": [free_address()], "timeout": 5}
        super().__init__({**mine, **settings})

    def __enter__(self) -> StreamBus:
        return self

    def confirming(self, **settings: Any) -> FedMsgContext:
        """Return a context that publishes with confirms."""
        return self.context(publish_confirm=True, **settings)

    def kill_relay(self) -> None:
        """Kill the relay as by ``kill -9``."""
        assert self.relay is not None
        self.relay.popen.kill()
        self.relay.wait()
        self.relay.close()
        self.relay = None

    def figures(self) -> dict[str, Any]:
        """Return what the running relay answers to ``INFO``."""
        return asking.info(self.config, self.config["relay_stream"][0])

    def entries(self) -> list[Entry]:
        """Return what is stored."""
        return stored_in(self.url)

    def numbers(self) -> list[int]:
        """Return the ``n`` of the stored messages, in the order of the stream, without greetings."""
        return [number for entry in self.entries() if (number := number_of(entry.body)) is not None]


def stored_in(url: str) -> list[Entry]:
    """Return all that is stored under a URL."""
    found: list[Entry] = []
    with StreamLog(url) as log:
        after = 0
        while after < log.newest():
            chunk = log.read(after)
            found += chunk.entries
            after = chunk.looked_at
    return found


def number_of(body: bytes) -> int | None:
    """Return the ``n`` of a message; None where it has none."""
    msg = json.loads(body)["msg"]
    return msg.get("n") if isinstance(msg, dict) else None


class Listener:
    """A plain subscriber that calls a function for each message, in a thread of its own.

    Args:
        bus: What it listens to; its relay runs.
        heard: Called with topic and body.

    Attributes:
        messages: What was heard so far, without greetings.
        failures: What ``heard`` has raised.
    """

    def __init__(self, bus: Bus, heard: Callable[[bytes, bytes], object] = lambda topic, body: None) -> None:
        self._bus = bus
        self._heard = heard
        self._greeted = threading.Event()
        self._stopping = False
        self.messages: list[tuple[bytes, bytes]] = []
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.set_hwm(0)
            socket.subscribe(b"")
            socket.connect(self._bus.config["endpoints"]["relay_outbound"][0])
            while not self._stopping:
                if not socket.poll(20):
                    continue
                topic, body = socket.recv_multipart()
                if topic.endswith(b".hello"):
                    self._greeted.set()
                    continue
                try:
                    self._heard(topic, body)
                except BaseException as error:  # noqa: BLE001 raised at the end
                    self.failures.append(error)
                self.messages.append((topic, body))

    def numbers(self) -> list[int]:
        """Return the ``n`` of the messages that were heard."""
        return [number for _, body in list(self.messages) if (number := number_of(body)) is not None]

    def wait_for(self, count: int) -> None:
        """Wait for so many messages."""
        wait_until(lambda: len(self.messages) >= count, what=lambda: f"{count} messages; there are {self.numbers()}")

    def __enter__(self) -> Listener:
        self._thread.start()
        try:
            with self._bus.context() as context:
                wait_until(self._greeted.is_set, meanwhile=lambda: context.publish(topic="hello", modname="greeting"))
        except BaseException:
            self._stop()
            raise
        return self

    def _stop(self) -> None:
        self._stopping = True
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        self._stop()
        assert self.failures == []


class Raw:
    """A client of the confirmed port that sends what it likes.

    Args:
        address: The address of the port.
    """

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self.socket.connect(address)

    def send(self, kind: bytes, *fields: Any) -> None:
        """Send a message of the protocol."""
        self.socket.send_multipart(protocol.encode(kind, *fields))

    def publish(self, number: int, **options: Any) -> None:
        """Send a message to be confirmed, with the number as its id and as its content."""
        self.send(protocol.PUB, b"%d" % number, options, b"org.test", body_of(number))

    def receive(self) -> protocol.Message:
        """Return the next message that is no sign of life."""
        while True:
            message = protocol.decode(self.socket.recv_multipart())
            assert message is not None
            if message.kind == protocol.PING:
                self.send(protocol.PONG)
            elif message.kind != protocol.PONG:
                return message

    def greet(self) -> dict[str, Any]:
        """Say HELLO; return the options of WELCOME."""
        self.send(protocol.HELLO, {})
        message = self.receive()
        assert message.kind == protocol.WELCOME
        options: dict[str, Any] = message.fields[0]
        return options

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)


class FakeRelay:
    """A confirmed port whose answers a test makes.

    Args:
        address: Where it is.
    """

    def __init__(self, address: str = "") -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self.address = address or free_address()
        self.socket.bind(self.address)
        self.identity = b""
        self._greeting: dict[str, Any] = {}

    def receive(self, kind: bytes) -> protocol.Message:
        """Return the next message of a kind; others are passed over, but a client that connects again is greeted."""
        while True:
            self.identity, *frames = self.socket.recv_multipart()
            message = protocol.decode(frames)
            assert message is not None
            if message.kind == kind:
                return message
            if message.kind == protocol.HELLO and self._greeting:
                self.send(protocol.WELCOME, self._greeting)

    def take(self, count: int) -> list[int]:
        """Return the numbers in the next messages to be confirmed."""
        found = [self.receive(protocol.PUB) for _ in range(count)]
        self.last = [message.fields[0] for message in found]
        self.again = [message.fields[1].get("again", False) for message in found]
        return [int(message.fields[3].split(b'"n": ')[1].split(b"}")[0]) for message in found]

    def send(self, kind: bytes, *fields: Any) -> None:
        """Send a message to the client that was heard last."""
        self.socket.send_multipart([self.identity, *protocol.encode(kind, *fields)])

    def greet(self, **options: Any) -> None:
        """Answer a HELLO."""
        self.receive(protocol.HELLO)
        self._greeting = {"stream": "s", "first": 1, "newest": 0, "heartbeat": 2, **options}
        self.send(protocol.WELCOME, self._greeting)

    def hears(self, milliseconds: int) -> bool:
        """Return whether something comes in this time."""
        return bool(self.socket.poll(milliseconds))

    def close(self) -> None:
        """Close it."""
        self._context.destroy(linger=0)

    def __enter__(self) -> FakeRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def body_of(number: int) -> bytes:
    """Return the bytes of an envelope."""
    return json.dumps({"topic": "org.test", "msg": {"n": number}, "msg_id": f"2026-{number}"}).encode()


class Flow:
    """Publishes numbers one after the other with confirms, in a thread, and goes on whatever happens.

    Args:
        bus: The bus.
        window: How many are sent ahead of their confirms.

    Attributes:
        confirmed: The position of each number that was confirmed.
        unconfirmed: How often there was no confirm in time.
    """

    def __init__(self, bus: StreamBus, *, window: int = 50, **settings: Any) -> None:
        self._context = bus.confirming(publish_window=window, **settings)
        self._stopping = False
        self.confirmed: dict[int, int] = {}
        self.unconfirmed = 0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _messages(self, number: int) -> Iterator[dict[str, Any]]:
        while not self._stopping:
            yield {"topic": "t", "modname": "m", "msg": {"n": number}}
            number += 1

    def _run(self) -> None:
        number = 0
        try:
            while not self._stopping:
                try:
                    for position in self._context.publish_many(self._messages(number)):
                        self.confirmed[number] = position
                        number += 1
                except NotConfirmed as error:
                    self.unconfirmed += 1
                    number += len(error.unconfirmed)
        except BaseException as error:  # noqa: BLE001 raised at the end
            self.failure = error

    def wait_for(self, more: int) -> None:
        """Wait for so many confirms more."""
        goal = len(self.confirmed) + more
        wait_until(lambda: self.failure is not None or len(self.confirmed) >= goal, 60)
        assert self.failure is None, self.failure

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(60)
        self._context.destroy()
        assert self.failure is None, self.failure


def publish(bus: StreamBus, numbers: Sequence[int], **settings: Any) -> None:
    """Publish numbers with confirms."""
    with bus.confirming(**settings) as context:
        list(context.publish_many({"topic": "t", "modname": "m", "msg": {"n": number}} for number in numbers))


def wait_for_numbers(bus: StreamBus, count: int, timeout: float = 60.0) -> None:
    """Wait until a relay has so many messages."""
    with StreamLog(bus.url) as log:
        wait_until(lambda: log.newest() >= count, timeout, what=lambda: f"{count} messages; there are {log.newest()}")


def upstream(bus: StreamBus, number: int = 0) -> dict[str, Any]:
    """Return the figures of one of the relays that a relay hands on to."""
    found: dict[str, Any] = bus.figures()["upstreams"][number]
    return found


def stream_of(bus: StreamBus) -> str:
    """Return the id of the stream of a relay."""
    with StreamLog(bus.url) as log:
        return log.stream


def sqlite_url(folder: Path, name: str = "stream.db") -> str:
    """Return the URL of an SQLite database in a folder."""
    return f"sqlite:///{folder / name}"


@contextlib.contextmanager
def running(bus: StreamBus, *arguments: str) -> Iterator[StreamBus]:
    """Run the relay of a bus for as long as the block lasts."""
    with bus:
        bus.start_relay(*arguments)
        yield bus


@contextlib.contextmanager
def filled(url: str, count: int = 5, **settings: Any) -> Iterator[StreamBus]:
    """Run a relay with some messages in its stream."""
    with running(StreamBus(url, **settings)) as bus:
        publish(bus, range(count))
        yield bus


def leave_name(bus: StreamBus, name: str, handled: int) -> None:
    """Make a durable subscription that has handled so many messages, and is away."""
    with bus.context() as context, context.subscribe(durable=name, after="first", ack_mode="manual") as messages:
        for _ in range(handled):
            next(messages).ack()
        address = bus.config["relay_stream"][0]
        wait_until(lambda: asking.subscriptions(bus.config, address, name=name)[0]["cursor"] == handled)
    wait_until(lambda: not asking.subscriptions(bus.config, address, name=name)[0]["connected"])
