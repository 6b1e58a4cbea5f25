# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishes messages that are stored before the call returns, and reads what is stored: by ours and by other systems.

It is opened as ``ours`` (a relay with a store), ``limit`` (rows of a bare database), ``jetstream`` or ``rabbitmq``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from tests.bench.programs import bare
from tests.bench.programs.link import serve

SIZE = 500
# So many are under way at the other systems, whose clients are fastest so.
IN_FLIGHT = 500
# Rows of a commit and of a query, where several messages share one.
GROUP = 500
TEXT = "x" * 300
SUBJECT = bare.TOPIC.decode()

_contender: dict[str, Any] = {}


class Ours:
    """Publishes through a relay with a store."""

    def __init__(self, config: dict[str, Any]) -> None:
        from fedmsg.core import FedMsgContext

        self._config = config
        self._context = FedMsgContext(**config, publish_confirm=True)

    def one_by_one(self, count: int) -> None:
        """Publish so many, each when the one before is confirmed."""
        publish = self._context.publish
        for number in range(count):
            publish(topic="update", modname="bench", msg={"n": number, "text": TEXT})

    def pipelined(self, count: int) -> None:
        """Publish so many ahead of their confirms."""
        messages = ({"topic": "update", "modname": "bench", "msg": {"n": n, "text": TEXT}} for n in range(count))
        assert sum(1 for _ in self._context.publish_many(messages)) == count

    def read(self, count: int, last: int | None = None) -> int:
        """Read so many from the first on, or so many of the last; returns how many."""
        begin: dict[str, Any] = {"last": last} if last else {"after": "first"}
        with self._context.subscribe(**begin) as stream:
            return sum(1 for _ in islice(stream, count))


class Limit:
    """Inserts rows into a bare database."""

    def __init__(self, url: str) -> None:
        self._insert, self._query = bare.opened(url)
        self._newest = 0
        self._body = b"x" * SIZE

    def _rows(self, count: int) -> list[bare.Row]:
        made = bare.rows(self._newest + 1, [self._body] * count)
        self._newest += count
        return made

    def one_by_one(self, count: int) -> None:
        """Insert and commit one row after the other."""
        for _ in range(count):
            self._insert(self._rows(1))

    def pipelined(self, count: int) -> None:
        """Insert rows in groups, a commit for each."""
        for _ in range(count // GROUP):
            self._insert(self._rows(GROUP))

    def read(self, count: int, last: int | None = None) -> int:
        """Read so many rows."""
        found = 0
        while found < count:
            found = self._query(found, 1000)[-1][0]
        return found


class JetStream:
    """Publishes to a stream of NATS in files, with the acknowledgements of its server."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._run(self._open(url))
        self._body = b"x" * SIZE

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    async def _open(self, url: str) -> None:
        import nats

        self._stream = (await nats.connect(url)).jetstream()
        await self._stream.add_stream(name="bench", subjects=[SUBJECT])

    def one_by_one(self, count: int) -> None:
        """Publish so many, each when the one before is acknowledged."""

        async def publish() -> None:
            for _ in range(count):
                await self._stream.publish(SUBJECT, self._body)

        self._run(publish())

    def pipelined(self, count: int) -> None:
        """Publish so many ahead of their acknowledgements."""

        async def publish() -> None:
            for _ in range(count // IN_FLIGHT):
                await asyncio.gather(*(self._stream.publish(SUBJECT, self._body) for _ in range(IN_FLIGHT)))

        self._run(publish())

    def read(self, count: int, last: int | None = None) -> int:
        """Pull so many from the first on, and acknowledge them."""

        async def pull() -> int:
            from nats.js.api import AckPolicy, ConsumerConfig

            config = ConsumerConfig(ack_policy=AckPolicy.NONE)
            consumer = await self._stream.pull_subscribe(SUBJECT, durable=f"d{time.time_ns()}", config=config)
            found = 0
            while found < count:
                found += len(await consumer.fetch(IN_FLIGHT, timeout=10))
            return found

        return int(self._run(pull()))


class RabbitMQ:
    """Publishes to a quorum queue with the confirms of its server."""

    QUEUE = "bench"

    def __init__(self, url: str) -> None:
        import pika

        self._parameters = pika.URLParameters(url)
        self._properties = pika.BasicProperties(delivery_mode=2)
        self._body = b"x" * SIZE
        with pika.BlockingConnection(self._parameters) as connection:
            arguments = {"x-queue-type": "quorum"}
            connection.channel().queue_declare(self.QUEUE, durable=True, arguments=arguments)

    def one_by_one(self, count: int) -> None:
        """Publish so many, each when the one before is confirmed."""
        import pika

        with pika.BlockingConnection(self._parameters) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for _ in range(count):
                channel.basic_publish("", self.QUEUE, self._body, self._properties, mandatory=True)

    def pipelined(self, count: int) -> None:
        """Publish so many ahead of their confirms."""
        import pika

        sent = confirmed = 0

        def go_on(channel: Any) -> None:
            nonlocal sent
            while sent < count and sent - confirmed < IN_FLIGHT:
                channel.basic_publish("", self.QUEUE, self._body, self._properties)
                sent += 1

        def confirm(channel: Any, frame: Any) -> None:
            nonlocal confirmed
            confirmed = frame.method.delivery_tag if frame.method.multiple else confirmed + 1
            if confirmed >= count:
                channel.connection.close()
            elif sent - confirmed <= IN_FLIGHT // 2:
                go_on(channel)

        def begin(channel: Any) -> None:
            channel.confirm_delivery(lambda frame: confirm(channel, frame), callback=lambda _: go_on(channel))

        connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=lambda opened: opened.channel(on_open_callback=begin),
            on_close_callback=lambda closed, _: closed.ioloop.stop(),
        )
        connection.ioloop.start()
        assert confirmed >= count


def open_as(who: str, where: Any) -> None:
    """Open a contender at its URL, or with its configuration."""
    contenders = {"ours": Ours, "limit": Limit, "jetstream": JetStream, "rabbitmq": RabbitMQ}
    _contender["it"] = contenders[who](where)


def _timed(work: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    work(count)
    return count / (time.perf_counter() - start)


def one_by_one(count: int) -> float:
    """Publish so many; returns how many in a second."""
    return _timed(_contender["it"].one_by_one, count)


def pipelined(count: int) -> float:
    """Publish so many, a multiple of 500; returns how many in a second."""
    return _timed(_contender["it"].pipelined, count)


def read(count: int, last: int | None = None) -> dict[str, float]:
    """Read so many from the first on, or so many of the last; returns how many, and how many in a second."""
    start = time.perf_counter()
    found = _contender["it"].read(count, last)
    return {"count": found, "speed": found / (time.perf_counter() - start)}


serve({"open_as": open_as, "one_by_one": one_by_one, "pipelined": pipelined, "read": read})
