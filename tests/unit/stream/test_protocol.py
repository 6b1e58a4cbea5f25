# SPDX-License-Identifier: LGPL-2.1-or-later
"""The frames of the stream: what is written can be read, and nothing else does harm."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedmsg.exceptions import UsageError
from fedmsg.stream import begin, protocol
from fedmsg.stream.begin import Begin
from fedmsg.stream.protocol import Malformed, Message
from fedmsg.stream.records import Entry

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
KINDS = sorted(protocol._FIELDS)
anything = st.one_of(
    st.binary(max_size=40), st.sampled_from([protocol.VERSION, *KINDS]), st.binary(min_size=8, max_size=8),
    st.sampled_from([b"{}", b"[]", b"[" * 100_000, b'{"a":' * 5000, b"1" * 10_000, b"\xff", b"NaN"]),
)  # fmt: skip


@given(st.lists(anything, max_size=9), st.booleans())
@example([protocol.OPEN, b"[" * 100_000], True)
def test_decode_raises_nothing_but_malformed(frames: list[bytes], begins_well: bool) -> None:
    with contextlib.suppress(Malformed):
        message = protocol.decode([protocol.VERSION, *frames] if begins_well else frames)
        assert message is None or message.kind in KINDS


@given(
    st.dictionaries(st.sampled_from(["after", "since", "last", "resume", "topics", "durable", "client"]), json_values)
)
def test_options_raise_nothing_but_malformed(options: dict[str, Any]) -> None:
    for read in (begin.begin_of, begin.topics_of, lambda found: protocol.text_of(found, "durable", 255)):
        with contextlib.suppress(Malformed):
            read(options)


def fields_of(kind: bytes) -> st.SearchStrategy[tuple[Any, ...]]:
    of = {
        "n": st.integers(0, 2**63 - 1),
        "o": st.dictionaries(st.text(max_size=5), st.one_of(st.integers(-(2**60), 2**60), st.text(max_size=5))),
        "b": st.binary(max_size=20),
    }
    return st.tuples(*(of[form] for form in protocol._FIELDS[kind]))


@given(st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), fields_of(kind))))
def test_decode_reads_what_encode_writes(written: tuple[bytes, tuple[Any, ...]]) -> None:
    kind, fields = written
    assert protocol.decode(protocol.encode(kind, *fields)) == Message(kind, fields)


numbers = st.integers(0, 2**63 - 1)
few_bytes = st.binary(max_size=20)


microseconds = st.integers(0, 2**52)


@given(numbers, st.lists(st.tuples(numbers, microseconds, few_bytes, few_bytes), max_size=protocol.MANY_MAX))
def test_many_messages_are_read_as_they_were_written(before: int, rows: list[tuple[int, int, bytes, bytes]]) -> None:
    entries = [Entry(position, time / 1e6, topic, body, ()) for position, time, topic, body in rows]
    message = protocol.decode(protocol.encode_many(before, entries))
    assert message is not None
    previous = [before, *(row[0] for row in rows)]
    wanted = [(row[0], last, *row[1:]) for row, last in zip(rows, previous, strict=False)]
    assert protocol.decode_many(*message.fields) == wanted
    if entries:
        assert protocol.decode(protocol.encode_one(before, entries[0])) == Message(protocol.MSG, wanted[0])
    pubs = [(row[0], *row[2:]) for row in rows]
    message = protocol.decode(protocol.encode_pubs(pubs))
    assert message is not None
    assert list(protocol.decode_pubs(*message.fields)) == [(protocol.number(id_), *rest) for id_, *rest in pubs]
    message = protocol.decode(protocol.encode_oks([(protocol.number(row[0]), row[1]) for row in rows]))
    assert message is not None
    assert list(protocol.decode_oks(*message.fields)) == [row[:2] for row in rows]


@given(st.one_of(few_bytes, st.integers(0, 300).map(lambda count: b"\0" * 16 * count)), st.binary(max_size=100))
def test_many_messages_raise_nothing_but_malformed(first: bytes, second: bytes) -> None:
    with contextlib.suppress(Malformed):
        rows = list(protocol.decode_many(first, second))
        assert len(rows) <= protocol.MANY_MAX
        assert b"".join(row[3] + row[4] for row in rows) == second
    with contextlib.suppress(Malformed):
        pubs = list(protocol.decode_pubs(first, second))
        assert len(pubs) <= protocol.MANY_MAX
        assert b"".join(topic + body for _, topic, body in pubs) == second
    with contextlib.suppress(Malformed):
        assert 16 * len(list(protocol.decode_oks(first))) == len(first)


@pytest.mark.parametrize("place", range(3))
def test_many_messages_have_no_number_that_is_too_large(place: int) -> None:
    numbers = bytearray(32)
    assert len(list(protocol.decode_many(bytes(numbers), b""))) == 1
    numbers[8 * place] = 0x80
    with pytest.raises(Malformed, match="too large"):
        protocol.decode_many(bytes(numbers), b"")
    for decode, columns in ((lambda rows: protocol.decode_pubs(rows, b""), 1), (protocol.decode_oks, 2)):
        if place < columns:
            with pytest.raises(Malformed, match="too large"):
                decode(bytes(numbers[:16]))


def test_oks_are_few() -> None:
    assert len(list(protocol.decode_oks(bytes(16 * protocol.MANY_MAX)))) == protocol.MANY_MAX
    with pytest.raises(Malformed):
        protocol.decode_oks(bytes(16 * protocol.MANY_MAX + 16))


def test_decode_ignores_unknown_kinds() -> None:
    assert protocol.decode([b"FM1", b"LATER", b"x"]) is None


@pytest.mark.parametrize(
    "frames",
    [[], [b"FM1"], [b"FM2", b"PING"], [b"FM1", b"PING", b""], [b"FM1", b"ACK"], [b"FM1", b"ACK", b"1"],
     [b"FM1", b"ACK", b"\xff" * 8], [b"FM1", b"OPEN", b"[]"], [b"FM1", b"OPEN", b"{"]],
)  # fmt: skip
def test_decode_rejects(frames: list[bytes]) -> None:
    with pytest.raises(Malformed):
        protocol.decode(frames)


@pytest.mark.parametrize(
    "options",
    [{"after": 1, "last": 1}, {"after": -1}, {"after": ""}, {"after": True}, {"after": 1.5}, {"last": "1"},
     {"since": "90s"}, {"since": -1}, {"since": float("nan")}, {"since": 1e300}, {"after": 2**63}],
)  # fmt: skip
def test_begin_rejects(options: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        begin.begin_of(options)


def test_begin_goes_over_the_wire() -> None:
    for one in (Begin(), Begin(after=3), Begin(after="x", resume=True), Begin(since=1.5), Begin(last=0)):
        message = protocol.decode(protocol.encode(protocol.OPEN, one.options()))
        assert message is not None
        assert begin.begin_of(message.fields[0]) == one


def test_topics() -> None:
    assert begin.topics_of({}) == ()
    assert begin.topics_of({"topics": ["a", "b", "a"]}) == (b"a", b"b")
    assert begin.topics_of({"topics": ["a", ""]}) == ()
    for bad in ("a", [1], ["x" * 5000], ["x"] * 2000, ["\ud800"]):
        with pytest.raises(Malformed):
            begin.topics_of({"topics": bad})


@pytest.mark.parametrize(
    ("since", "seconds"),
    [(5, 5.0), ("5.5", 5.5), ("90s", 9910.0), ("2h", 2800.0), ("1m", 9940.0), ("7d", 0.0),
     ("1970-01-01T00:01:00Z", 60.0), ("1970-01-01T01:01:00+01:00", 60.0)],
)  # fmt: skip
def test_since(since: float | str, seconds: float) -> None:
    assert begin.seconds_of(since, 10_000.0) == seconds


@pytest.mark.parametrize(
    "wrong",
    [{"since": "yesterday"}, {"since": True}, {"since": -1}, {"after": 1, "since": 1}, {"last": -1}, {"after": -1},
     {"since": "nan"}, {"since": "inf"}],
)  # fmt: skip
def test_requested_rejects(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        begin.requested(**wrong)


def test_requested() -> None:
    assert begin.requested() == Begin()
    assert begin.requested(after="first") == begin.requested(after=0) == Begin(after=0)
    assert begin.requested(last=3) == Begin(last=3)


def test_credit_comes_from_the_settings() -> None:
    assert protocol.credit_of({}) == (1000, 4 * 1024 * 1024)
    assert protocol.credit_of({"stream_credit": 5, "stream_credit_bytes": 6}) == (5, 6)
