# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages as an enemy, or a program with a bug, would send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.integration.faults.ground import PREFIX

TOPIC = f"{PREFIX}.hostile.update"

#: A biggest message that is taken, in bytes, small enough for a test to go beyond it often.
MAX_SIZE = 16 * 1024 * 1024


class Hostile(NamedTuple):
    """A message that has to be refused.

    Attributes:
        kind: The word by which it is counted.
        frames: What is sent.
    """

    kind: str
    frames: list[bytes]


def envelope(**changes: Any) -> dict[str, Any]:
    """Give a good envelope with some changes."""
    good = {"topic": TOPIC, "msg": {"n": 1}, "timestamp": 1700000000, "msg_id": "2023-1", "i": 1, "username": "eve"}
    return {**good, **changes}


def message(body: bytes, topic: bytes = TOPIC.encode()) -> list[bytes]:
    """Give the two frames of a message."""
    return [topic, body]


def around(content: str) -> bytes:
    """Give a body that is good but for what it says."""
    return json.dumps(envelope(msg="@")).replace('"@"', content).encode()


def _frame_counts() -> Iterator[Hostile]:
    good = json.dumps(envelope()).encode()
    for frames in (
        [good],
        [b""],
        [TOPIC.encode()],
        [TOPIC.encode(), good, b""],
        [b""] * 3,
        [TOPIC.encode(), good] * 50,
    ):
        yield Hostile("frames", frames)


def _not_text() -> Iterator[Hostile]:
    for body in (b"\xff", b"\xff\xfe{\x00}\x00", around('"\xe9"').decode().encode("latin-1"), b'{"a":"\xed\xa0\x80"}'):
        yield Hostile("utf-8", message(body))
    for topic in (b"\xff", TOPIC.encode() + b"\xc3", b"\xed\xa0\x80", bytes(range(128, 256))):
        yield Hostile("utf-8", message(json.dumps(envelope()).encode(), topic))


def _not_json() -> Iterator[Hostile]:
    good = json.dumps(envelope())
    for text in (
        "", " ", "null", "true", "[]", "[{}]", '"text"', "17", "NaN", "{", "}", "{]", "nul", "{'a': 1}", good[:-1],
        good + "}", good * 2, good.replace(",", ";"), f"{good},", "\x00", "\ufeff" + good, '{"a":01}', '{"a":"\n"}',
        "[" * 100, "{" * 190,
    ):  # fmt: skip
        yield Hostile("json", message(text.encode()))


def _too_deep() -> Iterator[Hostile]:
    for levels in (201, 5_000, 100_000):
        for opening, closing in (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")):
            yield Hostile("depth", message(around(opening * levels + "1" + closing * levels)))
            yield Hostile("depth", message((opening * levels + "1" + closing * levels).encode()))
    # Brackets in texts don't count, but these stand between some.
    yield Hostile("depth", message(around('["]]]]",' * 300 + "1" + "]" * 300)))
    yield Hostile("depth", message(around('["\\"]",' * 300 + "1" + "]" * 300)))


def _numbers() -> Iterator[Hostile]:
    for number in ("9" * 5_000, "-" + "1" * 4_301, "0." + "3" * 5_000, "1" * 5_000 + ".5", "1e" + "0" * 5_000):
        yield Hostile("number", message(around(number)))
    yield Hostile("number", message(around("[" + "7" * 1_000_000 + "]")))


def _wrong_types() -> Iterator[Hostile]:
    texts: dict[str, list[Any]] = {
        key: [None, 0, 1.5, True, [], {}, ["a"]] for key in ("msg_id", "username", "crypto", "signature", "certificate")
    }
    integers: dict[str, list[Any]] = {key: [None, "1", 1.0, True, [], {}] for key in ("i", "seq_id")}
    numbers: dict[str, list[Any]] = {"timestamp": [None, "1", True, [], {}]}
    for key, values in {**texts, **integers, **numbers}.items():
        for value in values:
            yield Hostile("envelope", message(json.dumps(envelope(**{key: value})).encode()))
    without = envelope()
    del without["msg"]
    yield Hostile("envelope", message(json.dumps(without).encode()))


def _other_topics() -> Iterator[Hostile]:
    without = envelope()
    del without["topic"]
    yield Hostile("topic", message(json.dumps(without).encode()))
    yield Hostile("topic", message(b"{}"))
    others: list[Any] = [
        None,
        1,
        True,
        [TOPIC],
        {},
        "",
        TOPIC + "x",
        TOPIC[:-1],
        TOPIC.upper(),
        TOPIC + "\x00",
        "\ud800",
    ]
    for topic in others:
        yield Hostile("topic", message(json.dumps(envelope(topic=topic)).encode()))
    yield Hostile("topic", message(json.dumps(envelope()).encode(), b"x" * 1_000_000))
    yield Hostile("topic", message(json.dumps(envelope()).encode(), b""))


def small() -> list[Hostile]:
    """Give one of each kind that fits into a message of ordinary size."""
    makers = (_frame_counts, _not_text, _not_json, _too_deep, _numbers, _wrong_types, _other_topics)
    return [one for make in makers for one in make() if sum(map(len, one.frames)) < 100_000]


def big() -> list[Hostile]:
    """Give those that are big, but not too big."""
    makers = (_too_deep, _numbers, _other_topics)
    return [one for make in makers for one in make() if sum(map(len, one.frames)) >= 100_000]


def too_big() -> list[Hostile]:
    """Give those that are bigger than a message may be."""
    filler = b" " * (MAX_SIZE + 1024 * 1024)
    return [
        Hostile("size", message(around('"' + "x" * len(filler) + '"'))),
        Hostile("size", message(filler)),
        Hostile("size", message(b"[" * len(filler))),
        Hostile("size", message(b"{}", filler)),
    ]


def odd_but_good() -> list[list[bytes]]:
    """Give messages that look strange and have to be taken all the same."""
    contents = (
        "NaN", "[Infinity,-Infinity]", "1e999", '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', "9" * 4_300, "-0",
        "1E400", "[" * 190 + "]" * 190, '"' + "[" * 1_000 + '"', '"\\u001b[2J\\u202e\\u2028"', '{"":{"":[]}}',
        '{"a":1,"a":2}', "null", "false", '"\U0001f41f"', '"' + "1" * 10_000 + '"',
    )  # fmt: skip
    messages = [message(around(content)) for content in contents]
    messages.append(message(json.dumps(envelope(timestamp=1.5, unknown=[None], headers=None)).encode()))
    messages.append(message(json.dumps({"topic": TOPIC, "msg": 1}).encode()))
    messages.append(message(around("1").replace(b"1700000000", b"NaN")))
    strange = f"{PREFIX}.\u2028 \x1b[31m\n\U0001f41f"
    messages.append(message(json.dumps(envelope(topic=strange)).encode(), strange.encode()))
    return messages
