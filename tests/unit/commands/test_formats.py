# SPDX-License-Identifier: LGPL-2.1-or-later
"""How messages are shown: as fedmsg 1.x shows them, and harmless whatever they say."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmsg.meta
from fedmsg.commands import _formats
from fedmsg.exceptions import UsageError
from tests.unit.json_values import TEXTS
from tests.unit.plugins import answering, make

HELLO = {
    "topic": "org.fedoraproject.dev.logger.log",
    "msg": {"log": "hello"},
    "timestamp": 1700000000,
    "msg_id": "2023-abc",
    "i": 1,
    "username": "root",
    "crypto": "x509",
    "signature": "sig",
    "certificate": "cert",
}
NASTY = {"topic": "t", "msg": {"s": "e\x1b[31mred\x7f\x85\u2028\u202e\tx\ny"}}

# What fedmsg 1.1.7 printed for HELLO, with TZ=UTC.
PRETTY = """
{'crypto': 'x509',
 'i': 1,
 'msg': {'log': 'hello'},
 'msg_id': '2023-abc',
 'timestamp': 'Tue Nov 14 22:13:20 2023',
 'topic': 'org.fedoraproject.dev.logger.log',
 'username': 'root'}"""
REALLY_PRETTY = """
{
  "topic": "org.fedoraproject.dev.logger.log",
  "msg": {
    "log": "hello"
  },
  "timestamp": 1700000000,
  "msg_id": "2023-abc",
  "i": 1,
  "username": "root",
  "crypto": "x509"
}"""

# Every way in which what a message says gets on the screen without fedmsg.meta.
FLAGS: list[dict[str, Any]] = [
    {},
    {"pretty": True},
    {"really_pretty": True, "color": "never"},
    {"json": True},
    {"query": "msg,topic,msg.s,username"},
]
PAINTED: list[dict[str, Any]] = [{"really_pretty": True}, {"json": True, "color": "always"}]

COLOUR = re.compile("\x1b\\[[0-9;]*m")
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
# As they come out of the decoder, which for one thing joins the halves of a character.
ENVELOPES = st.fixed_dictionaries(
    {"topic": TEXTS, "msg": JSON | st.fixed_dictionaries({"s": JSON})},
    optional={"timestamp": st.integers() | st.floats(), "username": TEXTS, "signature": TEXTS, "extra": JSON},
).map(lambda envelope: json.loads(json.dumps(envelope)))


def show(envelope: dict[str, Any], **flags: Any) -> str:
    return _formats.choose(flags)(envelope)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({}, repr(HELLO)),
        ({"pretty": True}, PRETTY),
        ({"really_pretty": True, "color": "never"}, REALLY_PRETTY),
        ({"query": "msg.log"}, "hello"),
        ({"query": "msg.log, topic,msg.none.deeper,msg"}, f"hello, {HELLO['topic']}, None, {{'log': 'hello'}}"),
        ({"query": ""}, repr(HELLO)),
    ],
)
def test_formats_of_1_x(flags: dict[str, Any], text: str) -> None:
    assert show(HELLO, **flags) == text


def test_json_is_one_compact_line() -> None:
    text = show(HELLO, json=True)
    assert json.loads(text) == HELLO
    assert "\n" not in text
    assert ": " not in text


def test_really_pretty_is_the_same_in_colour() -> None:
    text = show(HELLO, really_pretty=True)
    assert '\x1b[33m"log"\x1b[39;49;00m' in text
    assert "\x1b[34m1700000000\x1b[39;49;00m" in text
    assert COLOUR.sub("", text) == REALLY_PRETTY


@pytest.mark.parametrize(
    ("flags", "no_color", "coloured"),
    [
        ({"really_pretty": True}, None, True),
        ({"really_pretty": True, "color": "auto"}, "", True),
        ({"really_pretty": True}, "1", False),
        ({"really_pretty": True, "color": "never"}, None, False),
        ({"really_pretty": True, "color": "always"}, "1", True),
        ({"json": True}, None, False),
        ({"json": True, "color": "always"}, None, True),
        ({"pretty": True, "color": "always"}, None, False),
        ({"color": "always"}, None, False),
    ],
)
def test_when_there_is_colour(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any], no_color: str | None, coloured: bool
) -> None:
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b[" in show(HELLO, **flags)) is coloured


@pytest.mark.parametrize(
    ("flags", "winner"),
    [
        (["json", "pretty"], "pretty"),
        (["pretty", "really_pretty"], "really_pretty"),
        (["really_pretty", "query"], "query"),
        (["json", "pretty", "really_pretty", "query"], "query"),
    ],
)
def test_of_several_formats_the_last_of_their_order_wins(flags: list[str], winner: str) -> None:
    def value(flag: str) -> Any:
        return "topic" if flag == "query" else True

    assert show(HELLO, **{flag: value(flag) for flag in flags}) == show(HELLO, **{winner: value(winner)})


@pytest.mark.parametrize("timestamp", [None, "x", [], 1e300, float("nan"), -(10**30)])
def test_pretty_shows_a_timestamp_that_is_none_as_it_is(timestamp: Any) -> None:
    assert (
        show({"topic": "t", "timestamp": timestamp}, pretty=True) == f"\n{{'timestamp': {timestamp!r}, 'topic': 't'}}"
    )


def test_pretty_lives_without_timestamp() -> None:
    assert show({"topic": "t"}, pretty=True) == "\n{'topic': 't'}"


def test_nothing_is_changed_in_the_message() -> None:
    envelope = {**HELLO, "msg": {"log": "hello"}}
    for flags in [*FLAGS, *PAINTED]:
        show(envelope, **flags)
    assert envelope == HELLO


@given(ENVELOPES, st.sampled_from(FLAGS))
def test_no_message_reaches_the_terminal_raw(envelope: dict[str, Any], flags: dict[str, Any]) -> None:
    assert not HARMFUL.search(show(envelope, **flags))


@given(ENVELOPES, st.sampled_from(PAINTED))
def test_nor_does_it_in_colour(envelope: dict[str, Any], flags: dict[str, Any]) -> None:
    assert not HARMFUL.search(COLOUR.sub("", show(envelope, **flags)))


@given(ENVELOPES)
def test_json_is_equal_to_the_message(envelope: dict[str, Any]) -> None:
    text = show(envelope, json=True)
    assert "\n" not in text
    # As text, since NaN is not equal to itself.
    assert repr(json.loads(text)) == repr(sorted_deeply(envelope))


def sorted_deeply(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_deeply(value[key]) for key in sorted(value)}
    return [sorted_deeply(one) for one in value] if isinstance(value, list) else value


@given(JSON)
def test_colour_changes_nothing_else(value: Any) -> None:
    text = _formats.choose({"json": True})({"topic": "t", "msg": value})
    assert COLOUR.sub("", _formats._highlighter()(text)) == text


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that says whatever the message says."""
    plugin = make("shop", subtitle=lambda self, msg, **config: msg["msg"]["s"], link=answering("http://x/"))
    monkeypatch.setattr(fedmsg.meta, "processors", [plugin, fedmsg.meta.DefaultProcessor(str)])


SHOP = "org.fedoraproject.dev.shop.x"


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize(
    ("topic", "msg", "line"),
    [
        (SHOP, {"s": "sold a lamp"}, "shop.x -- sold a lamp http://x/"),
        (SHOP, NASTY["msg"], "shop.x -- e\\x1b[31mred\\x7f\\x85\\u2028\\u202e\\tx\\ny http://x/"),
        (SHOP, {"s": "x" * 10_000}, f"shop.x -- {'x' * 4086}…"),
        # Where the processor says nothing, or fails, or there is none.
        (SHOP, {"s": "", "user": "ann"}, "shop.x -- shop x by ann http://x/"),
        (SHOP, {"lamp": 5}, "shop.x -- shop x: lamp=5 http://x/"),
        ("a.b.c.d.e", {"lamp": 5, "x": "\x1b"}, "d.e -- d e: lamp=5, x=\\x1b "),
        ("t", {}, " -- t "),
    ],
)
def test_terse_is_one_harmless_line_after_an_empty_one(topic: str, msg: Any, line: str) -> None:
    assert show({"topic": topic, "msg": msg}, terse=True) == f"\n{line}"


@pytest.mark.usefixtures("meta")
def test_terse_in_colour_is_in_columns() -> None:
    formatter = _formats.choose({"terse": True, "color": "always"})
    lines = [
        formatter({"topic": f"org.fedoraproject.dev.{topic}", "msg": {"s": "\x1b[2J"}})
        for topic in ("shop.x", "shop.longer", f"shop.{'x' * 50}", "shop.x", "other")
    ]
    assert lines[0] == "\n\x1b[36mshop.x\x1b[39m  \\x1b[2J  \x1b[34mhttp://x/\x1b[39m"
    assert COLOUR.sub("", lines[1]) == "\nshop.longer  \\x1b[2J  http://x/"
    assert COLOUR.sub("", lines[3]) == f"\n{'shop.x':<32}  \\x1b[2J  http://x/"
    assert COLOUR.sub("", lines[4]) == f"\n{'other':<32}  other: s=\\x1b[2J"
    assert not HARMFUL.search(COLOUR.sub("", "".join(lines)))


@given(ENVELOPES)
def test_no_message_reaches_the_terminal_raw_in_english(envelope: dict[str, Any]) -> None:
    text = show(envelope, terse=True)
    assert text[0] == "\n"
    assert text.count("\n") == 1
    assert not HARMFUL.search(text)


@pytest.fixture
def cow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of the name that is called, since few machines have the real one."""
    program = tmp_path / "cowsay"
    program.write_text('#!/bin/sh\nprintf "moo \\033[31m: "\ncat\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return program


@pytest.mark.usefixtures("meta", "cow")
def test_cowsay_is_harmless_too() -> None:
    text = show({"topic": SHOP, "msg": {"s": "$(touch pwned)\x1b`touch pwned`\nx"}}, cowsay=True)
    assert text == "\nmoo \\x1b[31m: shop.x -- $(touch pwned)\\x1b`touch pwned`\\nx http://x/"
    assert not Path("pwned").exists()


@pytest.mark.usefixtures("meta")
def test_no_cow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="--cowsay: cowsay: No such file or directory"):
        show(NASTY, cowsay=True)


def test_libraries_are_loaded_for_the_formats_that_need_them() -> None:
    code = (
        "import sys; from fedmsg.commands import _formats\n"
        "for flags in ({}, {'json': True}, {'pretty': True}, {'query': 'topic'}, {'really_pretty': True}):\n"
        "    _formats.choose(flags)({'topic': 't'})\n"
        "    print(sorted({'kitchen', 'six', 'yaml', 'pygments'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "[]", "[]", "[]", "['pygments']"]


@pytest.mark.parametrize("flags", [{"pretty": True}, {"really_pretty": True}, {"json": True, "color": "always"}])
@pytest.mark.parametrize(
    "msg",
    [json.loads("[" * 190 + "1," * 20_000 + "1" + "]" * 190), {str(number): [number] for number in range(200_000)}],
)
def test_what_would_take_minutes_to_lay_out_is_one_line(flags: dict[str, Any], msg: Any) -> None:
    envelope = {"topic": "t", "msg": msg, "timestamp": 1}
    text = _formats.choose(flags)(envelope)
    assert len(text.strip().splitlines()) == 1
    assert len(text) < 2 * len(json.dumps(envelope))
