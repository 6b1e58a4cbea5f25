# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of brokers share: a bus at a vhost, programs of others on it, and listeners that are ready."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pika

from fedmsg.core import FedMsgContext
from fedmsg.hub import Hub
from fedmsg.testing import wait_until
from tests.brokers import RabbitMQ
from tests.hubs import ENABLED

PREFIX = "org.fedoraproject.dev"


class BrokerBus:
    """A vhost of a node, as a bus.

    Attributes:
        config: The configuration of its programs.
    """

    def __init__(self, node: RabbitMQ, vhost: str = "%2F", **settings: Any) -> None:
        self.node, self.vhost = node, vhost
        self.url = node.url_of(vhost=vhost)
        self.config: dict[str, Any] = {"broker_url": [self.url], "endpoints": {}, "timeout": 20, **settings}

    @contextmanager
    def context(self, **settings: Any) -> Iterator[FedMsgContext]:
        """Open a context that publishes."""
        with FedMsgContext(**{**self.config, "name": "test", **settings}) as context:
            yield context

    @contextmanager
    def raw(self) -> Iterator[Any]:
        """Open a channel of the bare library, as programs of others use it."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def count(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""
        with self.raw() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def queues(self) -> set[str]:
        """Return the names of the queues."""
        return {row["name"] for row in self.node.api("GET", f"queues/{self.vhost}")}

    def bindings(self, queue: str = "") -> list[str]:
        """Return the patterns by which a queue, or any, is bound to the exchange of the bus."""
        rows = self.node.api("GET", f"bindings/{self.vhost}")
        return sorted(
            row["routing_key"] for row in rows if row["source"] == "amq.topic" and queue in {"", row["destination"]}
        )

    def connections(self, end: str = "") -> list[str]:
        """Return the names that the broker has for connections of ours whose own name ends so."""
        rows = self.node.api("GET", f"vhosts/{self.vhost}/connections")
        return [row["name"] for row in rows if row["client_properties"].get("connection_name", "").endswith(end)]

    def close_connection(self, name: str) -> None:
        """Have the broker close one connection."""
        self.node.api("DELETE", f"connections/{quote(name)}")

    def close_connections(self) -> None:
        """Have the broker close all connections of the vhost."""
        wait_until(self.connections, 30)
        for name in self.connections():
            # One that has gone by itself is closed, too.
            with suppress(HTTPError):
                self.close_connection(name)

    @contextmanager
    def hub(self, *kinds: type, **settings: Any) -> Iterator[Hub]:
        """Run a hub with some consumers, which are ready."""
        with Hub({**self.config, **ENABLED, **settings}, kinds, []) as hub:
            wait_until(lambda: all(consumer.totals()["connected"] for consumer in hub.consumers))
            yield hub

    @contextmanager
    def listening(self, topic: str = "", **settings: Any) -> Iterator[Listener]:
        """Listen in a thread; the queue is bound when the block begins."""
        before = len(self.bindings())
        listener = Listener({**self.config, "mute": True, **settings}, topic)
        try:
            wait_until(lambda: listener.error or len(self.bindings()) > before, 30)
            yield listener
        finally:
            listener.stop(self)

    def publish(self, numbers: Iterable[int], topic: str = "t", modname: str = "m") -> None:
        """Publish numbers, pipelined."""
        with self.context() as context:
            list(context.publish_many({"topic": topic, "modname": modname, "msg": {"n": one}} for one in numbers))


class Listener:
    """Takes what arrives, in a thread of its own.

    Attributes:
        got: What `tail_messages` has yielded.
        error: What has ended it.
    """

    def __init__(self, config: dict[str, Any], topic: str) -> None:
        self.got: list[Any] = []
        self.error: BaseException | None = None
        self.context = FedMsgContext(**config)
        self._topic = topic
        self._stopping = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for message in self.context.tail_messages(self._topic):
                if self._stopping:
                    return
                self.got.append(message)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.error = error

    def wait(self, count: int, timeout: float = 30.0) -> list[Any]:
        """Wait until so many have arrived; return all."""
        wait_until(lambda: self.error or len(self.got) >= count, timeout, what=lambda: f"{count}; {len(self.got)} came")
        if self.error is not None:
            raise self.error
        return list(self.got)

    def stop(self, bus: BrokerBus) -> None:
        """End it: with one more message, which it does not keep."""
        self._stopping = True
        with bus.context() as context:
            while self._thread.is_alive():
                context.publish(self._topic.removeprefix(f"{PREFIX}.m.") or "end", {}, modname="m")
                self._thread.join(0.2)
        self.context.destroy()
