# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was stored comes back as it was published, so that its signature can be checked, whatever is in it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto, encoding
from fedmsg.exceptions import MessageError
from tests.certificates import Bench
from tests.satellites.messages import START, message

CORPUS = Path(__file__).parent.parent / "unit" / "crypto" / "corpus"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("signing"))


def handed_out(history: Any, envelope: dict[str, Any]) -> dict[str, Any]:
    """Store an envelope, and return what the history hands out, as JSON brings it to a program elsewhere."""
    history.add_many([{"topic": envelope["topic"], "body": envelope, "headers": {}}])
    history.session.expire_all()
    (found,) = history.session.scalars(history.Message.make_query()).all()
    brought: dict[str, Any] = encoding.loads(encoding.dumps(found.as_dict()))
    return brought


def test_the_messages_of_a_corpus_stay_valid(history: Any) -> None:
    config = {
        "ca_cert_location": str(CORPUS / "ca.crt"), "crl_location": str(CORPUS / "crl.pem"),
        "crypto_validate_backends": ["x509"],
    }  # fmt: skip
    signed = [json.loads(line) for line in (CORPUS / "valid.jsonl").read_text(encoding="ascii").splitlines()]
    assert history.add_many([{"topic": one["topic"], "body": one} for one in signed]) == len(signed)
    for one in signed:
        found = history.Message.from_msg_id(one["msg_id"]).as_dict()
        assert crypto.validate(crypto.as_signed(found, config), **config)
        changed = {**found, "i": found["i"] + 1}
        assert not crypto.validate(crypto.as_signed(changed, config), **config)


ODD_ENVELOPES: dict[str, dict[str, Any]] = {
    "seq_id": {"seq_id": 7},
    "large number": {"msg": {"n": 1e16, "m": 1.5e300, "k": 10**40}},
    "negative zero": {"msg": {"n": -0.0}},
    "small number": {"msg": {"n": 1e-7, "m": 5e-324, "k": 0.1, "l": 1.0}},
    "not a number": {"msg": {"n": float("nan"), "m": float("inf")}},
    "NUL": {"msg": {"a\x00b": "c\x00"}},
    "lone surrogate": {"msg": {"\udc00": "\ud800"}},
    "pair": {"msg": {"text": "\U0001f600 é", "backslash": "\\u0000 \\ud800"}},
    "controls": {"msg": {"text": "a\tb\nc\rd\x1f\x7f\u2028\\N\\."}},
    "words": {"msg": {"text": "NaN Infinity e+ -0.0"}},
    "float timestamp": {"timestamp": START + 0.25},
    "fine timestamp": {"timestamp": START + 0.1234567},
    "old timestamp": {"timestamp": -1},
    "early timestamp": {"timestamp": 86400},
    "huge timestamp": {"timestamp": 10**15},
    "extra key": {"colour": "red"},
    "headers": {"headers": {"a": "b"}},
    "odd headers": {"headers": {"a": "\x00", "n": 1e16}},
    "no username": {"username": None},
    "long topic": {"topic": "org.fedoraproject.dev.shop." + "é" * 1500},
    "long id": {"msg_id": "2026-" + "x" * 5000},
    "odd topic": {"topic": "org.fedoraproject.dev.a\x00b.\ud800"},
    "odd id": {"msg_id": "2026-\x00\ud800"},
    "large i": {"i": 2**70},
    "no object": {"msg": None},
    "list": {"msg": [[], {}, "", 0, False]},
    "text": {"msg": "text"},
    "key order": {"msg": {"b": 1, "aa": 2, "a": {"z": 1, "y": 2}}},
}


@pytest.mark.parametrize("name", sorted(ODD_ENVELOPES))
def test_an_odd_message_stays_valid(history: Any, bench: Bench, name: str) -> None:
    envelope = {**message()["body"], **ODD_ENVELOPES[name]}
    envelope = {key: value for key, value in envelope.items() if value is not None or key == "msg"}
    config = {**bench.config, "max_message_age": 0}
    signed = crypto.sign(envelope, **config)
    signed = encoding.loads(encoding.dumps(signed))
    assert crypto.validate(signed, **config)
    found = handed_out(history, signed)
    cleaned = crypto.as_signed(found, config)
    assert crypto.validate(cleaned, **config)
    assert encoding.dumps(cleaned) == encoding.dumps(signed)
    # What is stored of it is found again.
    assert history.Message.grep(topics=[signed["topic"]])[0] == 1
    assert history.Message.from_msg_id(signed["msg_id"]) is not None


PLAIN = [
    "small number",
    "pair",
    "controls",
    "words",
    "seq_id",
    "float timestamp",
    "headers",
    "list",
    "key order",
    "no username",
]


@pytest.mark.parametrize("name", sorted(ODD_ENVELOPES))
def test_the_original_is_kept_only_where_the_columns_do_not_do(history: Any, name: str) -> None:
    envelope = {**message()["body"], **ODD_ENVELOPES[name]}
    handed_out(history, envelope)
    (found,) = history.session.scalars(history.Message.make_query()).all()
    assert (found.original is None) == (name in [*PLAIN, "no object", "text"])


@pytest.mark.parametrize(
    "timestamp",
    [
        -1,
        0,
        86400,
        946684799,
        1e300,
        10**400,
        pytest.param(time.time() + 90000, id="beyond a day"),
        "now",
        None,
        True,
        float("nan"),
    ],
)
def test_an_odd_time_is_that_of_the_arrival_and_marked(history: Any, timestamp: Any) -> None:
    envelope = {**message()["body"], "timestamp": timestamp}
    history.add_many([{"topic": envelope["topic"], "body": envelope, "stored": START + 0.5}])
    (found,) = history.session.scalars(history.Message.make_query()).all()
    assert found.is_time_of_arrival
    assert history.Message.grep(start=START + 0.5, end=START + 0.5)[0] == 1
    # The same bytes at another time are the same message.
    assert history.add_many([{"topic": envelope["topic"], "body": envelope, "stored": START + 99}]) == 0
    other = {**envelope, "msg": "other"}
    assert history.add_many([{"topic": envelope["topic"], "body": other, "stored": START + 99}]) == 1


@pytest.mark.parametrize("timestamp", [946684800, START + 0.5, pytest.param(time.time() + 80000, id="within a day")])
def test_an_ordinary_time_is_kept(history: Any, timestamp: float) -> None:
    history.add(message(timestamp=timestamp))
    (found,) = history.session.scalars(history.Message.make_query()).all()
    assert not found.is_time_of_arrival
    assert found.as_dict()["timestamp"] == pytest.approx(timestamp, abs=1e-6)


def test_a_message_without_an_id_gets_the_same_one_each_time(history: Any) -> None:
    body = message(timestamp=START)["body"]
    del body["msg_id"]
    assert history.add_many([{"topic": body["topic"], "body": body}] * 2) == 1
    assert history.add_many([{"topic": body["topic"], "body": dict(body)}]) == 0
    (found,) = history.session.scalars(history.Message.make_query()).all()
    assert found.msg_id.startswith("2020-")
    assert history.add_many([{"topic": body["topic"], "body": body, "headers": {"message-id": "given"}}]) == 1
    assert history.Message.from_msg_id("given") is not None


def test_headers_of_the_transport_are_stored_with_an_unsigned_message(history: Any) -> None:
    one = message()
    one["headers"] = {"fedora_messaging_severity": 20}
    history.add(one)
    (found,) = history.session.scalars(history.Message.make_query()).all()
    assert found.as_dict()["headers"] == {"fedora_messaging_severity": 20}


@pytest.mark.parametrize(
    "body", [None, [], "text", {}, {"topic": 1}, {"topic": "a", "msg": object()}, {"topic": "a", "msg": {1: 1, "b": 2}}]
)
def test_what_is_no_message_is_rejected_with_a_reason(history: Any, body: Any) -> None:
    good = message()
    with pytest.raises(MessageError):
        history.add_many([good, {"body": body}])
    assert history.Message.grep()[0] == 0
    assert history.add_many([good]) == 1
