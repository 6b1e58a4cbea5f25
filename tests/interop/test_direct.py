# SPDX-License-Identifier: LGPL-2.1-or-later
"""Without a relay: publishers that bind their own addresses, and a listener that binds for them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process, free_address
from tests.interop.lane import connect, greet
from tests.interop.sides import GREETING, NAMES, Side, Speaker, canonical, envelopes, write_config

MESSAGES: list[Any] = [{"number": number, "text": "é\ud800", "float": 1e22} for number in range(100)]
END = {"last": "that was all"}


def heard(listener: Process) -> list[Any]:
    """What a ``listen.py`` has printed, without greetings."""
    return [line for line in map(json.loads, list(listener.out)) if line[3]["msg"] != GREETING]


def hears_the_end(listener: Process, speaker: Speaker) -> None:
    """Wait until the last message of a publisher has arrived."""
    listener.wait_for(lambda line: speaker.topic in line and END["last"] in line)


def check(found: list[dict[str, Any]], *, from_the_first: bool) -> None:
    """The envelopes hold all messages in order, the very first included where that is promised."""
    assert canonical([envelope["msg"] for envelope in found]) == canonical([*MESSAGES, END])
    numbers = [envelope["i"] for envelope in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(found)))
    if from_the_first:
        assert numbers[0] == 1


@pytest.mark.parametrize("tail", NAMES, ids="tail-{}".format)
@pytest.mark.parametrize("publisher", NAMES, ids="from-{}".format)
def test_a_tail_connects_to_a_publisher(sides: dict[str, Side], tmp_path: Path, publisher: str, tail: str) -> None:
    write_config(tmp_path, {"endpoints": {"app.host": [free_address()]}, "zmq_enabled": True})
    side = sides[publisher]
    with sides[tail].tail(tmp_path) as listener, side.bound(tmp_path, "direct", "app.host") as speaker:
        connect(side, speaker, listener)
        speaker.say(*MESSAGES, END)
        speaker.finish()
        listener.wait_for(END["last"])
    found = [envelope for envelope in envelopes(listener) if envelope["msg"] != GREETING]
    check(found, from_the_first=side.waits)


def test_listeners_know_who_said_it_where(sides: dict[str, Side], tmp_path: Path) -> None:
    """Two publishers of either side, which have several addresses each, and a listener of either side."""
    names = {f"app{number}.{side}": side for number in (1, 2) for side in NAMES}
    endpoints = {name: [free_address(), free_address()] for name in names}
    write_config(tmp_path, {"endpoints": endpoints, "zmq_enabled": True})
    with ExitStack() as stack:
        listeners = [stack.enter_context(side.listen(tmp_path, topic="org.fedoraproject")) for side in sides.values()]
        speakers = {name: stack.enter_context(sides[side].bound(tmp_path, name, name)) for name, side in names.items()}
        for speaker in speakers.values():
            # A publisher waits for its first listener; of the second it knows nothing.
            greet(speaker, *listeners)
            speaker.say(*MESSAGES, END)
        for speaker in speakers.values():
            speaker.finish()
            for listener in listeners:
                hears_the_end(listener, speaker)
    for listener in listeners:
        for name, speaker in speakers.items():
            found = [line for line in heard(listener) if line[2] == speaker.topic]
            assert {tuple(line[:2]) for line in found} == {(name, endpoints[name][0])}
            assert {line[3]["topic"] for line in found} == {speaker.topic}
            check([line[3] for line in found], from_the_first=False)
    ours, peers = ([canonical(line) for line in sorted(heard(listener), key=canonical)] for listener in listeners)
    assert ours == peers


@pytest.mark.parametrize("publisher", NAMES, ids="from-{}".format)
def test_a_publisher_connects_to_our_passive_listener(sides: dict[str, Side], tmp_path: Path, publisher: str) -> None:
    address, side = free_address(), sides[publisher]
    write_config(
        tmp_path,
        {"endpoints": {"bound.here": [address]}, "relay_inbound": [address], "zmq_enabled": True, "timeout": 20},
    )
    with sides["ours"].listen(tmp_path, passive=True) as listener, side.library(tmp_path, "passive") as speaker:
        connect(side, speaker, listener)
        speaker.say(*MESSAGES, END)
        speaker.finish()
        listener.wait_for(END["last"])
    found = heard(listener)
    assert {tuple(line[:2]) for line in found} == {("bound.here", address)}
    check([line[3] for line in found], from_the_first=side.waits)
