# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one side signs, the other accepts, and both refuse the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.crypto import _credentials
from tests.certificates import DAY, Bench, Holder, authority, put
from tests.gnupg import Home
from tests.interop.lane import connect, open_lane
from tests.interop.sides import NAMES, Side

Message = dict[str, Any]

MESSAGES: list[Message] = [
    {"topic": "org.fedoraproject.dev.bodhi.update", "msg": msg, "timestamp": 1700000000, "msg_id": "2026-1", "i": 1,
     "username": "apache"}
    for msg in (
        {},
        {"title": "nethack ü \u2028 \U0001f600", "quote": "\"\\/\b\f\n\r\t\x01"},
        {"n": [0.1, 1e22, 1e-7, 10**30, -0.0, 1.0, None, True]},
        {"b": {"z": 1, "a": {"y": [{}, [], ""]}}, "A": 1},
        "text",
        [1, "2"],
    )
]  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see its reasons in the log, however many came before."""
    monkeypatch.setattr(_credentials, "rejections", RateLimitedLog(_credentials.log))


BOTH_WAYS = pytest.mark.parametrize(("signs", "checks"), [NAMES, NAMES[::-1]], ids=["ours to peer", "peer to ours"])


def ask(side: Side, folder: Path, *tasks: tuple[str, Message, dict[str, Any]]) -> list[Any]:
    """Have one side sign or check messages."""
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks))
    (folder / "run").mkdir(exist_ok=True)
    lines = side.ask(folder / "run", "signatures.py", str(path))
    # fedmsg 1.1.7 prints a line of its own now and then.
    answers = [json.loads(line.partition("ANSWER ")[2]) for line in lines if "ANSWER " in line]
    assert len(answers) == len(tasks), lines
    return answers


@BOTH_WAYS
def test_x509(signs: str, checks: str, sides: dict[str, Side], bench: Bench) -> None:
    signed = ask(sides[signs], bench.folder, *(("sign", message, bench.config) for message in MESSAGES))
    changed = [{**message, "topic": "org.fedoraproject.dev.bodhi.delete"} for message in signed]
    for messages, answer in ((signed, True), (changed, False)):
        answers = ask(sides[checks], bench.folder, *(("validate", message, bench.config) for message in messages))
        assert answers == [answer] * len(MESSAGES)


def test_x509_byte_for_byte(sides: dict[str, Side], bench: Bench) -> None:
    # This kind of signature has no chance in it.
    ours, peer = (
        ask(side, bench.folder, *(("sign", message, bench.config) for message in MESSAGES)) for side in sides.values()
    )
    assert ours == peer


@BOTH_WAYS
def test_gpg(signs: str, checks: str, sides: dict[str, Side], tmp_path: Path) -> None:
    with Home() as home:
        config = {**home.config, "crypto_validate_backends": ["gpg"]}
        signed = ask(sides[signs], tmp_path, *(("sign", message, config) for message in MESSAGES))
        changed = [{**message, "msg": {"other": 1}} for message in signed]
        for messages, answer in ((signed, True), (changed, False)):
            answers = ask(sides[checks], tmp_path, *(("validate", message, config) for message in messages))
            assert answers == [answer] * len(MESSAGES)


def with_intermediate(bench: Bench) -> dict[str, Any]:
    middle = Holder("Middle", bench.ca, authority=True)
    Holder("web.test", middle).write(bench.folder)
    put(bench.ca_path, bench.ca.pem + middle.pem)
    return {"certname": "web.test", "crl_location": None}


def revoked(bench: Bench) -> dict[str, Any]:
    put(bench.crl_path, bench.ca.crl(bench.leaf))
    return {}


def foreign(bench: Bench) -> dict[str, Any]:
    return {"certname": Holder("other.test", authority("Foreign CA")).write(bench.folder)}


def expired(bench: Bench) -> dict[str, Any]:
    return {"certname": Holder("old.test", bench.ca, start=-9 * DAY, end=-DAY).write(bench.folder)}


def expired_crl(bench: Bench) -> dict[str, Any]:
    put(bench.crl_path, bench.ca.crl(start=-9 * DAY, end=-DAY))
    return {}


def outside_the_policy(bench: Bench) -> dict[str, Any]:
    return {"routing_policy": {MESSAGES[0]["topic"]: ["somebody.else"]}}


SITUATIONS: dict[str, tuple[Callable[[Bench], dict[str, Any]], bool, str]] = {
    "a chain with an intermediate": (with_intermediate, True, ""),
    "in the policy": (lambda bench: {"routing_policy": {MESSAGES[0]["topic"]: ["shell.test"]}}, True, ""),
    "outside the policy": (outside_the_policy, False, "may not send under the topic"),
    "not in a nitpicky policy": (lambda bench: {"routing_nitpicky": True}, False, "may not send under the topic"),
    "revoked": (revoked, False, "is revoked"),
    "foreign": (foreign, False, "issued by none of"),
    "expired": (expired, False, "'old.test' has expired"),
    "an expired CRL": (expired_crl, False, "CRL of the certificate of 'Test CA' has expired"),
}


@pytest.mark.parametrize("which", SITUATIONS)
def test_signed_by_the_peer(which: str, sides: dict[str, Side], bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    make, answer, reason = SITUATIONS[which]
    config = {**bench.config, **make(bench)}
    (signed,) = ask(sides["peer"], bench.folder, ("sign", MESSAGES[0], config))
    assert crypto.validate(signed, **config) is answer
    assert reason in caplog.text
    # And what is good for us is good for the other side too.
    if answer and which != "a chain with an intermediate":
        assert ask(sides["peer"], bench.folder, ("validate", signed, config)) == [True]


@BOTH_WAYS
def test_over_a_real_bus(
    signs: str, checks: str, sides: dict[str, Side], lane_settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**lane_settings, "sign_messages": True, "validate_signatures": True}
    with (
        open_lane(sides["ours"], tmp_path / "lane", **settings) as lane,
        sides[checks].tail(lane.folder) as tail,
    ):
        lane.greet(tail)
        with sides[signs].logger(lane.folder, "signed") as speaker:
            connect(sides[signs], speaker, tail)
            speaker.say("over the bus")
            line = tail.wait_for("over the bus")
        assert "'crypto': 'x509'" in line
        assert "'certificate': '" in line
