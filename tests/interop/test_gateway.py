# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gateway, publisher and tail of either side, in every combination."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from fedmsg.testing import Process, free_address, free_port
from tests.interop.lane import Lane, Sniffer, connect, open_lane
from tests.interop.sides import NAMES, Side, canonical, envelopes, write_config
from tests.interop.test_relay import END, LINES, MESSAGES, check_content, check_fields


class Crossing(NamedTuple):
    """A bus with a gateway of one side, and a tail of each that knows nothing but the gateway."""

    lane: Lane
    gateway: str
    tails: dict[str, Process]
    sniffer: Sniffer


@pytest.fixture(scope="module", params=NAMES, ids="gateway-{}".format)
def crossing(
    request: pytest.FixtureRequest, sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crossing]:
    """Give a gateway of one side with a tail of each behind it."""
    port, outbound = free_port(), free_address()
    endpoints = {"relay_outbound": [outbound], **{f"{name}.here": [free_address()] for name in NAMES}}
    settings = {
        "endpoints": endpoints,
        "fedmsg.consumers.gateway.port": port,
        "fedmsg.consumers.gateway.high_water_mark": 100_000,
    }
    outside = tmp_path_factory.mktemp("outside") / "bus"
    alone = {"gateway": [f"tcp://127.0.0.1:{port}"]}
    write_config(outside, {"environment": "dev", "endpoints": alone, "validate_signatures": False, "zmq_enabled": True})
    with ExitStack() as stack:
        inside = tmp_path_factory.mktemp("inside") / "bus"
        lane = stack.enter_context(open_lane(sides["ours"], inside, **settings))
        gateway = stack.enter_context(sides[request.param].gateway(inside))
        if request.param == "ours":
            # That of 1.1.7 has no way to say so, nor that somebody else has its port.
            gateway.wait_ready()
        tails = {name: stack.enter_context(side.tail(outside)) for name, side in sides.items()}
        sniffer = stack.enter_context(Sniffer(outbound))
        lane.greet(*tails.values(), sniffer)
        yield Crossing(lane, request.param, tails, sniffer)


every_publisher = pytest.mark.parametrize("publisher", NAMES, ids="from-{}".format)


@every_publisher
@pytest.mark.parametrize("way", ["library", "logger"])
def test_what_passes_the_relay_passes_the_gateway_to_each_tail(
    crossing: Crossing, sides: dict[str, Side], way: str, publisher: str
) -> None:
    side, topic, started = sides[publisher], f"{way}.{publisher}", time.time()
    start = side.logger if way == "logger" else side.library
    with start(crossing.lane.folder, topic) as speaker:
        for tail in crossing.tails.values():
            connect(side, speaker, tail)
        speaker.say(*(LINES if way == "logger" else MESSAGES))
        speaker.finish()
        for tail in crossing.tails.values():
            tail.wait_for(lambda line: speaker.topic in line and END in line)
    for tail in crossing.tails.values():
        heard = [envelope for envelope in envelopes(tail) if envelope["topic"] == speaker.topic]
        check_content(side, heard, [{"log": line.strip()} for line in LINES] if way == "logger" else MESSAGES)
        check_fields(heard, started)
        if crossing.gateway == "ours":
            # Behind our gateway the bytes are those that were published.
            frames = crossing.sniffer.take(speaker.topic, len(heard))
            assert [body.decode() for _, body in frames] == [canonical(envelope) for envelope in heard]


@every_publisher
def test_who_binds_is_heard_behind_the_gateway(crossing: Crossing, sides: dict[str, Side], publisher: str) -> None:
    side, topic, tails = sides[publisher], f"bound.{publisher}", crossing.tails.values()
    with side.bound(crossing.lane.folder, topic, f"{publisher}.here") as speaker:
        # Either side binds here with nobody to wait for but the gateway, which looks for it now and then.
        from_the_start = [len(envelopes(tail)) for tail in tails]
        for tail in tails:
            tail.wait_for(speaker.topic, meanwhile=lambda: speaker.say({"number": -1}))
        speaker.say(*MESSAGES)
        for tail in tails:
            tail.wait_for(lambda line: speaker.topic in line and END in line)
        speaker.finish()
    wanted = [canonical(msg or {}) for msg in MESSAGES]
    for tail, start in zip(tails, from_the_start, strict=True):
        heard = [one["msg"] for one in envelopes(tail)[start:] if one["topic"] == speaker.topic]
        assert [canonical(msg) for msg in heard if msg != {"number": -1}][: len(wanted)] == wanted
