# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of arguments: what each of them takes, and what it rejects with its name."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fedmsg._web.arguments import BadArgument
from fedmsg.datagrepper import arguments
from fedmsg.datagrepper.asked import Asked, Cursor

NOON = 1_796_040_000.0


def parse(route: str = "/raw", /, **given: str | list[str]) -> dict[str, Any]:
    pairs = [(name, text) for name, value in given.items() for text in ([value] if isinstance(value, str) else value)]
    return arguments.parse(route, pairs)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("start", "1796040000", NOON),
        ("start", "1796040000.25", NOON + 0.25),
        ("start", "0", 0.0),
        ("start", "2026-11-30T12:00:00", NOON),
        ("start", "2026-11-30 12:00:00", NOON),
        ("start", "2026-11-30", NOON - 43200),
        ("start", "2026-11-30T12:00:00Z", NOON),
        ("start", "2026-11-30T13:00:00+01:00", NOON),
        # What an unescaped plus arrives as.
        ("start", "2026-11-30T13:00:00 01:00", NOON),
        ("end", "-5", -5.0),
        ("delta", "3600", 3600.0),
        ("user", ["toshio", "ralph", "toshio"], ["toshio", "ralph"]),
        ("user", ["", "ralph"], ["ralph"]),
        ("page", "7", 7),
        ("rows_per_page", "100", 100),
        ("order", "asc", "asc"),
        ("meta", ["title", "link,icon"], ["title", "link", "icon"]),
        ("fields", "topic,-msg", ["topic", "-msg"]),
        ("grouped", "Yes", True),
        ("grouped", "0", False),
        ("callback", "jQuery19.cb_1", "jQuery19.cb_1"),
        ("size", "extra-large", "extra-large"),
        ("page", ["", "3"], 3),
        ("page", ["2", "3"], 2),
        ("page", "", 1),
    ],
)
def test_an_argument_is_read(name: str, text: str | list[str], value: object) -> None:
    assert parse(**{name: text})[name] == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("start", "yesterday"), ("start", "nan"), ("start", "inf"), ("start", "1e300"), ("start", "2026-13-01"),
        ("end", "99999-01-01"), ("delta", "-1"), ("delta", "x"), ("delta", "1e12"), ("page", "0"), ("page", "-1"),
        ("page", "1.5"), ("page", "99999999999999999999"), ("page", "٣"), ("rows_per_page", "0"),
        ("rows_per_page", "101"), ("rows_per_page", "400"), ("order", "up"), ("meta", "nothing"), ("fields", "nothing"),
        ("grouped", "perhaps"), ("callback", "alert(1)"), ("callback", "a..b"), ("callback", "a-b"),
        ("callback", "x" * 300), ("callback", "é"), ("size", "huge"), ("count", "some"), ("format", "pdf"),
        ("user", "a\x00b"), ("contains", "\ud800"), ("topic", "x" * 5000), ("user", ["x"] * 1001),
        ("start", "T" * 5000), ("rows_per_page", "1" * 5000), ("q", "a " * 31),
    ],
)  # fmt: skip
def test_a_bad_argument_is_named(name: str, text: str | list[str]) -> None:
    with pytest.raises(BadArgument) as caught:
        parse(**{name: text})
    assert caught.value.name == name
    assert len(str(caught.value)) < 400


def test_unknown_arguments_are_ignored() -> None:
    assert parse(_="1796040000", nothing="x") == parse()


def asked(default_delta: float | None = None, /, **given: str) -> Asked:
    return Asked.of(parse(**given), default_delta=default_delta, has_page="page" in given)


@pytest.mark.parametrize(
    ("given", "times"),
    [
        ({"start": "100", "end": "250"}, (100.0, 250.0, 150.0)),
        ({"start": "100", "end": "250", "delta": "7"}, (100.0, 250.0, 150.0)),
        ({"start": "100", "delta": "50"}, (100.0, 150.0, 50.0)),
        ({"end": "100", "delta": "30"}, (70.0, 100.0, 30.0)),
        ({"end": "100"}, (0.0, 100.0, 100.0)),
        ({}, (None, None, None)),
    ],
)
def test_times(given: dict[str, str], times: tuple[float | None, ...]) -> None:
    found = asked(**given)
    assert (found.start, found.end, found.delta) == times


def test_times_up_to_now() -> None:
    before = time.time()
    alone, back, all_time, usual = asked(start="100"), asked(delta="60"), asked(60.0, start="0"), asked(60.0)
    after = time.time()
    for found in (alone, back, all_time, usual):
        assert found.end is not None
        assert before <= found.end <= after
    assert (alone.start, all_time.start) == (100.0, 0.0)
    for found in (back, usual):
        assert found.start is not None
        assert before - 60 <= found.start <= after - 60
    assert asked(60.0, end="100").start == 40.0


def test_a_cursor_keeps_its_order_and_times() -> None:
    cursor = Cursor("asc", "MTIzLjQ", 100.0, 200.0)
    found = asked(cursor=str(cursor), delta="60")
    assert found.cursor == cursor
    assert (found.order, found.start, found.end) == ("asc", 100.0, 200.0)


@pytest.mark.parametrize(
    "text",
    ["x", "!", "W10", str(Cursor("up", "a", None, None)), str(Cursor("asc", "a", None, 1.0)), "WzEsMiwzLDRd", "é",
     "W1sxXSwyLDMsNF0", str(Cursor("asc", "a", 1e300, 1e300))],
)  # fmt: skip
def test_what_is_no_cursor_is_rejected(text: str) -> None:
    with pytest.raises(BadArgument, match="cursor"):
        asked(cursor=text)


def test_a_cursor_goes_without_a_page() -> None:
    with pytest.raises(BadArgument, match="cursor"):
        asked(cursor=str(Cursor("asc", "MTIzLjQ", None, None)), page="2")


@pytest.mark.parametrize(
    ("given", "is_allowed"),
    [
        ({"delta": "3600", "topic": "a.b"}, True),
        ({"delta": "3600", "category": "bodhi"}, True),
        ({"delta": "3600"}, False),
        ({"category": "bodhi"}, False),
        ({"category": "bodhi", "start": "100"}, False),
        ({"category": "bodhi", "delta": str(33 * 7 * 86400)}, False),
    ],
)
def test_contains_needs_a_time_and_a_topic(given: dict[str, str], is_allowed: bool) -> None:
    found = asked(contains="x", **given)
    if is_allowed:
        found.check_contains()
    else:
        with pytest.raises(BadArgument, match="contains"):
            found.check_contains()


def test_every_argument_has_help_and_a_schema() -> None:
    for row in arguments.TABLE.values():
        assert row.help.endswith("."), row.name
        assert row.kind.schema["type"] in {"string", "number", "integer"}
        if row.example:
            row.read([row.example])
