# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishes to RabbitMQ and consumes from it, by a quorum queue each: fedmsg, or the client library alone."""

from __future__ import annotations

import threading
import time
from typing import Any

import pika

from fedmsg.testing import wait_until
from tests.bench.programs.link import serve

TEXT = "x" * 300
IN_FLIGHT, PREFETCH = 1000, 100
TOPIC = "org.fedoraproject.dev.bench.update"

_contender: dict[str, Any] = {}


class Ours:
    """A publisher and a hub of this release."""

    def __init__(self, url: str) -> None:
        from fedmsg.core import FedMsgContext
        from fedmsg.hub import Consumer, Hub

        class Counter(Consumer):
            """Counts what it gets."""

            topic = "org.fedoraproject.dev.bench"
            taken, wanted = 0, 0
            done = threading.Event()

            def consume(self, message: Any) -> None:
                del message
                kind = type(self)
                kind.taken += 1
                if kind.taken == kind.wanted:
                    kind.done.set()

        self._config = {"broker_url": url, "broker_exchange": "ours", "endpoints": {}, "name": "bench", "timeout": 60}
        self._context = FedMsgContext(**self._config)
        self._kind, self._hub = Counter, Hub
        with Hub(self._config, [Counter], []) as hub:
            # The queue is made.
            wait_until(lambda: hub.consumers[0].totals()["connected"])

    def publish(self, count: int) -> None:
        """Publish so many, ahead of their confirms."""
        messages = ({"topic": "update", "modname": "bench", "msg": {"n": n, "text": TEXT}} for n in range(count))
        assert sum(1 for _ in self._context.publish_many(messages)) == count

    def consume(self, count: int) -> None:
        """Consume so many, each acknowledged."""
        kind = self._kind
        kind.taken, kind.wanted = 0, count
        kind.done.clear()
        with self._hub(self._config, [kind], []):
            assert kind.done.wait(300)


class Bare:
    """The client library alone, with the properties that a message of fedora-messaging has."""

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(url)
        with pika.BlockingConnection(self._parameters) as connection:
            channel = connection.channel()
            channel.exchange_declare("bare", "topic", durable=True)
            channel.queue_declare("bare", durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind("bare", "bare", "#")

    def _run(self, begin: Any) -> None:
        connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=lambda opened: opened.channel(on_open_callback=begin),
            on_close_callback=lambda closed, _: closed.ioloop.stop(),
        )
        connection.ioloop.start()

    def publish(self, count: int) -> None:
        """Publish so many, ahead of their confirms."""
        sent = confirmed = 0
        body = b'{"n":1234,"text":"' + TEXT.encode() + b'"}'

        def go_on(channel: Any) -> None:
            nonlocal sent
            while sent < count and sent - confirmed < IN_FLIGHT:
                headers = {
                    "fedora_messaging_schema": "base.message",
                    "fedora_messaging_severity": 20,
                    "sent-at": "2026-05-01T12:00:00+00:00",
                    "fedmsg-envelope": '{"i":1,"timestamp":1777636800,"username":"bench"}',
                }
                properties = pika.BasicProperties(
                    content_type="application/json", content_encoding="utf-8", delivery_mode=2,
                    message_id=f"2026-{sent:036}", headers=headers,
                )  # fmt: skip
                channel.basic_publish("bare", TOPIC, body, properties)
                sent += 1

        def confirm(channel: Any, frame: Any) -> None:
            nonlocal confirmed
            confirmed = frame.method.delivery_tag if frame.method.multiple else confirmed + 1
            if confirmed >= count:
                channel.connection.close()
            else:
                go_on(channel)

        self._run(
            lambda channel: channel.confirm_delivery(
                lambda frame: confirm(channel, frame), callback=lambda _: go_on(channel)
            )
        )
        assert confirmed >= count

    def consume(self, count: int) -> None:
        """Consume so many, acknowledged by groups."""
        taken = 0

        def take(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            nonlocal taken
            del properties, body
            taken += 1
            if taken == count or not taken % (PREFETCH // 2):
                channel.basic_ack(method.delivery_tag, multiple=True)
            if taken == count:
                channel.connection.close()

        def begin(channel: Any) -> None:
            channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _: channel.basic_consume("bare", take))

        self._run(begin)


def open_as(who: str, url: str) -> None:
    """Open a contender."""
    _contender["it"] = {"ours": Ours, "limit": Bare}[who](url)


def publish(count: int) -> float:
    """Publish so many; returns how many in a second."""
    start = time.perf_counter()
    _contender["it"].publish(count)
    return count / (time.perf_counter() - start)


def consume(count: int) -> float:
    """Consume so many, which are there; returns how many in a second."""
    start = time.perf_counter()
    _contender["it"].consume(count)
    return count / (time.perf_counter() - start)


serve({"open_as": open_as, "publish": publish, "consume": consume})
