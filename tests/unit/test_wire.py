# SPDX-License-Identifier: LGPL-2.1-or-later
"""Envelopes: what is built is canonical, what is hostile is refused with its kind."""

from __future__ import annotations

import json
import os
import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg import _wire
from fedmsg.exceptions import MessageError

TOPIC = "org.fedoraproject.dev.bodhi.update"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def envelope(**changes: object) -> dict[str, object]:
    return {"topic": TOPIC, "msg": {}, "timestamp": 1, "msg_id": "2026-x", "i": 1, "username": "u", **changes}


def parse(body: object, topic: str = TOPIC) -> dict[str, object]:
    return _wire.parse(topic.encode(), json.dumps(body).encode())


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("org.fedoraproject", "dev", "bodhi", "update"), "org.fedoraproject.dev.bodhi.update"),
        (("org.fedoraproject", "dev", "org", "fedoraproject.x.y"), "org.fedoraproject.x.y"),
        (("bodhi", "stg", "bodhi", "update"), "bodhi.update"),
    ],
)
def test_full_topic(parts: tuple[str, str, str, str], expected: str) -> None:
    assert _wire.full_topic(*parts) == expected


@given(msg=json_values, topic=st.text(), username=st.text(), i=st.integers(1), timestamp=st.integers(0))
def test_the_fast_way_and_the_canonical_way_give_the_same_bytes(
    msg: object, topic: str, username: str, i: int, timestamp: int
) -> None:
    fields = {"i": i, "msg": msg, "msg_id": "2026-x", "timestamp": timestamp, "topic": topic}
    fast = _wire.encode_new(
        i=i, msg=msg, msg_id="2026-x", timestamp=timestamp, topic=topic, username=_wire.quoted(username)
    )
    assert fast == json.dumps({**fields, "username": username}, sort_keys=True, separators=(",", ":")).encode()
    assert fast == _wire.encode({**fields, "username": username}, topic)


@given(msg=json_values, topic=st.text(st.characters(codec="utf-8")))
def test_what_is_built_is_accepted(msg: object, topic: str) -> None:
    body = _wire.encode_new(i=1, msg=msg, msg_id="2026-x", timestamp=1, topic=topic, username='"u"')
    assert json.dumps(_wire.parse(topic.encode(), body)["msg"], sort_keys=True) == json.dumps(msg, sort_keys=True)


def test_message_ids_are_the_year_and_a_fresh_uuid4() -> None:
    ids = [_wire.message_id(time.time()) for _ in range(1000)]
    assert len(set(ids)) == 1000
    for each in ids:
        year, _, rest = each.partition("-")
        assert year == str(time.localtime().tm_year)
        assert uuid.UUID(rest).version == 4
        assert uuid.UUID(rest).variant == uuid.RFC_4122
        assert re.fullmatch(r"[0-9a-f-]{36}", rest)


def test_the_year_follows_the_clock_in_both_directions() -> None:
    summer_2030, summer_2026 = 1909000000.0, 1782000000.0
    years = [_wire.message_id(when)[:5] for when in (summer_2026, summer_2030, summer_2026)]
    assert years == ["2026-", "2030-", "2026-"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_draws_ids_of_its_own() -> None:
    _wire.message_id(time.time())  # the parent now has a stock of them
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, _wire.message_id(time.time()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert theirs not in {_wire.message_id(time.time()) for _ in range(300)}


@pytest.mark.parametrize(
    "body",
    [
        envelope(timestamp=1.5),
        envelope(msg=None),
        envelope(msg="text"),
        envelope(unknown={"a": [1]}, headers={}),
        envelope(seq_id=7, crypto="x509", signature="s", certificate="c"),
        {"topic": TOPIC, "msg": 1},
        envelope(msg=["[" * 300, '"' * 300, "\\" * 301, "9" * 5000]),
        envelope(msg=[[]] * 5000),
    ],
)
def test_accepted(body: dict[str, object]) -> None:
    assert parse(body) == body


@pytest.mark.parametrize("bad", [None, True, "1", [], {}])
@pytest.mark.parametrize("key", ["timestamp", "i", "seq_id"])
def test_a_number_of_another_type_is_refused(key: str, bad: object) -> None:
    with pytest.raises(MessageError, match=f"'{key}'") as caught:
        parse(envelope(**{key: bad}))
    assert caught.value.kind == "envelope"


@pytest.mark.parametrize("bad", [None, True, 1, [], {}])
@pytest.mark.parametrize("key", ["msg_id", "username", "crypto", "signature", "certificate"])
def test_a_text_of_another_type_is_refused(key: str, bad: object) -> None:
    with pytest.raises(MessageError, match=f"'{key}'"):
        parse(envelope(**{key: bad}))


@pytest.mark.parametrize("key", ["i", "seq_id"])
def test_a_fraction_is_no_integer(key: str) -> None:
    with pytest.raises(MessageError, match=f"'{key}'"):
        parse(envelope(**{key: 1.0}))


@pytest.mark.parametrize("depth", [201, 1000, 300_000])
@pytest.mark.parametrize("opening", ["[", '{"a":', '[0,{"b":', '[[],{"c":[1]},'])
def test_deep_nesting_is_refused_before_it_is_parsed(opening: str, depth: int) -> None:
    closing = "".join({"[": "]", "{": "}"}[c] for c in reversed(opening) if c in "[{")
    body = f'{{"topic":"{TOPIC}","msg":{opening * depth}1{closing * depth}}}'.encode()
    with pytest.raises(MessageError):
        _wire.parse(TOPIC.encode(), body)


@pytest.mark.parametrize(("depth", "accepted"), [(199, True), (200, False)])
def test_the_limit_of_nesting_is_exact(depth: int, accepted: bool) -> None:
    body = f'{{"topic":"{TOPIC}","msg":{"[" * depth}{"]" * depth}}}'.encode()
    if accepted:
        assert _wire.parse(TOPIC.encode(), body)["topic"] == TOPIC
    else:
        with pytest.raises(MessageError, match="deeper than 200") as caught:
            _wire.parse(TOPIC.encode(), body)
        assert caught.value.kind == "depth"


@pytest.mark.parametrize("number", ["9" * 4301, "-" + "1" * 5000, "0." + "1" * 5000])
def test_endless_numbers_are_refused(number: str) -> None:
    with pytest.raises(MessageError, match="digits") as caught:
        _wire.parse(TOPIC.encode(), f'{{"topic":"{TOPIC}","msg":{number}}}'.encode())
    assert caught.value.kind == "number"


def test_a_number_of_4300_digits_passes() -> None:
    number = "9" * 4300
    body = f'{{"topic":"{TOPIC}","msg":{number}}}'.encode()
    assert _wire.parse(TOPIC.encode(), body)["msg"] == int(number)


@pytest.mark.parametrize(
    ("frame", "body", "kind"),
    [
        (b"\xff\xfe", b"{}", "utf-8"),
        (TOPIC.encode(), b'{"topic":"\xff"}', "utf-8"),
        (TOPIC.encode(), b"", "json"),
        (TOPIC.encode(), b"{", "json"),
        (TOPIC.encode(), b"null", "json"),
        (TOPIC.encode(), b"[]", "json"),
        (TOPIC.encode(), b'"text"', "json"),
        (TOPIC.encode(), b"{} {}", "json"),
        (TOPIC.encode(), b'\xef\xbb\xbf{"topic":"x"}', "json"),
        (TOPIC.encode(), b"[" * 100_000, "depth"),
        (TOPIC.encode(), b'{"msg":1}', "topic"),
        (TOPIC.encode(), b'{"topic":null,"msg":1}', "topic"),
        (b"", b'{"topic":null,"msg":1}', "topic"),
        (TOPIC.encode(), b'{"topic":"other","msg":1}', "topic"),
        (TOPIC.encode(), f'{{"topic":"{TOPIC}"}}'.encode(), "envelope"),
    ],
)
def test_refused_with_its_kind(frame: bytes, body: bytes, kind: str) -> None:
    with pytest.raises(MessageError) as caught:
        _wire.parse(frame, body)
    assert caught.value.kind == kind


@given(frame=st.binary(max_size=20), body=st.binary(max_size=600))
def test_garbage_never_gets_past_the_error_of_ours(frame: bytes, body: bytes) -> None:
    with pytest.raises(MessageError):
        _wire.parse(frame, body)


@given(frame=st.text(max_size=10).map(lambda t: t.encode(errors="replace")), body=json_values)
def test_any_json_is_parsed_or_refused(frame: bytes, body: object) -> None:
    try:
        parsed = _wire.parse(frame, json.dumps(body).encode())
    except MessageError:
        return
    assert parsed["topic"] == frame.decode()


def test_what_is_too_large_is_refused() -> None:
    _wire.check_size(10, 10)
    with pytest.raises(MessageError, match=r"11 bytes.*max_message_size.*10") as caught:
        _wire.check_size(11, 10)
    assert caught.value.kind == "size"


def test_a_hook_can_not_make_an_envelope_that_receivers_refuse() -> None:
    with pytest.raises(MessageError, match="'i' is not an integer"):
        _wire.encode(envelope(i="1"), TOPIC)
    with pytest.raises(MessageError, match="topic"):
        _wire.encode(envelope(topic="another"), TOPIC)


def test_publishing_what_receivers_refuse_is_an_error_at_once() -> None:
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(MessageError, match="deeper"):
        _wire.encode_new(i=1, msg=deep, msg_id="x", timestamp=1, topic="t", username='"u"')


def test_a_stored_message_is_parsed_without_its_topic_frame() -> None:
    good = envelope(seq_id=7)
    assert _wire.parse_stored(json.dumps(good).encode()) == good


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "json"), (b"[]", "json"), (b"\xff", "utf-8"), (b"{}", "topic"), (b'{"topic":1}', "topic"),
        (b'{"topic":"a"}', "envelope"), (b'{"topic":"a","msg":1,"seq_id":"1"}', "envelope"),
        (b'{"topic":"a","msg":' + b"[" * 300 + b"]" * 300 + b"}", "depth"),
    ],
)  # fmt: skip
def test_a_stored_message_that_is_none_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(MessageError) as caught:
        _wire.parse_stored(body)
    assert caught.value.kind == kind


def test_topics_are_bounded() -> None:
    longest = "é" * (_wire.MAX_TOPIC_BYTES // 2)
    body = json.dumps({"topic": longest, "msg": {}}).encode()
    assert _wire.parse(longest.encode(), body)["topic"] == longest
    assert _wire.parse_stored(body)["topic"] == longest
    with pytest.raises(MessageError, match="its topic has 4097 bytes, more than the 4096"):
        _wire.parse(longest.encode() + b"x", body)
    for topic in (longest + "x", "x" * (_wire.MAX_TOPIC_BYTES + 1)):
        with pytest.raises(MessageError, match="its topic has 4097 bytes") as caught:
            _wire.parse_stored(json.dumps({"topic": topic, "msg": {}}).encode())
        assert caught.value.kind == "topic"
