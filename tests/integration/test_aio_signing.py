# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signing and checking in asyncio: what takes long is done beside the loop, with the same outcome."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg.aio import FedMsgContext
from fedmsg.aio._context import _takes_long
from fedmsg.exceptions import MissingKey, RefusedAtStart
from fedmsg.testing import free_address
from tests.certificates import Bench
from tests.gnupg import Home
from tests.integration.faults.ground import Witness
from tests.integration.loops import connected, hearing, ticking, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def settings(address: str) -> dict[str, Any]:
    return {
        "name": "me.here",
        "endpoints": {"me.here": address},
        "post_init_sleep": 10,
        "sign_messages": True,
        "validate_signatures": True,
    }


@contextmanager
def certified(folder: Path) -> Iterator[dict[str, Any]]:
    config = Bench(folder).config
    yield {**config, "certnames": {"me.here": config["certname"]}}


@contextmanager
def with_gnupg(_folder: Path) -> Iterator[dict[str, Any]]:
    with Home() as home:
        yield home.config


@pytest.fixture(params=[certified, with_gnupg], ids=["x509", "gpg"])
def credentials(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    with request.param(tmp_path) as config:
        yield config


async def test_what_is_signed_is_heard_and_what_is_forged_is_not(
    address: str, settings: dict[str, Any], credentials: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings.update(credentials)
    async with FedMsgContext(**settings) as context, hearing(context.tail_messages()) as heard:
        await connected(context, heard)
        with Witness(address) as witness:
            async with ticking() as ticks:
                for number in range(20):
                    await context.publish("t", {"n": number}, modname="m")
                await wait_until(lambda: len(heard) == 20)
                assert ticks()
            await wait_until(lambda: witness.frames)
            topic, body = witness.frames[-1]
        assert [envelope["msg"]["n"] for *_, envelope in heard] == list(range(20))
        numbers = [envelope["i"] for *_, envelope in heard]
        assert numbers == list(range(numbers[0], numbers[0] + 20))
        assert {envelope["crypto"] for *_, envelope in heard} == {credentials["crypto_backend"]}

    forged = FedMsgContext(**{**settings, "mute": True, "endpoints": {"x": (elsewhere := free_address())}})
    with zmq.Context() as plain, plain.socket(zmq.XPUB) as publisher:
        publisher.bind(elsewhere)
        async with hearing(forged.tail_messages()) as heard:
            await wait_until(lambda: publisher.poll(0))
            with caplog.at_level(logging.CRITICAL, "fedmsg.crypto"):
                for number in range(150):
                    envelope = json.loads(body)
                    envelope["msg"] = {"n": -number}
                    publisher.send_multipart([topic, json.dumps(envelope).encode()])
                publisher.send_multipart([topic, body])
                await wait_until(lambda: heard)
        assert [envelope["msg"] for *_, envelope in heard] == [json.loads(body)["msg"]]
        assert forged.rejections.counts == {"invalid": 150}


async def test_the_hook_runs_in_the_loop_and_what_it_changes_is_signed(
    settings: dict[str, Any], credentials: dict[str, Any]
) -> None:
    settings.update(credentials)
    where = []

    def hook(envelope: dict[str, Any]) -> None:
        where.append(threading.current_thread())
        envelope["msg"] = {"changed": True}

    def fail(_envelope: dict[str, Any]) -> None:
        raise ZeroDivisionError

    async with FedMsgContext(**settings) as context, hearing(context.tail_messages()) as heard:
        await connected(context, heard)
        await context.publish("t", {"changed": False}, modname="m", pre_fire_hook=hook)
        with pytest.raises(ZeroDivisionError):
            await context.publish("t", modname="m", pre_fire_hook=fail)
        await wait_until(lambda: heard)
        assert heard[0][3]["msg"] == {"changed": True}
    assert where == [threading.current_thread()]


async def test_no_key_is_an_error_at_the_start(settings: dict[str, Any]) -> None:
    with pytest.raises(MissingKey, match="certnames"):
        await FedMsgContext(**settings, certnames={}).open()


async def test_a_ca_that_has_to_be_fetched_is_fetched_beside_the_loop(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    nobody = f"https://127.0.0.1:{free_address().rpartition(':')[2]}/ca.crt"
    listener = FedMsgContext(**{**settings, "mute": True}, ca_cert_location=nobody, crl_location=None)
    messages = listener.tail_messages()
    async with ticking() as ticks:
        with caplog.at_level(logging.CRITICAL), pytest.raises(RefusedAtStart, match="signatures can't be checked"):
            await anext(messages)
        assert ticks()


class Signer:
    """Takes so many seconds for a signature."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def credentials(self, _whole: bytes, _msg: bytes) -> dict[str, str]:
        begin = time.perf_counter()
        while time.perf_counter() - begin < self._seconds:
            pass
        return {}


@pytest.mark.parametrize(("seconds", "long"), [(0.0, False), (0.002, True)])
def test_a_key_that_takes_its_time_is_noticed(seconds: float, long: bool) -> None:
    assert _takes_long(Signer(seconds)) is long  # type: ignore[arg-type] # all that is used of one
