# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our relay with a store, and around it publishers, tails, hubs and gateways of either side, in every combination."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.testing import Process, free_port, wait_until
from tests.integration.faults.link import Link
from tests.interop.lane import Lane, Sniffer, connect, open_lane
from tests.interop.sides import NAMES, Side, canonical, write_config
from tests.interop.storing import CLASSES, consumed, plugin, stored, storing, tailed, texts, wait_stored
from tests.interop.test_hub import hubs
from tests.interop.test_relay import END, LINES, MESSAGES, check_content, check_fields
from tests.interop.test_signing import BOTH_WAYS, ask
from tests.stream_relays import sqlite_url

#: What a listener has heard of a topic, as text that is equal for equal values.
Heard = Callable[[str], list[str]]


def sniffed(sniffer: Sniffer, topic: str) -> list[str]:
    """Return the bytes that have passed."""
    return [body.decode() for body in sniffer.heard(topic)]


def sniffed_anew(sniffer: Sniffer, topic: str) -> list[str]:
    """Return what has passed behind a gateway of 1.1.7, which writes each body anew, with blanks in it."""
    return [canonical(json.loads(body)) for body in sniffer.heard(topic)]


def subscribed(lane: Lane, topic: str) -> list[str]:
    """Return what ``fedmsg.subscribe`` reads, from the first message to the last."""
    found: dict[int, str] = {}
    with FedMsgContext(**lane.config, mute=True) as context, context.subscribe(topic, after="first") as messages:
        while END not in str([*found.values()][-1:]):
            message = next(messages)
            assert message.position is not None
            found[message.position] = canonical(message[3])
    assert found.items() <= {entry.position: entry.body.decode() for entry in stored(lane, topic)}.items()
    return [*found.values()]


def printed(side: Side, lane: Lane, topic: str) -> list[str]:
    """Return what ``fedmsg-tail`` prints of the stream, byte for byte."""
    return side.ask(lane.folder, "fedmsg-tail", "--topic", topic, "--first", "--until", "now", "--json")


# ---------------------------------------------------------------- the grid


class Grid(NamedTuple):
    """A relay with a store, and all that listen to it.

    Args:
        lane: The relay.
        publishing: Folders with configurations for publishers: without confirms, and with them.
        sent: What publishers have sent, byte for byte.
        tail: A tail.
        bare: A relay without a store, and a plain subscriber of it.
        heard: What each listener has heard.
    """

    lane: Lane
    publishing: dict[bool, Path]
    sent: bytearray
    tail: Process
    bare: tuple[Lane, Sniffer]
    heard: dict[str, Heard]


@contextmanager
def with_hubs(sides: dict[str, Side], lane: Lane, heard: dict[str, Heard]) -> Iterator[None]:
    """Run a hub of each side, each with both consumers."""
    folder = plugin(lane.folder.parent / "plugin")
    with hubs(sides, lane, [folder], {name: {} for name in NAMES}) as running:
        for side, process in running.items():
            for name in CLASSES:
                heard[f"{name} of {side}"] = partial(consumed, process, name)
                process.wait_for(f'["{name}"', meanwhile=lambda: lane.greeter.publish("hello", "hello", "interop"))
        yield


@contextmanager
def with_gateway(sides: dict[str, Side], lane: Lane, gateway: str, heard: dict[str, Heard]) -> Iterator[None]:
    """Run a gateway of a side, and a tail of each behind it."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    inside, outside = (lane.folder.parent / f"{where}-{gateway}" for where in ("inside", "outside"))
    mine = {"fedmsg.consumers.gateway.port": port, "fedmsg.consumers.gateway.high_water_mark": 100_000}
    write_config(inside, {**lane.config, **mine})
    write_config(outside, {**lane.config, "endpoints": {"gateway": [address]}})
    with ExitStack() as stack:
        stack.enter_context(sides[gateway].gateway(inside))
        tails = {name: stack.enter_context(side.tail(outside)) for name, side in sides.items()}
        sniffer = stack.enter_context(Sniffer(address))
        heard |= {f"tail of {name} behind gateway of {gateway}": partial(tailed, tail) for name, tail in tails.items()}
        wire = sniffed if gateway == "ours" else sniffed_anew
        heard[f"wire behind gateway of {gateway}"] = partial(wire, sniffer)
        lane.greet(*tails.values(), sniffer)
        yield


@pytest.fixture(scope="module")
def grid(sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """Give the relay and all that listen, connected."""
    folder = tmp_path_factory.mktemp("grid")
    sent = bytearray()
    with ExitStack() as stack:
        lane = stack.enter_context(open_lane(sides["ours"], folder / "bus", **storing(sqlite_url(folder))))
        links = {
            key: [stack.enter_context(Link(lane.config[key][0], sent)).address]
            for key in ("relay_inbound", "relay_confirmed")
        }
        publishing = {confirm: folder / f"publishing-{confirm}" for confirm in (False, True)}
        for confirm, home in publishing.items():
            write_config(home, {**lane.config, **links, "publish_confirm": confirm})
        tails = {name: stack.enter_context(side.tail(lane.folder)) for name, side in sides.items()}
        sniffer = stack.enter_context(Sniffer(lane.outbound))
        heard: dict[str, Heard] = {f"tail of {name}": partial(tailed, tail) for name, tail in tails.items()}
        heard["wire"] = partial(sniffed, sniffer)
        heard["subscribe"] = partial(subscribed, lane)
        heard["tail of the stream"] = partial(printed, sides["ours"], lane)
        stack.enter_context(with_hubs(sides, lane, heard))
        for gateway in NAMES:
            stack.enter_context(with_gateway(sides, lane, gateway, heard))
        lane.greet(*tails.values(), sniffer)
        bare = stack.enter_context(open_lane(sides["ours"], folder / "bare"))
        behind = stack.enter_context(Sniffer(bare.outbound))
        bare.greet(behind)
        yield Grid(lane, publishing, sent, tails["peer"], (bare, behind), heard)


# Bytes with which a connection of ZeroMQ begins.
_GREETING_SIZE = 64


def passed_on(lane: Lane, sniffer: Sniffer, sent: bytes, topic: str) -> list[str]:
    """Return what another relay makes of what a publisher has sent, when the very same bytes come to it."""
    host, _, port = lane.config["relay_inbound"][0].removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        # Its greeting, and its READY with the length in the second byte; messages come when the relay has answered.
        handshake = _GREETING_SIZE + 2 + sent[_GREETING_SIZE + 1]
        connection.sendall(sent[:handshake])
        answer = b""
        while b"READY" not in answer:
            received = connection.recv(1000)
            assert received, "the relay has closed the connection"
            answer += received
        connection.sendall(sent[handshake:])
        wait_until(lambda: END in str(sniffed(sniffer, topic)[-1:]))
    return sniffed(sniffer, topic)


LISTENERS = [
    *(f"tail of {name}" for name in NAMES),
    *(f"{consumer} of {name}" for consumer in CLASSES for name in NAMES),
    *(f"tail of {name} behind gateway of {gateway}" for gateway in NAMES for name in NAMES),
    *(f"wire behind gateway of {gateway}" for gateway in NAMES),
    "wire",
    "subscribe",
    "tail of the stream",
]
PUBLISHERS = [
    *((name, way, False) for name in NAMES for way in ("library", "logger")),
    *(("ours", way, True) for way in ("library", "logger")),
]


@pytest.fixture(
    scope="module",
    params=PUBLISHERS,
    ids=lambda param: " of ".join(param[1::-1]) + (" with confirms" if param[2] else ""),
)
def published(grid: Grid, sides: dict[str, Side], request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """Let a publisher publish; give its topic, and the bodies as they are in the stream: all, once, in order."""
    name, way, confirm = request.param
    side, topic, started = sides[name], f"grid.{name}.{way}.{confirm}", time.time()
    folder, begin = grid.publishing[confirm], len(grid.sent)
    with side.logger(folder, topic) if way == "logger" else side.library(folder, topic) as speaker:
        connect(side, speaker, grid.tail)
        speaker.say(*(LINES if way == "logger" else MESSAGES))
        speaker.finish()
        wait_stored(grid.lane, speaker.topic, END)
    bodies = texts(grid.lane, speaker.topic)
    said = [json.loads(body) for body in bodies]
    check_content(side, said, [{"log": line.strip()} for line in LINES] if way == "logger" else MESSAGES)
    check_fields(said, started)
    place = 0
    for body in bodies:
        place = grid.sent.find(body.encode(), place) + len(body)
        assert place >= len(body), f"not sent so, or not in this order: {body[:200]}"
    if not confirm:
        assert passed_on(*grid.bare, bytes(grid.sent[begin:]), speaker.topic) == bodies
    return speaker.topic, bodies


@pytest.mark.xdist_group("stream-grid")
@pytest.mark.parametrize("listener", LISTENERS)
def test_everyone_around_a_relay_with_a_store_gets_what_was_sent(
    grid: Grid, published: tuple[str, list[str]], listener: str
) -> None:
    topic, bodies = published
    heard = partial(grid.heard[listener], topic)
    wait_until(lambda: heard()[-1:] == bodies[-1:])
    assert heard() == bodies


SIGNED = ["a line", "é ☃ 😀 日本", "\"quotes' and \\backslashes\\", "x" * 10_000, END]


@BOTH_WAYS
def test_signed_messages_are_valid_live_and_from_the_stream(
    signs: str, checks: str, sides: dict[str, Side], lane_settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**storing(sqlite_url(tmp_path)), **lane_settings, "sign_messages": True, "validate_signatures": True}
    with open_lane(sides["ours"], tmp_path / "bus", **settings) as lane, sides[checks].tail(lane.folder) as tail:
        lane.greet(tail)
        with sides[signs].logger(lane.folder, "signed") as speaker:
            connect(sides[signs], speaker, tail)
            unsigned = {**lane.config, "sign_messages": False, "active": True, "name": "relay_inbound"}
            with FedMsgContext(**unsigned) as context:
                context.publish("signed", {"log": "forged"}, "interop")
            wait_stored(lane, speaker.topic, "forged")
            speaker.say(*SIGNED)
            speaker.finish()
        topic = speaker.topic
        tail.wait_for(END)
        bodies = texts(lane, topic)
        genuine = [body for body in bodies if '"signature"' in body]
        assert len(genuine) == len(bodies) - 1 >= len(SIGNED)
        assert tailed(tail, topic) == genuine
        # What our readers leave out of the stream, and what the other side says of what is in it.
        assert subscribed(lane, topic) == printed(sides["ours"], lane, topic) == genuine
        tasks = (("validate", json.loads(body), lane.config) for body in bodies)
        assert ask(sides[checks], tmp_path, *tasks) == [body in genuine for body in bodies]
