# SPDX-License-Identifier: LGPL-2.1-or-later
"""GnuPG: real keys in real homes."""

from __future__ import annotations

import base64
import copy
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto, encoding
from fedmsg._util import plugins
from fedmsg.core import FedMsgContext
from fedmsg.crypto import gpg
from fedmsg.exceptions import MessageError, RefusedAtStart
from fedmsg.testing import free_address, wait_until
from tests.gnupg import Home

Message = dict[str, Any]
FORMS = ["gpg", "gpg-envelope"]


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home() as made:
        yield made


@pytest.fixture(scope="module")
def stranger() -> Iterator[Home]:
    with Home() as made:
        yield made


@pytest.fixture
def config(home: Home) -> dict[str, Any]:
    return home.config


@pytest.mark.parametrize("form", FORMS)
def test_signed_and_checked(form: str, config: dict[str, Any], message: Message) -> None:
    before = copy.deepcopy(message)
    signed = crypto.sign(message, **{**config, "crypto_backend": form})
    assert message == before
    assert set(signed) == {*message, "crypto", "signature"}
    assert signed["crypto"] == form
    assert "\n" not in signed["signature"]
    assert crypto.validate(signed, **config)
    assert gpg.validate(signed, **config)
    assert not crypto.validate(signed, **{**config, "crypto_validate_backends": ["x509"]})
    assert not crypto.validate({**signed, "msg": {"a": 2}}, **config)
    # What tells the two apart: whether the rest of the envelope is signed.
    moved = {**signed, "topic": "org.fedoraproject.dev.other"}
    assert crypto.validate(moved, **config) is (form == "gpg")
    assert not crypto.validate({**signed, "crypto": next(one for one in FORMS if one != form)}, **config)


def test_a_message_that_does_not_say_how_it_is_signed(config: dict[str, Any], message: Message) -> None:
    signed = crypto.sign(message, **config)
    del signed["crypto"]
    assert crypto.validate(signed, **config)


@pytest.mark.parametrize("form", FORMS)
def test_a_strangers_key(
    form: str, config: dict[str, Any], stranger: Home, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    signed = crypto.sign(message, **{**stranger.config, "crypto_backend": form})
    assert not crypto.validate(signed, **config)
    assert "GnuPG does not accept its signature" in caplog.text


@pytest.mark.parametrize("signature", [None, 7, "", "!", "bm8gc2lnbmF0dXJl", b"\xff", "iQ=="])
def test_rubbish(signature: Any, config: dict[str, Any], message: Message) -> None:
    assert crypto.validate({**message, "crypto": "gpg", "signature": signature}, **config) is False


def test_a_signed_document_is_no_signature(config: dict[str, Any], home: Home, message: Message) -> None:
    for extra in ([], ["--compress-level", "0"]):
        document = home.run("--sign", *extra, "--local-user", home.key, stdin=b"something else")
        forged = {**message, "crypto": "gpg", "signature": base64.b64encode(document).decode()}
        assert crypto.validate(forged, **config) is False


def test_a_good_signature_beside_a_bad_one(config: dict[str, Any], stranger: Home, message: Message) -> None:
    good, bad = (base64.b64decode(crypto.sign(message, **one)["signature"]) for one in (config, stranger.config))
    for both in (good + bad, bad + good):
        forged = {**message, "crypto": "gpg", "signature": base64.b64encode(both).decode()}
        assert crypto.validate(forged, **config) is False


# ---------------------------------------------------------------- what strangers send


def new_form(packet: bytes) -> bytes:
    """A signature packet whose length is written in five bytes."""
    return b"\xc2\xff" + len(packet).to_bytes(4, "big") + packet


def content(packet: bytes) -> bytes:
    """What is in a packet of the old form, as GnuPG writes it."""
    return packet[1 + (1, 2, 4)[packet[0] & 3] :]


def test_a_signature_is_exactly_one_packet(config: dict[str, Any], message: Message) -> None:
    good = base64.b64decode(crypto.sign(message, **config)["signature"])
    inner = content(good)
    cases = {
        good: True,
        new_form(inner): True,
        b"\xc2\xc0" + (len(inner) - 192).to_bytes(1, "big") + inner: len(inner) < 448,
        good + good: False,
        good + b"\xc2\x01\x00": False,
        b"\xc2\x01\x00" + good: False,
        good[:-1]: False,
        good + b"\x00": False,
        b"\x8b" + inner: False,  # no known end
        b"\xc2\xe9" + inner: False,  # in parts
        b"\xc2\x01\x00" * 13_000: False,
        new_form(inner + b"\x00" * 8192): False,
        b"\xc2": False,
        b"\xc2\xff\x00": False,
        b"\xc2\xc0": False,
        b"": False,
        b"\xb0\x03abc": False,
    }
    for raw, is_one in cases.items():
        assert gpg._is_one_signature(raw) is is_one or len(raw) > 8192, raw[:9]
        signed = {**message, "crypto": "gpg", "signature": base64.b64encode(raw).decode()}
        assert crypto.validate(signed, **config) is is_one, raw[:9]


@pytest.mark.soak
def test_packet_bombs_hold_up_no_message(
    config: dict[str, Any], message: Message, full_size: bool, caplog: pytest.LogCaptureFixture
) -> None:
    check, good = crypto.checker(config), crypto.sign(message, **config)
    bomb = {**good, "signature": base64.b64encode(b"\xc2\x01\x00" * 13_000).decode()}
    small = {**good, "signature": base64.b64encode(b"\xc2\x01\x00" * 2_000).decode()}
    rounds = 20_000 if full_size else 200
    started = time.perf_counter()
    for _ in range(rounds):
        assert not check(bomb)
        assert not check(small)
    # A control: GnuPG itself works on one of them for a second.
    assert (time.perf_counter() - started) / rounds < 0.01
    assert check(good)
    assert len(caplog.records) < 10


def test_the_newer_form_is_signed_apart(config: dict[str, Any], home: Home, message: Message) -> None:
    """A signature of a ``msg`` is none of an envelope, and the other way round."""
    envelope = {**message, "crypto": "gpg-envelope"}
    signature = gpg.Context(homedir=str(home.folder)).sign(encoding.dumps(envelope), home.key)
    text = base64.b64encode(signature).decode()
    assert not crypto.validate({**envelope, "signature": text}, **config)
    outer = {**message, "msg": envelope, "crypto": "gpg", "signature": text}
    assert not crypto.validate(outer, **config)  # though GnuPG finds the signature good
    inner = {**message, "msg": message, "crypto": "gpg"}
    assert crypto.validate({**inner, **_signature(home, encoding.dumps(message))}, **config)
    for sign in (crypto.sign, gpg.sign, lambda m, **c: crypto.Signer(c).sign(m)):
        with pytest.raises(MessageError, match="may be the envelope"):
            sign({**message, "msg": envelope}, **config)
    signed = crypto.sign(message, **{**config, "crypto_backend": "gpg-envelope"})
    assert crypto.validate(signed, **config)


def _signature(home: Home, text: str) -> dict[str, str]:
    return {"signature": base64.b64encode(gpg.Context(homedir=str(home.folder)).sign(text, home.key)).decode()}


@pytest.mark.parametrize("form", FORMS)
def test_a_certificate_beside_a_signature_is_rejected(form: str, config: dict[str, Any], message: Message) -> None:
    signed = crypto.sign(message, **{**config, "crypto_backend": form})
    assert crypto.validate(signed, **config)
    assert not crypto.validate({**signed, "certificate": "Zm9yZ2Vk"}, **config)


# ---------------------------------------------------------------- GnuPG that hangs

# Stands in the PATH in place of GnuPG: answers when asked for its version, and never again.
HANGS = """#!/bin/sh
case "$*" in *--list-config*) echo cfg:version:2.4.0; exit 0;; esac
{busy}
sleep 1000 &
echo $$ $! >> {pids}
wait
"""


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a GnuPG that hangs into the PATH; return the file to which it writes its process ids."""
    yield hang(tmp_path, monkeypatch)
    plugins.lazy("gnupg")._program.cache_clear()


def hang(folder: Path, monkeypatch: pytest.MonkeyPatch, busy: str = "") -> Path:
    plugins.lazy("gnupg")._program.cache_clear()
    program, pids = folder / "bin" / "gpg", folder / "pids"
    program.parent.mkdir(exist_ok=True)
    program.write_text(HANGS.format(pids=pids, busy=busy))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return pids


def alive(pids: Path) -> list[int]:
    """Which of the processes that a hanging GnuPG has started live, zombies not counted."""
    found = []
    for pid in pids.read_text().split():
        with suppress(FileNotFoundError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                found.append(int(pid))
    return found


def test_gnupg_that_hangs_is_killed(
    hanging: Path, home: Home, message: Message, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plugins.lazy("gnupg"), "VERIFY_TIMEOUT_S", 1.0)
    signed = {**message, "crypto": "gpg", "signature": base64.b64encode(new_form(b"\x04" * 20)).decode()}
    check = crypto.checker(home.config)
    assert not check(signed)
    assert "no answer in 1 s" in caplog.text
    assert len(hanging.read_text().split()) == 2
    wait_until(lambda: alive(hanging) == [])
    with pytest.raises(ChildProcessError):
        os.waitpid(int(hanging.read_text().split()[0]), os.WNOHANG)  # reaped


def test_gnupg_that_computes_for_ever_is_killed(
    tmp_path: Path, home: Home, message: Message, monkeypatch: pytest.MonkeyPatch, hanging: Path
) -> None:
    library = plugins.lazy("gnupg")
    monkeypatch.setattr(library, "_CPU_LIMIT_S", 1)
    monkeypatch.setattr(library, "VERIFY_TIMEOUT_S", 50.0)
    hang(tmp_path, monkeypatch, busy="while :; do :; done")
    signed = {**message, "crypto": "gpg", "signature": base64.b64encode(new_form(b"\x04" * 20)).decode()}
    assert not crypto.checker(home.config)(signed)


def test_gnupg_ends_with_the_process_that_started_it(hanging: Path, home: Home, message: Message) -> None:
    signed = {**message, "crypto": "gpg", "signature": base64.b64encode(new_form(b"\x04" * 20)).decode()}
    program = "import json, sys\nfrom fedmsg import crypto\n"
    program += "crypto.validate(*json.loads(sys.argv[1]), **json.loads(sys.argv[2]))"
    command = [sys.executable, "-c", program, json.dumps([signed]), json.dumps(home.config)]
    with subprocess.Popen(command, start_new_session=True) as process:
        wait_until(lambda: hanging.exists() and len(hanging.read_text().split()) == 2)
        pid = int(hanging.read_text().split()[0])
        assert pid in alive(hanging)
        process.kill()
    wait_until(lambda: pid not in alive(hanging))
    for other in alive(hanging):  # what a script in its place has started is no GnuPG
        os.kill(other, signal.SIGKILL)


def test_a_library_that_starts_gnupg_another_way_is_rejected(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    library = plugins.lazy("gnupg")
    library._program.cache_clear()
    monkeypatch.delattr(library._Program, "_open_subprocess")
    with pytest.raises(RefusedAtStart, match="without the limits"):
        crypto.checker(home.config)


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_key_that_no_longer_counts(how: str, message: Message) -> None:
    with Home() as home:
        signed = crypto.sign(message, **home.config)
        assert crypto.validate(signed, **home.config)
        if how == "revoked":
            home.revoke()
        else:
            home.run("--quick-set-expire", home.key, "seconds=1")
            while crypto.validate(signed, **home.config):
                pass
        assert crypto.validate(signed, **home.config) is False


def test_the_policy_names_fingerprints(config: dict[str, Any], home: Home, message: Message) -> None:
    topic = message["topic"]
    signed = crypto.sign(message, **{**config, "crypto_backend": "gpg-envelope"})
    for signers, allowed in (([home.key], True), (["someone"], False), ([], False)):
        assert crypto.validate(signed, **config, routing_policy={topic: signers}) is allowed
    assert not crypto.validate(signed, **config, routing_nitpicky=True)
    assert crypto.validate_signed_by(signed, home.key, **config)
    assert not crypto.validate_signed_by(signed, "someone", **config)


@pytest.mark.parametrize("missing", ["gpg_home", "gpg_signing_key"])
def test_what_signing_needs(missing: str, config: dict[str, Any], message: Message) -> None:
    for sign in (crypto.sign, gpg.sign):
        with pytest.raises(ValueError, match="gpg_home and gpg_signing_key"):
            sign(message, **{**config, missing: None})


def test_validate_needs_a_home_and_crypto_knows_one(config: dict[str, Any], message: Message, home: Home) -> None:
    signed = crypto.sign(message, **config)
    with pytest.raises(ValueError, match="gpg_home"):
        gpg.validate(signed)
    without = {key: value for key, value in config.items() if key != "gpg_home"}
    assert crypto.validate(signed, **without) is False  # nothing is in ~/.gnupg
    Path(os.environ["HOME"], ".gnupg").symlink_to(home.folder)
    plugins.lazy("gnupg")._program.cache_clear()
    assert crypto.validate(signed, **without)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpg_home": "/nowhere"}, "/nowhere"),
        ({"gpg_signing_key": "0" * 40}, "can't be signed"),
        ({"gpg_signing_key": None}, "gpg_signing_key"),
        ({"gpg_signing_key": None, "gpg_keys": {"elsewhere": "0" * 40}}, "gpg_keys"),
    ],
)
def test_signing_that_can_not_be_done_is_refused_at_the_start(
    changes: dict[str, Any], said: str, config: dict[str, Any]
) -> None:
    publishing = {"name": "me", "endpoints": {"me": [free_address()]}, "sign_messages": True}
    with pytest.raises(RefusedAtStart, match=said):
        FedMsgContext(**{**config, **publishing, **changes})


def test_checking_that_can_not_be_done_is_refused_at_the_start(config: dict[str, Any]) -> None:
    with pytest.raises(RefusedAtStart, match=r"/nowhere.*gpg_home"):
        crypto.checker({**config, "gpg_home": "/nowhere"})


def test_the_key_of_a_host(config: dict[str, Any], home: Home) -> None:
    publishing = {"name": "me", "endpoints": {"me": [free_address()]}, "sign_messages": True, "post_init_sleep": 0}
    host = socket.gethostname().split(".", 1)[0]
    sent: list[Message] = []
    changed = {**config, **publishing, "gpg_signing_key": None, "gpg_keys": {host: home.key}}
    with FedMsgContext(**changed) as context:
        context.publish(topic="t", modname="m", msg={"a": 1}, pre_fire_hook=sent.append)
    assert crypto.validate(sent[0], **config)


# ---------------------------------------------------------------- the context by itself


@pytest.mark.parametrize("data", ["téxt", b"bytes\x00"])
def test_context_signs_and_verifies(data: str | bytes, home: Home, tmp_path: Path) -> None:
    context = gpg.Context(homedir=str(home.folder))
    signature = context.sign(data, home.key)
    assert context.verify(data, signature) is True
    assert context.verify(context.clearsign("text", home.key)) is True
    raw = data.encode() if isinstance(data, str) else data
    (tmp_path / "data").write_bytes(raw)
    (tmp_path / "sig").write_bytes(signature)
    assert context.verify_from_file(str(tmp_path / "data"), str(tmp_path / "sig")) is True
    (tmp_path / "signed").write_bytes(context.clearsign("text", home.key))
    assert context.verify_from_file(str(tmp_path / "signed")) is True
    with pytest.raises(gpg.GpgBinaryError, match=r"(?i)bad signature"):
        context.verify(raw + b"!", signature)
    with pytest.raises(gpg.GpgBinaryError):
        context.sign(data, "0" * 40)


def test_keyrings_instead_of_the_home(home: Home, stranger: Home, tmp_path: Path) -> None:
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(home.run("--export", home.key))
    signature = gpg.Context(homedir=str(home.folder)).sign("x", home.key)
    elsewhere = gpg.Context(keyrings=[str(ring)], homedir=str(stranger.folder))
    assert (elsewhere.keyrings, elsewhere.homedir) == ([str(ring)], str(stranger.folder))
    assert elsewhere.verify("x", signature) is True
    with pytest.raises(gpg.GpgBinaryError, match=r"(?i)no public key"):
        gpg.Context(homedir=str(stranger.folder)).verify("x", signature)
    assert gpg.Context().homedir == os.path.expanduser("~/.gnupg/")


def test_nothing_is_left_behind(
    config: dict[str, Any], message: Message, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    descriptors = len(os.listdir("/proc/self/fd"))
    signed = crypto.sign(message, **config)
    assert crypto.validate(signed, **config)
    assert not crypto.validate({**signed, "msg": 1}, **config)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
