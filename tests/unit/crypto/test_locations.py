# SPDX-License-Identifier: LGPL-2.1-or-later
"""CA, CRL and keys as files that change, and from a real https server that comes and goes."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509

from fedmsg import crypto
from fedmsg._util import files
from fedmsg.crypto import _keys, utils
from fedmsg.exceptions import RefusedAtStart
from fedmsg.testing import wait_until
from tests.certificates import DAY, Bench, Holder, authority, key, put, usage

Message = dict[str, Any]


class Pages(BaseHTTPRequestHandler):
    """Serves what stands in ``texts``, and counts how often it was asked."""

    texts: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        text = self.texts.get(self.path, "")
        self.send_response(200 if text else 503)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    public = key(50).public_key()
    # What Python 3.13 demands of a certificate beyond the name.
    ours: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        usage(key_cert_sign=True),
    ]
    web_ca = authority("Web CA", key_number=50, extensions=ours)
    theirs = (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False)
    Holder("web", web_ca, extensions=[(names, False), theirs]).write(folder)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(put(folder / "web-ca.crt", web_ca.pem)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "web.crt", folder / "web.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Pages.texts.clear()
    Pages.asked.clear()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def remote(bench: Bench, site: str) -> dict[str, Any]:
    """The bench's configuration, with CA and CRL at the site."""
    Pages.texts.update({"/ca.crt": bench.ca.pem, "/crl.pem": bench.ca.crl()})
    return {
        **bench.config,
        "ca_cert_location": f"{site}/ca.crt",
        "crl_location": f"{site}/crl.pem",
        "ca_cert_cache": str(bench.folder / "ca.copy"),
        "crl_cache": str(bench.folder / "crl.copy"),
    }


_MONOTONIC = time.monotonic


def forget() -> None:
    """Be a fresh process, as far as CA and CRL go."""
    utils._cached_certificates.clear()


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: _MONOTONIC() + seconds)


def test_from_a_site(remote: dict[str, Any], message: Message, bench: Bench) -> None:
    signed = crypto.sign(message, **remote)
    check = crypto.checker(remote)
    assert [check(signed) for _ in range(10)] == [True] * 10
    assert Pages.asked == ["/ca.crt", "/crl.pem"]
    assert (bench.folder / "ca.copy").read_text() == bench.ca.pem
    forget()
    assert crypto.checker(remote)(signed)  # by the copies, which are young
    assert Pages.asked == ["/ca.crt", "/crl.pem"]


def test_a_copy_is_fetched_again_when_it_is_old(
    remote: dict[str, Any], message: Message, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = crypto.sign(message, **remote)
    check = crypto.checker(remote)
    Pages.texts["/crl.pem"] = bench.ca.crl(bench.leaf)
    later(monkeypatch, 61)  # the CA's 60 seconds are over, the CRL's 3600 are not
    assert check(signed)
    wait_until(lambda: Pages.asked == ["/ca.crt", "/crl.pem", "/ca.crt"])
    later(monkeypatch, 3700)
    wait_until(lambda: not check(signed))  # the new list comes in the background


def test_the_last_good_copy_stays_while_the_site_is_down(
    remote: dict[str, Any], message: Message, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signed = crypto.sign(message, **remote)
    check = crypto.checker(remote)
    Pages.texts.clear()
    later(monkeypatch, 5000)
    assert check(signed)
    wait_until(lambda: caplog.text.count("using the last good copy") == 2)
    asked = len(Pages.asked)
    assert check(signed)
    assert len(Pages.asked) == asked  # it is not asked for every message
    forget()
    old = time.time() - 90_000
    for copy in (remote["ca_cert_cache"], remote["crl_cache"]):
        os.utime(copy, (old, old))
    assert crypto.checker(remote)(signed)  # a fresh process has the file


@pytest.fixture
def silent_site() -> Iterator[str]:
    """The address of a web server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"


def test_a_silent_site_holds_up_no_message(
    silent_site: str, bench: Bench, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = f"{silent_site}/ca.crt"
    copy = put(bench.folder / "ca.copy", bench.ca.pem)
    config = {**bench.config, "ca_cert_location": ca, "ca_cert_cache": str(copy), "crl_location": None}
    check = crypto.checker(config)  # the copy is young
    signed = crypto.sign(message, **config)
    Holder("stranger", authority("Foreign CA")).write(bench.folder)
    forged = crypto.sign(message, **{**config, "certname": "stranger"})
    started = time.perf_counter()
    for minute in range(1, 20):
        later(monkeypatch, minute * 70)  # it is due each time, and each forged message asks for it
        assert (check(forged), check(signed)) == (False, True)
    # A control: one look at that site takes as long as a request may take.
    assert time.perf_counter() - started < 5 < utils._FETCH_TIMEOUT_S
    assert sum(thread.name == "fedmsg-certificates" for thread in threading.enumerate()) == 1
    monkeypatch.undo()
    monkeypatch.setattr(utils, "_FETCH_TIMEOUT_S", 0.2)
    with pytest.raises(OSError, match="does not answer in time"):
        utils._load_certificate(ca)


def test_a_site_that_was_never_there_is_asked_in_the_background(
    remote: dict[str, Any], message: Message, bench: Bench
) -> None:
    signed = crypto.sign(message, **remote)
    Pages.texts.clear()
    assert not crypto.validate(signed, **remote)
    Pages.texts.update({"/ca.crt": bench.ca.pem, "/crl.pem": bench.ca.crl()})
    wait_until(lambda: crypto.validate(signed, **remote))


def test_only_what_fresh_data_could_cure_asks_for_it(remote: dict[str, Any], message: Message, bench: Bench) -> None:
    check, signed = crypto.checker(remote), crypto.sign(message, **remote)
    asked = len(Pages.asked)
    Holder("old", bench.ca, start=-9 * DAY, end=-DAY).write(bench.folder)
    for bad in (
        {**signed, "msg": 1},
        {**signed, "certificate": "!"},
        crypto.sign(message, **{**remote, "certname": "old"}),
    ):
        assert not check(bad)
    assert "fedmsg-certificates" not in {thread.name for thread in threading.enumerate()}
    assert len(Pages.asked) == asked
    Holder("stranger", authority("Foreign CA")).write(bench.folder)
    assert not check(crypto.sign(message, **{**remote, "certname": "stranger"}))
    wait_until(lambda: len(Pages.asked) == asked + 2)


def test_without_any_copy_it_is_refused(remote: dict[str, Any]) -> None:
    Pages.texts.clear()
    with pytest.raises(RefusedAtStart, match=r"503.*ca_cert_location"):
        crypto.checker(remote)
    with pytest.raises(OSError, match="503"):
        utils.load_certificates(remote["ca_cert_location"], None)


def test_a_site_that_is_not_what_it_says(remote: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(RefusedAtStart, match="certificate"):
        crypto.checker(remote)


@pytest.mark.parametrize("location", ["http://127.0.0.1/ca.crt", "ca.crt", "file:///etc/ca.crt"])
def test_other_places_are_none(location: str) -> None:
    with pytest.raises(OSError, match="neither an absolute path nor an https address"):
        utils._load_certificate(location)


# ---------------------------------------------------------------- files


def test_what_load_certificates_gives(bench: Bench) -> None:
    ca, crl = str(bench.ca_path), str(bench.crl_path)
    texts = utils.load_certificates(ca, crl)
    assert texts == (bench.ca_path.read_text(), bench.crl_path.read_text())
    assert utils.load_certificates(ca, crl) is texts
    assert utils._cached_certificates[ca + crl] is texts
    assert utils.load_certificates(ca) == (bench.ca_path.read_text(), None)
    assert ca in utils._cached_certificates


def test_a_file_is_looked_at_once_a_second(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = str(bench.ca_path)
    first = utils.load_certificates(ca)
    put(bench.ca_path, authority("New").pem)
    assert utils.load_certificates(ca) is first
    later(monkeypatch, 1.1)
    assert utils.load_certificates(ca) == (bench.ca_path.read_text(), None)
    assert utils.load_certificates(ca) != first


def test_afresh_once_a_minute(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = str(bench.ca_path)
    utils.load_certificates(ca)
    for text in ("one", "two"):
        put(bench.ca_path, text)
        assert utils.load_certificates(ca, None, invalidate_cache=True) == ("one", None)
    later(monkeypatch, 61)
    assert utils.load_certificates(ca, None, invalidate_cache=True) == ("two", None)


@pytest.mark.parametrize("damage", ["gone", "not ASCII"])
def test_a_damaged_file_leaves_the_last_good_one(
    damage: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ca = str(bench.ca_path)
    good = utils.load_certificates(ca)
    if damage == "gone":
        bench.ca_path.unlink()
    else:
        bench.ca_path.write_text("ü")
    later(monkeypatch, 2)
    assert utils.load_certificates(ca) is good
    assert "using the last good certificates" in caplog.text


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.replace(path, b"one", mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o600)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        files.replace(tmp_path / "folder", b"two")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder"]


# ---------------------------------------------------------------- our own key


@pytest.mark.parametrize("damage", ["no key", "no certificate", "mismatch", "rubbish", "a password"])
def test_a_key_that_is_damaged_leaves_the_last_good_one(
    damage: str, bench: Bench, message: Message, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = crypto.sign(message, **bench.config)
    key, certificate = bench.folder / "shell.test.key", bench.folder / "shell.test.crt"
    if damage == "no key":
        key.unlink()
    elif damage == "no certificate":
        certificate.unlink()
    elif damage == "mismatch":
        put(key, Holder("other", bench.ca).key_pem, 0o600)
    elif damage == "rubbish":
        put(certificate, "rubbish")
    else:
        put(key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 0o600)
    for second in (2, 4, 6):
        later(monkeypatch, second)
        assert crypto.sign(message, **bench.config) == before
    assert caplog.text.count("still signing with the previous key") == 1
    with pytest.raises(RefusedAtStart, match="can't sign with"):
        _keys._Watched(str(bench.folder), "shell.test")


def test_an_expired_certificate_of_our_own_is_told_of(
    bench: Bench, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    Holder("old", bench.ca, start=-9 * DAY, end=-DAY).write(bench.folder)
    with caplog.at_level(logging.WARNING):
        crypto.sign(message, **{**bench.config, "certname": "old"})
    assert "has expired" in caplog.text
