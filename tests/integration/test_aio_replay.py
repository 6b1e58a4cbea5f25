# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages that are stored before they are published, and asked for when they were missed, in asyncio."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg.aio import FedMsgContext
from fedmsg.exceptions import ConfigError, MessageError
from fedmsg.replay import ReplayContext
from fedmsg.testing import free_address
from tests.certificates import Bench
from tests.gnupg import Home
from tests.integration.faults.ground import Witness
from tests.integration.loops import Received, connected, hearing, ticking, wait_until

pytestmark = pytest.mark.anyio

FOR_EVER = 10_000


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def settings(database: Path) -> dict[str, Any]:
    return {
        "name": "shop.here",
        "endpoints": {"shop.here": free_address()},
        "replay_endpoints": {"shop.here": free_address()},
        "persistent_store": f"sqlite:///{database}",
        "post_init_sleep": FOR_EVER,
        "timeout": 20,
    }


@contextmanager
def replaying(settings: dict[str, Any]) -> Iterator[ReplayContext]:
    """Run a replay server in a thread."""
    with ReplayContext(**settings) as server:
        thread = threading.Thread(target=server.listen)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def stored(database: Path) -> list[dict[str, Any]]:
    """Give what is in the store, in its order."""
    with closing(sqlite3.connect(database)) as connection:
        return [json.loads(row[0]) for row in connection.execute("SELECT msg FROM fedmsg_messages ORDER BY seq_id")]


class Cable:
    """A TCP connection that can be cut: in between a listener and what it listens to.

    Attributes:
        address: What to connect to instead.
    """

    def __init__(self, target: str) -> None:
        self._host, self._port = target.removeprefix("tcp://").split(":")
        self.address = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._whole = True

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
            self.cut()

    def cut(self) -> None:
        """Break all connections, and let no new one through."""
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._whole = True

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._host, self._port)
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()


def numbers(heard: list[Received]) -> list[Any]:
    return [envelope["msg"]["n"] for *_, envelope in heard if isinstance(envelope["msg"], dict) and envelope["msg"]]


# ------------------------------------------------------------------ publishing


async def test_what_is_published_is_stored_and_numbered(settings: dict[str, Any], database: Path) -> None:
    async with FedMsgContext(**settings) as context:
        tasks = [asyncio.create_task(context.publish("t", {"n": n}, modname="m")) for n in range(30)]
        await wait_until(lambda: context._turn.waiting == 30)
        # Nobody listens yet, so nothing is stored.
        tasks[7].cancel()
        await asyncio.wait({tasks[7]})
        assert stored(database) == []
        with Witness(settings["endpoints"]["shop.here"]) as witness:
            async with ticking() as ticks:
                await asyncio.gather(*tasks[:7], *tasks[8:])
                assert ticks()
            await wait_until(lambda: len(witness.frames) == 29)
    bodies = witness.bodies("t")
    assert [body["msg"]["n"] for body in bodies] == [n for n in range(30) if n != 7]
    assert [body["seq_id"] for body in bodies] == list(range(bodies[0]["seq_id"], bodies[0]["seq_id"] + 29))
    assert [body["i"] for body in bodies] == list(range(1, 30))
    assert stored(database) == bodies


async def test_what_is_refused_leaves_no_hole_in_the_numbers(settings: dict[str, Any], database: Path) -> None:
    def fail(_envelope: dict[str, Any]) -> None:
        raise ZeroDivisionError

    settings["post_init_sleep"] = 0
    async with FedMsgContext(**settings, max_message_size=1000) as context:
        for _ in range(2):
            await context.publish("t", modname="m")
            with pytest.raises(MessageError, match="max_message_size"):
                await context.publish("t", "x" * 1000, modname="m")
            with pytest.raises(TypeError):
                await context.publish("t", object(), modname="m")
            with pytest.raises(ZeroDivisionError):
                await context.publish("t", modname="m", pre_fire_hook=fail)
    first, second = stored(database)
    assert (second["seq_id"], second["i"]) == (first["seq_id"] + 1, 2)


async def test_cancelled_in_the_middle_it_is_done_to_its_end(settings: dict[str, Any], database: Path) -> None:
    """Cancelled while it is being stored, a message is stored and sent, or neither."""
    with Witness(settings["endpoints"]["shop.here"]) as witness:
        async with FedMsgContext(**settings) as context:
            await context.publish("t", {"n": -1}, modname="m")
            for number in range(100):
                task = asyncio.create_task(context.publish("t", {"n": number}, modname="m"))
                await asyncio.wait({task}, timeout=number / 20_000)
                task.cancel()
                await asyncio.wait({task})
            await context.publish("last", {"n": 100}, modname="m")
            await wait_until(lambda: witness.bodies("last"))
    bodies = [*witness.bodies("t"), *witness.bodies("last")]
    assert bodies == stored(database)
    assert [body["i"] for body in bodies] == list(range(1, len(bodies) + 1))


async def test_the_store_can_not_be_used(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="persistent_store"):
        await FedMsgContext(**{**settings, "persistent_store": True}).open()


# ------------------------------------------------------------------ listening


@contextmanager
def unsigned(_folder: Path) -> Iterator[dict[str, Any]]:
    yield {}


@contextmanager
def certified(folder: Path) -> Iterator[dict[str, Any]]:
    config = Bench(folder).config
    yield {**config, "certnames": {"shop.here": config["certname"]}, "sign_messages": True, "validate_signatures": True}


@contextmanager
def with_gnupg(_folder: Path) -> Iterator[dict[str, Any]]:
    with Home() as home:
        yield {**home.config, "sign_messages": True, "validate_signatures": True}


@pytest.fixture(params=[unsigned, certified, with_gnupg], ids=["unsigned", "x509", "gpg"])
def credentials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with request.param(tmp_path_factory.mktemp("keys")) as config:
        yield config


async def test_what_was_missed_is_heard_in_order(settings: dict[str, Any], credentials: dict[str, Any]) -> None:
    settings.update(credentials)
    # More than can be asked for at once, where it does not take long.
    missed = {"gpg": 30, "x509": 100}.get(credentials.get("crypto_backend", ""), 1100)
    cable = Cable(settings["endpoints"]["shop.here"])
    async with FedMsgContext(**settings) as context, cable.laid():
        listener = FedMsgContext(**{**settings, "mute": True, "endpoints": {"shop.here": cable.address}})
        with replaying(settings):
            async with hearing(listener.tail_messages("org.fedoraproject.dev.wanted")) as heard:
                await wait_until(lambda: _subscribed(context))
                await context.publish("t", {"n": 0}, modname="wanted")
                await wait_until(lambda: heard)
                cable.cut()
                for number in range(1, missed + 1):
                    await context.publish("t", {"n": number}, modname="wanted" if number % 3 else "other")
                assert len(heard) == 1
                before = _subscribed(context)
                cable.mend()
                await wait_until(lambda: _subscribed(context) > before)
                async with ticking() as ticks:
                    await context.publish("t", {"n": missed + 1}, modname="wanted")
                    await wait_until(lambda: numbers(heard)[-1] == missed + 1)
                    assert ticks()
    assert numbers(heard) == [n for n in range(missed + 1) if not n or n % 3] + [missed + 1]
    assert {topic for _, _, topic, _ in heard} == {"org.fedoraproject.dev.wanted.t"}
    assert (listener.gaps["replayed"], listener.gaps["lost"]) == (missed, 0)


def _subscribed(context: FedMsgContext) -> int:
    """Count the subscriptions that a publisher has seen."""
    outlet = context._session.publisher
    assert outlet is not None
    return outlet.sockets[0].subscribed


async def test_a_server_that_is_silent_costs_its_time_and_nothing_else(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings["timeout"] = 0.2
    cable = Cable(settings["endpoints"]["shop.here"])
    endpoints = {"shop.here": cable.address, "other.here": free_address()}
    async with FedMsgContext(**settings) as context, cable.laid():
        endpoints["shop.here"] = cable.address
        listener = FedMsgContext(**{**settings, "mute": True, "endpoints": endpoints})
        async with hearing(listener.tail_messages()) as heard:
            await connected(context, heard)
            cable.cut()
            for number in range(10):
                await context.publish("t", {"n": number}, modname="m")
            before = _subscribed(context)
            cable.mend()
            await wait_until(lambda: _subscribed(context) > before)
            async with ticking() as ticks:
                await context.publish("t", {"n": 10}, modname="m")
                await wait_until(lambda: heard)
                assert ticks()
            await context.publish("t", {"n": 11}, modname="m")
            await wait_until(lambda: len(heard) == 2)
    assert numbers(heard) == [10, 11]
    assert listener.gaps["lost"] == 10
    assert "10 messages of shop.here are lost" in caplog.text
