# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publisher, logger, announce, relay and tail of either side, in every combination."""

from __future__ import annotations

import getpass
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from fedmsg.testing import Process
from tests.interop.lane import Lane, Sniffer, connect, open_lane, send
from tests.interop.sides import GREETING, NAMES, Side, canonical, envelopes

END = "that was all"

MESSAGES: list[Any] = [
    {},
    {"b": {"z": [1, {"y": None}], "a": True}, "a": {}, "": "empty key", "é": "ключ"},
    {
        "text": "\x00\x1b[31m\x7f\x85\u2028\u202e\"'\\/\n\r\t",
        "lone": "\ud800",
        "pair": "\U0001f600",
        "accent": "e\u0301",
    },
    {"ints": [0, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**64), 10**40]},
    {"floats": [0.1, -0.0, 1.0, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308]},
    {"none": [float("nan"), float("inf"), float("-inf")]},
    {"keys": {"topic": "not mine", "i": 99, "msg": {"msg": {}}, "crypto": "x509"}},
    {"deep": json.loads("[" * 100 + "]" * 100)},
    {"long": "x" * 100_000},
    {"wide": {str(number): number for number in range(1000)}},
    "just text",
    ["a", "list"],
    42,
    1.5,
    True,
    [],
    "",
    0,
    False,
    None,
    *({"number": number} for number in range(100)),
    END,
]
LINES = [
    "a line",
    "  blanks around it \t",
    "",
    "é ☃ 😀 日本",
    '{"looks": "like JSON"}',
    "\x1b[31mred\x1b[0m \x07 \x7f \u2028 \x85 \x0b \x1c",
    "carriage\rreturn\r",
    "\"quotes' and \\backslashes\\",
    "x" * 10_000,
    *(f"line {number}" for number in range(100)),
    END,
]


class Meeting(NamedTuple):
    """A relay of one side, and a tail of each that hears what passes through it."""

    lane: Lane
    relay: str
    tails: dict[str, Process]
    sniffer: Sniffer


@pytest.fixture(scope="module", params=NAMES, ids="relay-{}".format)
def meeting(
    request: pytest.FixtureRequest, sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Meeting]:
    """Give a relay of one side with a tail of each connected to it."""
    with ExitStack() as stack:
        lane = stack.enter_context(open_lane(sides[request.param], tmp_path_factory.mktemp("meeting") / "bus"))
        tails = {name: stack.enter_context(side.tail(lane.folder)) for name, side in sides.items()}
        sniffer = stack.enter_context(Sniffer(lane.outbound))
        lane.greet(*tails.values(), sniffer)
        yield Meeting(lane, request.param, tails, sniffer)


every_publisher = pytest.mark.parametrize("publisher", NAMES, ids="from-{}".format)


@every_publisher
@pytest.mark.parametrize("way", ["library", "logger"])
def test_every_message_arrives_at_each_tail(meeting: Meeting, sides: dict[str, Side], way: str, publisher: str) -> None:
    side, topic, started = sides[publisher], f"{way}.{publisher}", time.time()
    start = side.logger if way == "logger" else side.library
    with start(meeting.lane.folder, topic) as speaker:
        for tail in meeting.tails.values():
            connect(side, speaker, tail)
        speaker.say(*(LINES if way == "logger" else MESSAGES))
        speaker.finish()
        for tail in meeting.tails.values():
            tail.wait_for(lambda line: speaker.topic in line and END in line)

    for tail in meeting.tails.values():
        heard = [envelope for envelope in envelopes(tail) if envelope["topic"] == speaker.topic]
        check_content(side, heard, [{"log": line.strip()} for line in LINES] if way == "logger" else MESSAGES)
        check_fields(heard, started)
        check_frames(meeting, speaker.topic, heard)


def check_content(side: Side, heard: list[dict[str, Any]], said: list[Any]) -> None:
    """Every message arrived, in order; from our side the very first was one of them."""
    first = next(number for number, envelope in enumerate(heard) if GREETING not in str(envelope["msg"]))
    assert [canonical(envelope["msg"]) for envelope in heard[first:]] == [canonical(msg or {}) for msg in said]
    numbers = [envelope["i"] for envelope in heard]
    assert numbers == list(range(numbers[0], numbers[0] + len(heard)))
    if side.waits:
        assert (first, numbers[0]) == (0, 1)


def check_fields(heard: list[dict[str, Any]], started: float) -> None:
    """Every field is there, and is what it is on any bus."""
    for envelope in heard:
        assert envelope.keys() == {"i", "msg", "msg_id", "timestamp", "topic", "username"}
        assert type(envelope["timestamp"]) is int
        assert int(started) <= envelope["timestamp"] <= time.time()
        assert envelope["username"] == getpass.getuser()
        assert re.fullmatch(
            r"\d{4}-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", envelope["msg_id"]
        )
    assert len({envelope["msg_id"] for envelope in heard}) == len(heard)


def check_frames(meeting: Meeting, topic: str, heard: list[dict[str, Any]]) -> None:
    """A tail shows what is on the wire, and that is what the publisher wrote."""
    frames = meeting.sniffer.take(topic, len(heard))
    assert [canonical(json.loads(body)) for _, body in frames] == [canonical(envelope) for envelope in heard]
    if meeting.relay == "ours":
        # The relay of fedmsg 1.1.7 writes each body anew, with blanks in it.
        assert [body.decode() for _, body in frames] == [canonical(envelope) for envelope in heard]


@every_publisher
def test_an_announcement_arrives_at_each_tail(meeting: Meeting, sides: dict[str, Side], publisher: str) -> None:
    side, link = sides[publisher], f"https://example.com/{publisher}"

    def announce() -> None:
        side.announce(meeting.lane.folder, "  down until noon \n\nё\n", link)

    send(side, announce, meeting.tails["ours"], link)
    for tail in meeting.tails.values():
        tail.wait_for(link)
        heard = [envelope for envelope in envelopes(tail) if link in str(envelope["msg"])]
        assert {envelope["topic"] for envelope in heard} == {"org.fedoraproject.dev.announce.announcement"}
        said = {"message": "down until noon\n\nё", "link": link}
        assert [envelope["msg"] for envelope in heard] == [said] * len(heard)
        assert {envelope["i"] for envelope in heard} == {1}
