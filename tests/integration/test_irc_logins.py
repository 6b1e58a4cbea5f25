# SPDX-License-Identifier: LGPL-2.1-or-later
"""The IRC bot proves who it is, and wants proof of who the server is."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fedmsg.irc.bot import Bots, Client, Pace
from fedmsg.irc.configuration import read
from fedmsg.testing import wait_until
from tests.certificates import Holder, authority, key, put, usage
from tests.irc_services import ACCOUNT, PASSWORD, server_with_services
from tests.ircd import Ircd, User, Wiretap

SOON = Pace(apart=0.0, reconnect=0.2, rejoin=0.2, nickname=0.2, longest=0.5)


@pytest.fixture(autouse=True)
def _log_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedmsg.consumers.ircbot")


@contextmanager
def speaking(port: int, **more: Any) -> Iterator[Client]:
    """Run a bot."""
    entry = {"network": "127.0.0.1", "port": port, "channel": "news", "nickname": ACCOUNT, "line_rate": 0, **more}
    with Bots([read(entry)], SOON) as bots:
        bots.start()
        yield bots.clients[0]
        bots.stop_within(3)
        assert bots.join(10)


# ---------------------------------------------------------------- the server


class Proof:
    """A server with a certificate for 127.0.0.1, and the file of its authority."""

    def __init__(self, folder: Path) -> None:
        # Newer Pythons insist on these.
        own_key = x509.SubjectKeyIdentifier.from_public_key(key(1).public_key())
        ca = authority(key_number=1, extensions=[(own_key, False), usage(key_cert_sign=True)])
        its_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(key(1).public_key())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = Holder("irc.test", ca, extensions=[(address, False), (its_key, False)])
        self.ca = str(put(folder / "ca.crt", ca.pem))
        self.other_ca = str(put(folder / "other.crt", authority("Other CA").pem))
        certificate = put(folder / "irc.crt", leaf.pem), put(folder / "irc.key", leaf.key_pem)
        self.server = Ircd(folder / "ircd", certificate)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    made = Proof(tmp_path_factory.mktemp("tls"))
    with made.server:
        yield made


def test_an_encrypted_connection(proof: Proof) -> None:
    with User(proof.server.port, "ann", "#news") as ann, Wiretap(proof.server.tls_port) as wire:
        with speaking(wire.port, ssl=True, ssl_ca=proof.ca) as client:
            for number in range(20):
                client.notice("#news", f"message {number} {'x' * 1000}")
            client.notice("#news", "nobody else sees this")
            ann.wait_for_said("nobody else sees this")
        ann.wait_for(" QUIT :")
        assert wire.sent
        assert b"nobody" not in b"".join(wire.sent)


@pytest.mark.parametrize("trusted", ["other", "system"])
def test_a_server_that_nobody_vouches_for_is_told_nothing(
    proof: Proof, caplog: pytest.LogCaptureFixture, trusted: str
) -> None:
    trust = {"ssl_ca": proof.other_ca} if trusted == "other" else {}
    with Wiretap(proof.server.tls_port) as wire, speaking(wire.port, ssl=True, nickserv_password=PASSWORD, **trust):
        wait_until(lambda: "the server's certificate is rejected" in caplog.text)
        wait_until(lambda: "the next try is in" in caplog.text)
        assert b"NICK" not in b"".join(wire.sent)


def test_a_certificate_for_another_name_is_refused(proof: Proof, caplog: pytest.LogCaptureFixture) -> None:
    with speaking(proof.server.tls_port, network="localhost", ssl=True, ssl_ca=proof.ca):
        wait_until(lambda: "the server's certificate is rejected: Hostname mismatch" in caplog.text)


def test_encryption_where_there_is_none(proof: Proof, caplog: pytest.LogCaptureFixture) -> None:
    with speaking(proof.server.port, ssl=True, ssl_ca=proof.ca, timeout=0.5):
        wait_until(lambda: "the connection ended" in caplog.text)


# ---------------------------------------------------------------- the bot


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ircd]:
    with server_with_services(tmp_path_factory.mktemp("services")) as server:
        yield server


@pytest.fixture
def ann(served: Ircd) -> Iterator[User]:
    """Give somebody in a channel that only those may enter who have logged in."""
    with User(served.port, "ann", "#news") as user:
        user.send("MODE #news +R")
        user.wait_for("MODE #news :+R")
        yield user


@pytest.mark.parametrize(
    "login", [{"sasl_username": ACCOUNT, "sasl_password": PASSWORD}, {"nickserv_password": PASSWORD}]
)
def test_it_logs_in_before_it_joins(
    served: Ircd, ann: User, caplog: pytest.LogCaptureFixture, login: dict[str, str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with speaking(served.port, **login) as client:
        client.notice("#news", "let in")
        ann.wait_for_said("let in")
    # At once, and not only because it tried again.
    assert "can't join" not in caplog.text
    assert "TO SERVER: NICK" in caplog.text
    assert PASSWORD not in caplog.text
    assert "TO SERVER: AUTHENTICATE" not in caplog.text


def test_a_login_that_fails(served: Ircd, caplog: pytest.LogCaptureFixture) -> None:
    with speaking(served.port, sasl_username=ACCOUNT, sasl_password="wrong") as client:
        client.notice("#news", "nobody hears it")
        wait_until(lambda: caplog.text.count(f"the login with sasl_username {ACCOUNT} failed: SASL auth") >= 2)
    assert client.waiting == 1
    assert "wrong" not in caplog.text
    assert "connected as" not in caplog.text


def test_a_server_without_logins(proof: Proof, caplog: pytest.LogCaptureFixture) -> None:
    with speaking(proof.server.port, sasl_username=ACCOUNT, sasl_password=PASSWORD):
        wait_until(lambda: "failed: server does not support sasl" in caplog.text)


def test_the_password_of_a_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Ircd(tmp_path / "ircd", connect='password="sesame"') as server:
        with speaking(server.port, server_password="sesame"):
            wait_until(lambda: "joined" in caplog.text)
        with speaking(server.port, server_password="wrong"):
            wait_until(lambda: "the connection ended: Closing link" in caplog.text)
