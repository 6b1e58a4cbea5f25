# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-logger`` of either side makes the same messages of the same input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from fedmsg.testing import Process
from tests.interop.lane import Lane, open_lane, send
from tests.interop.sides import NAMES, Side, canonical, envelopes


class Bus(NamedTuple):
    """A relay and a tail of ours that hears what passes through it."""

    lane: Lane
    tail: Process


class Given:
    """What a logger is given: arguments and standard input."""

    def __init__(self, *arguments: str, stdin: str = "") -> None:
        self.arguments = arguments
        self.stdin = stdin


@pytest.fixture(scope="module")
def bus(sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    """Give a relay and a tail of ours."""
    ours = sides["ours"]
    with open_lane(ours, tmp_path_factory.mktemp("logger") / "bus") as lane, ours.tail(lane.folder) as tail:
        lane.greet(tail)
        yield Bus(lane, tail)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("given", "msg"),
    [
        (Given("--message", "  blanks stay "), {"log": "  blanks stay "}),
        (Given("--message", "", stdin="from standard input"), {"log": "from standard input"}),
        (Given("--json-input", "--message", '{"a": [1.0, null, 1e400]}'), {"a": [1.0, None, float("inf")]}),
        (Given("--json-input", stdin='\n{\n "a": "\\ud800"\n}\n'), {"a": "\ud800"}),
        (Given("--json-input", stdin='["no", "object"]'), ["no", "object"]),
    ],
)
def test_input(bus: Bus, sides: dict[str, Side], name: str, given: Given, msg: Any) -> None:
    topic = f"input.{uuid4()}"

    def log() -> None:
        ended = sides[name].run(bus.lane.folder, "fedmsg-logger", "--topic", topic, *given.arguments, stdin=given.stdin)
        assert (ended.returncode, ended.stderr) == (0, "")

    send(sides[name], log, bus.tail, topic)
    heard = [
        envelope for envelope in envelopes(bus.tail) if envelope["topic"] == f"org.fedoraproject.dev.logger.{topic}"
    ]
    assert {canonical(envelope["msg"]) for envelope in heard} == {canonical(msg)}
