# SPDX-License-Identifier: LGPL-2.1-or-later
"""A publisher with a store, its replay server, and one who listens behind a network that can be cut."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fedmsg import aio
from fedmsg.consumers import BusHooks, FedmsgConsumer
from fedmsg.core import FedMsgContext
from fedmsg.hub import Hub
from fedmsg.hub.consumer import runner_of
from fedmsg.replay import sqlstore
from fedmsg.testing import Process, free_address, wait_until
from tests.certificates import Bench
from tests.integration.faults.ground import until_more
from tests.integration.faults.link import Link

PROGRAM = Path(__file__).with_name("storing.py")
NAME = "test.here"

_Scene = TypeVar("_Scene", bound="Scene")


class Scene:
    """A publisher with a store, a replay server, and a listener behind a network of its own.

    Args:
        url: The database.
        folder: For configuration files.
        rate: Messages a second.
        settings: For everybody.
    """

    def __init__(self, url: str, folder: Path, rate: int, settings: dict[str, Any]) -> None:
        self._publishing, self._answering = free_address(), free_address()
        self.config = {
            "name": NAME, "endpoints": {NAME: [self._publishing]}, "replay_endpoints": {NAME: self._answering},
            "persistent_store": url, "post_init_sleep": 30, "zmq_reconnect_ivl": 50, "zmq_reconnect_ivl_max": 50,
            **settings,
        }  # fmt: skip
        path = folder / "replay.py"
        path.write_text(f"config = {self.config!r}\n")
        self._environ = {"FEDMSG_CONFIG": str(path)}
        # It makes the tables before two processes look for them.
        self.store = sqlstore.connect(url)
        self.links = [Link(self._publishing), Link(self._answering)]
        self.server = Process(["fedmsg-replay"], env=self._environ)
        self.publisher = Process([sys.executable, str(PROGRAM), json.dumps(self.config), str(rate)], stdin=True)
        self.got: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        self.server.wait_ready()
        self._listener.start()
        until_more(self.got, 100)

    @property
    def mine(self) -> dict[str, Any]:
        """The settings of the one who listens."""
        publishing, answering = (link.address for link in self.links)
        mine = {**self.config, "endpoints": {NAME: [publishing]}, "replay_endpoints": {NAME: answering}}
        return {**mine, "mute": True, "persistent_store": None}

    def _listen(self) -> None:
        with FedMsgContext(**self.mine) as context:
            self.counts = context.gaps
            for *_, message in context.tail_messages():
                self.got.append(message)
                if message["topic"].endswith(".last"):
                    return

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def mend(self) -> None:
        for link in self.links:
            link.mend()

    def until_stored(self, more: int) -> None:
        """Wait until so many more have been published."""
        wanted = self.store.last_number() + more
        wait_until(lambda: self.store.last_number() >= wanted, 120, what=f"{wanted} messages stored")

    def restart_server(self) -> None:
        """Start the replay server again that was killed."""
        self.server.close()
        self.server = Process(["fedmsg-replay"], env=self._environ).wait_ready()

    def finish(self) -> int:
        """Stop publishing; give how many messages there were when the listener has the last one."""
        assert self.publisher.popen.stdin is not None
        self.publisher.popen.stdin.close()
        assert self.publisher.wait() == 0, self.publisher.report()
        count = int(self.publisher.out[-1])
        # One more, so that what is missing at the end is missed.
        with FedMsgContext(**{**self.config, "post_init_sleep": 10}) as context:
            context.publish("last", modname="test")
        self._listener.join(60)
        assert not self._listener.is_alive(), f"{len(self.got)} of {count}, {self.counts}"
        return count

    def close(self) -> None:
        for process in (self.publisher, self.server):
            process.close()
        for link in self.links:
            link.close()
        self.store.close()


class AioScene(Scene):
    """The same with one who listens from a loop of asyncio."""

    def _listen(self) -> None:
        asyncio.run(self._hear())

    async def _hear(self) -> None:
        async with aio.FedMsgContext(**self.mine) as context:
            self.counts = context.gaps
            async with aclosing(context.tail_messages()) as messages:
                async for *_, message in messages:
                    self.got.append(message)
                    if message["topic"].endswith(".last"):
                        return


class HubScene(Scene):
    """The same with a consumer in a hub, which has more workers than keep an order by themselves.

    Attributes:
        hub: The hub, once it runs.
    """

    hub: Hub

    def _listen(self) -> None:
        done, got = threading.Event(), self.got

        class Listening(FedmsgConsumer):
            topic = "org.fedoraproject.dev.test"
            config_key = "listening.enabled"
            replay_name = NAME

            def consume(self, message: Any) -> None:
                got.append(message["body"])
                if message["topic"].endswith(".last"):
                    done.set()

        own = {"listening.enabled": True, "moksha.workers_per_consumer": 4, "name": None}
        with Hub({**self.mine, **own}, [Listening], []) as self.hub:
            hooks = runner_of(self.hub.consumers[0]).hooks
            assert isinstance(hooks, BusHooks)
            assert hooks._gaps is not None
            self.counts = hooks._gaps._filler.counts
            done.wait()


@contextmanager
def scene(kind: type[_Scene], url: str, folder: Path, rate: int = 1000, **settings: Any) -> Iterator[_Scene]:
    """Have a scene that somebody listens in."""
    made = kind(url, folder, rate, settings)
    try:
        made.start()
        yield made
    finally:
        made.close()


def check_all(got: list[dict[str, Any]], count: int) -> int:
    """See that every message from the first one heard is there, in order and once; give how many."""
    numbers = [message["seq_id"] for message in got]
    assert numbers == list(range(numbers[0], count + 2))
    assert [message["msg"]["n"] for message in got[:-1]] == [number - 1 for number in numbers[:-1]]
    return len(numbers)


def signing_of(folder: Path) -> dict[str, Any]:
    """Give the settings for messages that are signed and checked."""
    folder.mkdir()
    bench = Bench(folder)
    certnames = {NAME: bench.config["certname"]}
    return {**bench.config, "certnames": certnames, "sign_messages": True, "validate_signatures": True}
