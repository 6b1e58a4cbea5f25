# SPDX-License-Identifier: LGPL-2.1-or-later
"""What identifies a message: its ``msg_id``, found without parsing, and its bytes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg.stream import ids
from tests.unit.stream.messages import body


def expected(content: Any) -> bytes | None:
    found = content.get("msg_id") if isinstance(content, dict) else None
    return found.encode("utf-8", "surrogatepass") if isinstance(found, str) else None


values = st.recursive(
    st.none() | st.integers(-5, 5) | st.text('ab{}"\\é\ud800', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["msg", "msg_id", "a", "timestamp"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values, st.booleans(), st.booleans())
def test_msg_id_is_the_one_that_a_parser_finds(content: Any, is_ascii: bool, is_tight: bool) -> None:
    separators = (",", ":") if is_tight else None
    text = json.dumps(content, ensure_ascii=is_ascii, separators=separators, sort_keys=True)
    raw = text.encode("utf-8", "surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    # Braces in a text before it may hide how deep it lies: then the one that is there is found.
    if "{" not in json.dumps([*_texts(content)]) and "}" not in json.dumps([*_texts(content)]):
        assert ids.msg_id_of(raw) == expected(content)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    if isinstance(content, dict):
        return [text for one in content.values() for text in _texts(one)]
    return [text for one in content for text in _texts(one)] if isinstance(content, list) else []


@pytest.mark.parametrize(
    ("raw", "msg_id"),
    [
        (b"", None),
        (b"no json at all", None),
        (b'{"msg_id":"a"}', b"a"),
        (b'{"msg_id" : "a"}', b"a"),
        (b'{"msg":{"msg_id":"inner"},"msg_id":"outer"}', b"outer"),
        (b'{"msg":{"msg_id":"inner"}}', None),
        (b'{"msg":"\\"msg_id\\":\\"x\\"","msg_id":"a"}', b"a"),
        (b'{"m\\u0073g_id":"a"}', b"a"),
        (b'{"msg_id":"\\u00e9"}', "é".encode()),
        (b'{"msg_id":"\\ud800"}', b"\xed\xa0\x80"),
        (b'{"msg_id":7}', None),
        (b'{"msg_id":"a', None),
        (b'[{"msg_id":"a"}]', None),
        (b'{"msg_id":"' + b"x" * 100_000 + b'"}', b"x" * 100_000),
        (b'{"a":' * 100_000 + b'"msg_id":"b"', None),
    ],
)
def test_msg_id_of_odd_bodies(raw: bytes, msg_id: bytes | None) -> None:
    assert ids.msg_id_of(raw) == msg_id


@pytest.mark.parametrize(
    ("raw", "time"),
    [
        (body(1, timestamp=1_700_000_000), 1_700_000_000.0),
        (body(1, timestamp=1_700_000_000.25), 1_700_000_000.25),
        (b'{"timestamp": 5}', 5.0),
        (b'{"timestamp":"soon"}', math.inf),
        (b"{}", math.inf),
        (b'{"timestamp":' + b"9" * 400 + b"}", 999_999_999_999_999.0),
    ],
)
def test_timestamp_is_read_from_the_text(raw: bytes, time: float) -> None:
    assert ids.timestamp_of(raw) == time


def test_identity_has_the_length_of_the_topic() -> None:
    assert len({ids.identify(b"a", b"bc"), ids.identify(b"ab", b"c"), ids.identify(b"", b"abc")}) == 3


def test_recent_ids_forget_the_oldest() -> None:
    recent = ids.RecentIds()
    keys = [bytes([number]) * 8 for number in range(5)]
    recent.fill(b"".join(ids.make_entry(keys[number], number + 1, bytes(16)) for number in range(4)))
    # The id of the first comes again, with other bytes.
    recent.add(keys[0], ids.make_entry(keys[0], 5, b"x" * 16))
    recent.forget(3)
    assert list(recent.entries) == [keys[3], keys[0]]
    assert ids.last_position(recent.entries[keys[0]], bytes(16)) == 1
    assert ids.last_position(recent.entries[keys[0]], b"x" * 32) == 5
    assert ids.last_position(recent.entries[keys[0]], b"y" * 32) is None
    recent.forget(5)
    assert len(recent) == 0


def test_entries_are_found_where_one_begins() -> None:
    key = b"12345678"
    # The same bytes lie across two entries too.
    entries = ids.make_entry(b"a" * 8, 1, b"x" * 12 + key[:4]) + ids.make_entry(key[4:] + b"zzzz", 2, bytes(16))
    assert ids.with_key(entries, key) == b""
    assert ids.with_key(entries + ids.make_entry(key, 3, bytes(16)), key) == ids.make_entry(key, 3, bytes(16))


def test_one_id_with_ever_other_bytes_takes_no_memory() -> None:
    recent = ids.RecentIds()
    key = b"12345678"
    for position in range(1, 10_000):
        recent.add(key, ids.make_entry(key, position, position.to_bytes(16, "big")))
    assert len(recent.entries[key]) < 1000
    assert ids.last_position(recent.entries[key], (9999).to_bytes(16, "big")) == 9999


def test_position_is_found_among_other_keys() -> None:
    one, two = b"1" * 8, b"2" * 8
    entries = b"".join(ids.make_entry(key, position, b"d" * 16) for position, key in [(1, one), (2, two), (3, two)])
    assert [ids.first_position(entries, key, b"d" * 32) for key in (one, two, b"3" * 8)] == [1, 2, None]
    assert ids.first_position(entries, two, b"e" * 32) is None
