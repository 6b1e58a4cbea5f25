# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signing and checking single messages: what is right, what is not, and what never raises."""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmsg import _wire, crypto, encoding
from fedmsg._util import plugins
from fedmsg.crypto import Signer, utils, x509, x509_ng
from fedmsg.exceptions import ConfigError, RefusedAtStart
from tests.certificates import Bench, Holder, authority, put, with_version

Message = dict[str, Any]


@pytest.mark.parametrize("form", ["x509", "x509-sha256", "ed25519"])
def test_signed_and_checked(form: str, bench: Bench, message: Message) -> None:
    if form == "ed25519":
        Holder("shell.test", bench.ca, kind="ed25519").write(bench.folder)
    before = copy.deepcopy(message)
    signed = crypto.sign(message, **{**bench.config, "crypto_backend": form})
    assert message == before
    assert signed["crypto"] == form
    kept = copy.deepcopy(signed)
    assert crypto.validate(signed, **bench.config)
    assert signed == kept
    assert crypto.validate(json.loads(encoding.dumps(signed)), **bench.config)
    assert not crypto.validate(signed, **{**bench.config, "crypto_validate_backends": ["gpg"]})
    assert crypto.strip_credentials(signed) == {**message, "crypto": form}
    assert signed == kept


def test_the_form_on_the_wire(bench: Bench, message: Message) -> None:
    signed = crypto.sign(message, **bench.config)
    for key in ("signature", "certificate"):
        *lines, last, end = signed[key].split("\n")
        assert {len(line) for line in lines} <= {76}
        assert 0 < len(last) <= 76
        assert end == ""
    assert base64.b64decode(signed["certificate"]).decode() == bench.leaf.pem


def test_text_around_the_certificate_stays_at_home(bench: Bench, message: Message) -> None:
    put(bench.folder / "shell.test.crt", f"Certificate: ü\n{bench.leaf.pem}trailing\n")
    signed = crypto.sign(message, **bench.config)
    assert base64.b64decode(signed["certificate"]).decode() == bench.leaf.pem


def test_sign_refuses_a_certificate_of_an_unknown_version(bench: Bench, message: Message) -> None:
    assert crypto.sign(message, **bench.config)["certificate"]
    put(bench.folder / "odd.crt", with_version(bench.leaf.pem, 9))
    (bench.folder / "odd.key").write_bytes((bench.folder / "shell.test.key").read_bytes())
    for sign in (crypto.sign, lambda _message, **config: Signer(config)):
        with pytest.raises(RefusedAtStart, match=r"can't sign with .*odd.crt: its certificate can't be read"):
            sign(message, **{**bench.config, "certname": "odd"})


@pytest.mark.parametrize("missing", ["ssldir", "certname"])
@pytest.mark.parametrize("sign", [crypto.sign, x509.sign, x509_ng.sign])
def test_what_signing_needs(missing: str, sign: Callable[..., Any], bench: Bench, message: Message) -> None:
    with pytest.raises(ValueError, match=r"^You must set the ssldir and certname keyword arguments\.$"):
        sign(message, **{**bench.config, missing: None})


def test_one_implementation_two_names(bench: Bench, message: Message) -> None:
    assert (x509.sign, x509.validate) == (x509_ng.sign, x509_ng.validate)
    assert (x509._m2crypto, x509_ng._cryptography) == (False, True)
    assert x509.validate(x509.sign(message, **bench.config), **bench.config)


@pytest.mark.parametrize("form", ["x509", "ed25519"])
def test_the_key_must_fit_the_form(form: str, bench: Bench, message: Message, caplog: pytest.LogCaptureFixture) -> None:
    other = "ed25519" if form == "x509" else "x509"
    wrong = Holder("shell.test", bench.ca, kind="ed25519" if form == "x509" else "rsa")
    wrong.write(bench.folder)
    with pytest.raises(RefusedAtStart, match=f"crypto_backend '{form}' needs an"):
        crypto.sign(message, **{**bench.config, "crypto_backend": form})
    signed = crypto.sign(message, **{**bench.config, "crypto_backend": other})
    assert not crypto.validate({**signed, "crypto": form}, **bench.config)
    assert "its certificate has no" in caplog.text


# ---------------------------------------------------------------- what is refused


def flipped(text: str, at: int) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def _with_a_number(message: Any) -> Message:
    return {**message, 1: 2}


def _endless(message: Message) -> Message:
    changed = dict(message)
    changed["msg"] = changed
    return changed


CHANGES: dict[str, tuple[Callable[[Message], Message], str]] = {
    "another topic": (lambda m: {**m, "topic": "org.fedoraproject.dev.bodhi.delete"}, "its signature is wrong"),
    "another msg": (lambda m: {**m, "msg": {}}, "its signature is wrong"),
    "another id": (lambda m: {**m, "msg_id": "2026-1"}, "its signature is wrong"),
    "another time": (lambda m: {**m, "timestamp": 1}, "its signature is wrong"),
    "something added": (lambda m: {**m, "more": 1}, "its signature is wrong"),
    "something taken away": (lambda m: {k: v for k, v in m.items() if k != "i"}, "its signature is wrong"),
    "another form": (lambda m: {**m, "crypto": "x509-sha256"}, "its signature is wrong"),
    "no topic": (lambda m: {k: v for k, v in m.items() if k != "topic"}, "its signature is wrong"),
    "a flipped bit in the signature": (lambda m: {**m, "signature": flipped(m["signature"], 20)}, "signature is wrong"),
    "a flipped bit in the certificate": (lambda m: {**m, "certificate": flipped(m["certificate"], 900)}, "certificate"),
    "another signature in the same bits": (
        lambda m: {**m, "signature": m["signature"].rstrip("\n")[:-3] + "x=="}, "its signature is not proper base64"
    ),
    "noise in the signature": (lambda m: {**m, "signature": "!" + m["signature"]}, "not proper base64"),
    "no base64": (lambda m: {**m, "signature": "a"}, "its signature is not base64"),
    "no ASCII": (lambda m: {**m, "signature": "ü"}, "its signature is not base64"),
    "an empty signature": (lambda m: {**m, "signature": ""}, "its signature is wrong"),
    "a signature that is no text": (lambda m: {**m, "signature": 7}, "it has no signature"),
    "no signature": (lambda m: {k: v for k, v in m.items() if k != "signature"}, "it has no signature"),
    "no certificate": (lambda m: {k: v for k, v in m.items() if k != "certificate"}, "it has no certificate"),
    "no PEM": (lambda m: {**m, "certificate": "bm8gUEVN"}, "0 certificates instead of 1"),
    "two certificates": (
        lambda m: {**m, "certificate": base64.encodebytes(base64.b64decode(m["certificate"]) * 2).decode()},
        "2 certificates instead of 1",
    ),
    "rubbish in PEM": (
        lambda m: {
            **m,
            "certificate": base64.encodebytes(
                b"-----BEGIN CERTIFICATE-----\nbm8gREVS\n-----END CERTIFICATE-----\n"
            ).decode(),
        },
        "can't be read",
    ),
    "bytes that are not UTF-8": (lambda m: {**m, "signature": b"\xff"}, "its signature is not UTF-8"),
    "unsigned": (lambda m: {k: m[k] for k in ("topic", "msg")}, "it is not signed"),
    "an unknown form": (lambda m: {**m, "crypto": "rot13"}, "it is signed with 'rot13'"),
    "a form that is no text": (lambda m: {**m, "crypto": ["x509"]}, "it is signed with ['x509']"),
    "what is no JSON": (lambda m: {**m, "msg": object()}, "can't be written as JSON"),
    "keys of two kinds": (_with_a_number, "can't be written as JSON"),
    "endless": (_endless, "can't be written as JSON"),
}  # fmt: skip


@pytest.mark.parametrize("which", CHANGES)
def test_refused(which: str, bench: Bench, message: Message, caplog: pytest.LogCaptureFixture) -> None:
    change, reason = CHANGES[which]
    assert crypto.validate(change(crypto.sign(message, **bench.config)), **bench.config) is False
    assert reason in caplog.text


@pytest.mark.parametrize("what", [None, [], "text", 7, {}])
def test_what_is_no_message(what: Any, bench: Bench) -> None:
    assert crypto.validate(what, **bench.config) is False


def test_a_reason_can_not_forge_a_line_of_the_log(
    bench: Bench, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    bench.config["routing_nitpicky"] = True
    signed = crypto.sign({**message, "topic": "evil\n\x1b[31mroot logged in" + "x" * 10_000}, **bench.config)
    assert not crypto.validate(signed, **bench.config)
    assert "evil\\\\n" in caplog.text
    assert "\x1b" not in caplog.text
    assert len(caplog.text) < 1000


def test_a_flood_is_no_flood_of_log_lines(bench: Bench, message: Message, caplog: pytest.LogCaptureFixture) -> None:
    signed = {**crypto.sign(message, **bench.config), "msg": 1}
    for _ in range(500):
        assert not crypto.validate(signed, **bench.config)
    assert len(caplog.records) == 1


def test_bytes_are_taken_with_a_complaint(bench: Bench, message: Message, caplog: pytest.LogCaptureFixture) -> None:
    signed = crypto.sign(message, **bench.config)
    as_bytes = {**signed, "signature": signed["signature"].encode(), "certificate": signed["certificate"].encode()}
    assert crypto.validate(as_bytes, **bench.config)
    assert isinstance(as_bytes["signature"], bytes)
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("fedmsg.crypto.x509_ng", "ERROR", "msg['signature'] is not a unicode string"),
        ("fedmsg.crypto.x509_ng", "ERROR", "msg['certificate'] is not a unicode string"),
    ]


def test_a_message_that_does_not_say_how_it_is_signed(bench: Bench, message: Message) -> None:
    signed = crypto.sign(message, **bench.config)
    del signed["crypto"]
    assert not crypto.validate(signed, **bench.config)  # the form is signed too
    data = encoding.dumps(message).encode()
    assert crypto.validate({**message, **x509_ng.credentials("x509", bench.config, data)}, **bench.config)


# ---------------------------------------------------------------- the policy, and who signed

TOPIC = "org.fedoraproject.dev.bodhi.update"


@pytest.mark.parametrize(
    ("policy", "nitpicky", "allowed"),
    [
        ({}, False, True),
        ({}, True, False),
        ({TOPIC: ["shell.test"]}, False, True),
        ({TOPIC: ["shell.test"]}, True, True),
        ({TOPIC: ["other"]}, False, False),
        ({TOPIC: []}, False, False),
        ({"org.other": ["shell.test"]}, False, True),
        ({"org.other": ["shell.test"]}, True, False),
    ],
)
def test_routing_policy(
    policy: dict[str, list[str]], nitpicky: bool, allowed: bool, bench: Bench, message: Message
) -> None:
    config = {**bench.config, "routing_policy": policy, "routing_nitpicky": nitpicky}
    assert crypto.validate(crypto.sign(message, **config), **config) is allowed
    assert utils.validate_policy(TOPIC, "shell.test", policy, nitpicky) is allowed


def test_signed_by(bench: Bench, message: Message) -> None:
    config = {**bench.config, "routing_policy": {TOPIC: ["other"]}, "routing_nitpicky": True}
    signed = crypto.sign(message, **config)
    assert crypto.validate_signed_by(signed, "shell.test", **config)
    assert not crypto.validate_signed_by(signed, "other", **config)
    assert not crypto.validate_signed_by({**signed, "msg": 1}, "shell.test", **config)
    without = crypto.sign({key: value for key, value in message.items() if key != "topic"}, **config)
    assert not crypto.validate_signed_by(without, "shell.test", **config)


# ---------------------------------------------------------------- configuration


def test_a_policy_that_is_text_is_a_configuration_error(
    bench: Bench, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**bench.config, "routing_policy": {TOPIC: "not shell.test at all"}}
    with pytest.raises(ConfigError, match="write a list"):
        utils.validate_policy(TOPIC, "shell.test", config["routing_policy"])
    with pytest.raises(ConfigError, match="write a list"):
        crypto.checker(config)
    assert not crypto.validate(crypto.sign(message, **config), **config)
    assert "write a list" in caplog.text


def test_a_message_without_topic_is_valid_for_the_function(bench: Bench, message: Message) -> None:
    del message["topic"]
    signed = crypto.sign(message, **bench.config)
    assert crypto.validate(signed, **bench.config)
    assert not crypto.validate(signed, **{**bench.config, "routing_nitpicky": True})
    topics: list[Any] = [7, ["a"], {}]
    for topic in topics:
        assert not crypto.validate(crypto.sign({**message, "topic": topic}, **bench.config), **bench.config)


NUMBERED: dict[str, Any] = {
    "ints": {10: "x", 9: "y"},
    "floats": {1.5: 1, 10.25: 2, 9.0: 3},
    "deep": [{"a": {100: {20: 1, 3: 2}}}],
    "bool": {True: 1},
    "None": {None: 1},
    "text": {"10": 1, "9": 2},
}


@pytest.mark.parametrize("which", NUMBERED)
@pytest.mark.parametrize("form", ["x509", "x509-sha256"])
def test_keys_that_are_numbers_are_signed_as_they_go_over_the_wire(
    which: str, form: str, bench: Bench, message: Message
) -> None:
    config = {**bench.config, "crypto_backend": form}
    for signed in (
        crypto.sign({**message, "msg": NUMBERED[which]}, **config),
        Signer(config).sign({**message, "msg": NUMBERED[which]}),
    ):
        assert crypto.validate(json.loads(encoding.dumps(signed)), **config)
        assert crypto.validate(signed, **config)
        assert not crypto.validate({**signed, "msg": {11: 1, 9: 2}}, **config)


def test_publish_signs_keys_that_are_numbers_as_they_go_over_the_wire(bench: Bench) -> None:
    signer = Signer(bench.config)
    body = _wire.encode_signed(
        i=1, msg={10: "x", 9: "y"}, msg_id="2026-1", timestamp=1, topic="a.b", username='"u"', crypto=signer.form,
        sign=signer.credentials,
    )  # fmt: skip
    assert crypto.validate(_wire.parse(b"a.b", body), **bench.config)


@pytest.mark.parametrize("form", ["x509-sha256", "ed25519"])
def test_a_signature_of_a_newer_form_covers_its_name(form: str, bench: Bench, message: Message) -> None:
    if form == "ed25519":
        Holder("shell.test", bench.ca, kind="ed25519").write(bench.folder)
    unsigned = {**message, "crypto": form}
    data = encoding.dumps(unsigned).encode()
    assert crypto.validate({**unsigned, **x509_ng.credentials(form, bench.config, data)}, **bench.config)
    library = plugins.lazy("x509")
    key = library.Key.load((bench.folder / "shell.test.key").read_bytes())
    bare = base64.b64encode(key.sign(x509_ng.DIGESTS[form], data)).decode()
    signed = crypto.sign(message, **{**bench.config, "crypto_backend": form})
    assert not crypto.validate({**signed, "signature": bare}, **bench.config)


def test_names_of_backends(bench: Bench, message: Message) -> None:
    crypto.init(crypto_backend="gpg", crypto_validate_backends=["x509"])
    signed = crypto.sign(message, **bench.config)  # the configuration of the call decides
    crypto.__dict__["_implementation"] = crypto.__dict__["_validate_implementations"] = None
    assert crypto.validate(signed, **bench.config)
    for wrong in ({"crypto_backend": "x"}, {"crypto_validate_backends": ["x509", "x"]}):
        with pytest.raises(ValueError, match=r"^'x' is not a valid crypto backend$"):
            crypto.init(**wrong)


@pytest.mark.parametrize("backends", [None, []])
def test_no_list_of_backends_means_our_own(backends: Any, bench: Bench, message: Message) -> None:
    config = {**bench.config, "crypto_validate_backends": backends}
    signed = crypto.sign(message, **config)
    assert crypto.validate(signed, **config)
    assert not crypto.validate(signed, **{**config, "crypto_backend": "x509-sha256"})


@pytest.mark.parametrize("location", [None, "", "/nowhere/ca.crt", "relative.crt", "http://localhost/ca.crt"])
def test_no_authorities(location: Any, bench: Bench, message: Message, caplog: pytest.LogCaptureFixture) -> None:
    config = {**bench.config, "ca_cert_location": location}
    assert crypto.validate(crypto.sign(message, **config), **config) is False
    assert "message is not valid" in caplog.text
    with pytest.raises(RefusedAtStart, match="ca_cert_location"):
        crypto.checker(config)


def test_an_unreadable_list_is_found_at_the_start(bench: Bench) -> None:
    block = "-----BEGIN X509 CRL-----\nbm8gREVS\n-----END X509 CRL-----\n"
    bench.config["crl_location"] = str(put(bench.folder / "bad.pem", block))
    with pytest.raises(RefusedAtStart, match="crl_location"):
        crypto.checker(bench.config)


# ---------------------------------------------------------------- old messages, and those that come twice


@pytest.mark.parametrize(
    ("timestamp", "fresh"),
    [
        (0.0, True),
        (-50, True),
        (50, True),
        (-70, False),
        (70, False),
        (float("nan"), False),
        ("now", False),
        (None, False),
        (True, False),
    ],
)
def test_message_age(timestamp: Any, fresh: bool, bench: Bench, message: Message) -> None:
    if isinstance(timestamp, (int, float)) and not isinstance(timestamp, bool):
        timestamp += time.time()
    signed = crypto.sign({**message, "timestamp": timestamp}, **bench.config)
    assert crypto.validate(signed, **bench.config)
    assert crypto.validate(signed, **bench.config, max_message_age=60) is fresh


def test_a_message_comes_once(bench: Bench, message: Message, caplog: pytest.LogCaptureFixture) -> None:
    check = crypto.checker({**bench.config, "max_seen_ids": 2})
    first, second, third = (crypto.sign({**message, "msg_id": f"2026-{n}"}, **bench.config) for n in range(3))
    assert not check({**first, "msg": "forged"})  # which does not use up the id
    assert [check(one) for one in (first, first, second, first)] == [True, False, True, False]
    assert "came before" in caplog.text
    assert [check(one) for one in (third, first)] == [True, True]  # the oldest was forgotten
    assert crypto.validate(first, **bench.config)  # a single question remembers nothing


def test_seen_ids_are_not_used_up_by_another_signer(bench: Bench, message: Message) -> None:
    Holder("other.test", bench.ca).write(bench.folder)
    check = crypto.checker({**bench.config, "max_seen_ids": 10})
    real = crypto.sign(message, **bench.config)
    imitation = crypto.sign({**message, "msg": "imitated"}, **{**bench.config, "certname": "other.test"})
    assert [check(one) for one in (imitation, real, real)] == [True, True, False]
    assert crypto.digest(real) == crypto.digest({**real, "signature": "x"}) != crypto.digest(imitation)


@pytest.mark.parametrize("setting", [{"max_message_age": 60}, {"max_seen_ids": 100}])
def test_what_is_not_signed_can_not_be_relied_on(setting: dict[str, int], bench: Bench) -> None:
    with pytest.raises(RefusedAtStart, match="gpg-envelope"):
        crypto.checker({**bench.config, "crypto_validate_backends": ["x509", "gpg"], **setting})


# ---------------------------------------------------------------- from datagrepper


def test_messages_from_datagrepper(bench: Bench, message: Message) -> None:
    signed = crypto.sign(message, **bench.config)
    assert utils.fix_datagrepper_message(signed) is signed
    for part in ({"source_name": "datanommer"}, {"source_version": "1"}):
        assert utils.fix_datagrepper_message(found := {**signed, **part}) is found
    stored = {**signed, "source_name": "datanommer", "source_version": "1", "headers": {}}
    stored["timestamp"] = float(signed["timestamp"])
    kept = copy.deepcopy(stored)
    assert utils.fix_datagrepper_message(stored) == signed
    assert stored == kept
    assert crypto.validate(utils.fix_datagrepper_message(stored), **bench.config)


@pytest.mark.parametrize("whole", [{}, {"headers": {}}, {"headers": {}, "timestamp": 1.5}])
def test_messages_signed_with_the_keys_that_datagrepper_adds(bench: Bench, message: Message, whole: Message) -> None:
    more: Message = {"source_name": "mine", "source_version": "2"}
    signed = crypto.sign({**message, **more, **whole}, **bench.config)
    stored = {"headers": {}, **signed, "timestamp": float(signed["timestamp"])}
    assert crypto.as_signed(stored, bench.config) == signed
    assert not crypto.validate(utils.fix_datagrepper_message(stored), **bench.config)
    # A control: without the keys, and one that is not valid in any form.
    plain = crypto.sign(message, **bench.config)
    assert crypto.as_signed(plain, bench.config) is plain
    assert crypto.as_signed({**plain, **more, "headers": {}}, bench.config) == plain
    forged = {**plain, **more, "msg": "forged"}
    assert crypto.as_signed(forged, bench.config) == {**plain, "msg": "forged"}


def test_live_messages_are_checked_as_they_are(bench: Bench, message: Message) -> None:
    signed = crypto.sign(message, **bench.config)
    assert crypto.validate(signed, **bench.config)
    more: Message = {"source_name": "datanommer", "source_version": "1"}
    half: Message = {**more, "timestamp": signed["timestamp"] + 0.5}
    additions: list[Message] = [more, {**more, "headers": {}}, half, {"headers": {}}]
    for added in additions:
        assert not crypto.validate({**signed, **added}, **bench.config)
    # One that was published with such keys is as valid as any other.
    whole = {**message, **more, "headers": {}, "timestamp": 1.5}
    assert crypto.validate(crypto.sign(whole, **bench.config), **bench.config)


# ---------------------------------------------------------------- the cost


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give a list that gets the location of everything that is read."""
    read: list[str] = []
    load = utils._load_certificate

    def counted(location: str) -> str:
        read.append(location)
        return load(location)

    monkeypatch.setattr(utils, "_load_certificate", counted)
    return read


def test_the_size_of_the_policy_and_the_number_of_files_read(
    bench: Bench, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count_readings(monkeypatch)
    signed = crypto.sign(message, **bench.config)
    for _ in range(50):
        assert crypto.validate(signed, **bench.config)
    assert sorted(read) == sorted([str(bench.ca_path), str(bench.crl_path)])


def test_a_stranger_fails_and_costs_one_reading_a_minute(
    bench: Bench, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count_readings(monkeypatch)
    Holder("stranger", authority("Foreign CA")).write(bench.folder)
    forged = crypto.sign(message, **{**bench.config, "certname": "stranger"})
    for _ in range(50):
        assert not crypto.validate(forged, **bench.config)
    assert len(read) == 4  # both files when first used, and both afresh when the check failed


def test_load_certificates_is_asked_by_its_name(
    bench: Bench, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    ca, crl, other = bench.ca.pem, bench.ca.crl(), authority("Another").pem

    def load(*args: Any, **kw: Any) -> tuple[str, str | None]:
        asked.append((args, kw))
        return (ca, crl) if kw else (other, None)

    signed = crypto.sign(message, **bench.config)
    monkeypatch.setattr("fedmsg.crypto.utils.load_certificates", load)
    assert crypto.validate(signed, **bench.config)
    locations = (str(bench.ca_path), str(bench.crl_path))
    assert asked == [(locations, {}), (locations, {"invalidate_cache": True})]


def test_nothing_is_left_behind(bench: Bench, message: Message, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    crypto.validate(crypto.sign(message, **bench.config), **bench.config)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
