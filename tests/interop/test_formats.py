# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tails of both sides show the same messages the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from fedmsg.testing import Process
from tests.interop.lane import Lane, open_lane
from tests.interop.sides import Side, shown

START, END = "here it begins", "here it ends"

MESSAGES: list[dict[str, Any]] = [
    {"log": START},
    {},
    {"log": "é ☃ 😀 日本", "quotes": "\"' \\ /", "long": "many words " * 30},
    {"b": {"z": [1, {"y": None}], "a": True}, "a": {}, "list": list(range(60)), "nested": [[[["deep"] * 9] * 3] * 3]},
    {"numbers": [0, -1, 2**64, 0.1, -0.0, 1e22, 5e-324, float("nan"), float("-inf")]},
    {"user": {"name": "lmacken", "groups": ["a", "b"]}, "log": "who was it"},
    {"log": {"not": "text"}},
]
# What a terminal could obey: the forms of Python and of JSON spell it out on both sides. Otherwise
# fedmsg 1.1.7 hands it to the terminal, and ours does not.
CONTROL = {"log": "\x00\x07\x1b[31m\x85\x9b\u2028\u202e\ufeff\ud800\n\t\r"}

# What a message has besides what every one has.
CREDENTIALS = {"crypto": "x509", "signature": "c2ln" * 90, "certificate": "Y2VydA==" * 90}


@pytest.fixture(scope="module")
def lane(sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """Give a relay of ours."""
    with open_lane(sides["ours"], tmp_path_factory.mktemp("formats") / "bus") as opened:
        yield opened


def publish_all(lane: Lane, *, control: bool) -> None:
    """Publish the messages, one of them under a heartbeat's topic, and one signed."""
    publish = lane.greeter.publish
    for msg in [*MESSAGES, *([CONTROL] if control else [])]:
        publish("shown", msg, "interop")
    publish("_heartbeat", {"log": "still there"}, "interop")
    publish("signed", {"log": "believe me"}, "interop", lambda envelope: envelope.update(CREDENTIALS))
    publish("shown", {"log": END}, "interop")


def excerpt(tail: Process) -> list[str]:
    """The lines from the first message to the last, with whatever colours blanks taken away."""
    lines = [re.sub(r"\x1b\[[0-9;]+m(\s*)\x1b\[39(?:;49;00)?m", r"\1", line) for line in shown(tail)]
    first = next(number for number, line in enumerate(lines) if START in line)
    last = next(number for number, line in enumerate(lines) if END in line)
    return lines[first : last + 1]


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "--pretty",
        "--really-pretty",
        "--pretty --query msg.log",
        "--query msg.user.name,msg.log,topic,nope,msg.log.deeper",
        "--query msg,i,username,timestamp",
        "--exclude signed --include interop|elsewhere",
        "--topic org.fedoraproject.dev.interop.s",
    ],
)
def test_what_a_tail_shows(lane: Lane, sides: dict[str, Side], arguments: str) -> None:
    flags = arguments.split()
    with sides["ours"].tail(lane.folder, *flags) as ours, sides["peer"].tail(lane.folder, *flags) as peer:
        for tail in (ours, peer):
            tail.wait_for(lambda line: True, meanwhile=lambda: lane.greeter.publish("shown", {"log": "?"}, "interop"))
        publish_all(lane, control="--query" not in flags)
        for tail in (ours, peer):
            tail.wait_for(END)
    assert excerpt(ours) == excerpt(peer)
    assert len(excerpt(ours)) > len(MESSAGES)
