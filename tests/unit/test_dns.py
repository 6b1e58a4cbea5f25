# SPDX-License-Identifier: LGPL-2.1-or-later
"""Endpoints from the DNS, asked of a real server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from fedmsg._util import dns as own_dns
from fedmsg._util import plugins
from fedmsg.config import _layers
from fedmsg.config._layers import Origin, lines
from tests.unit.configs import forget, load, write

RECORDS = {
    "_fedmsg._tcp.example.org.": [
        "20 0 9941 slow.example.org.",
        "10 1 9940 small.example.org.",
        "10 5 9940 big.example.org.",
    ],
    "_fedmsg._tcp.closed.example.org.": ["0 0 0 ."],
    "_fedmsg._tcp.other.example.org.": ["0 0 9940 127.0.0.1."],
}


class NameServer:
    """A name server on a free port of the loopback interface."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            packet, client = self._socket.recvfrom(4096)
            if not packet:
                return
            question = dns.message.from_wire(packet)
            name = question.question[0].name.to_text()
            self.asked.append(name)
            answer = dns.message.make_response(question)
            answer.flags |= dns.flags.RA
            if name in RECORDS:
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *RECORDS[name]))
            else:
                answer.set_rcode(dns.rcode.SERVFAIL if name.count(".broken.") else dns.rcode.NXDOMAIN)
            self._socket.sendto(answer.to_wire(), client)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    forget()
    one = NameServer()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = one.port
    # What /etc/resolv.conf would have said.
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
    yield one
    one.close()


def test_it_is_reached_by_its_name() -> None:
    assert plugins.lazy("dns") is own_dns


def test_addresses_by_priority_then_weight(server: NameServer) -> None:
    assert own_dns.service_addresses("example.org") == [
        "tcp://big.example.org:9940",
        "tcp://small.example.org:9940",
        "tcp://slow.example.org:9941",
    ]
    assert server.asked == ["_fedmsg._tcp.example.org."]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        ("nowhere.example.org", "does not exist"),
        ("a.broken.example.org", "failed to answer"),
        ("closed.example.org", "it has no such service"),
        ("x" * 64 + ".org", "> 63"),
        ("a..org", "label is empty"),
    ],
)
def test_a_failure_has_a_reason(domain: str, reason: str) -> None:
    with pytest.raises(own_dns.LookupFailed, match=reason):
        own_dns.service_addresses(domain)


@pytest.mark.usefixtures("server")
def test_load_config_adds_what_it_finds_and_warns_of_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    write(
        "fedmsg.d/a.py",
        {
            "endpoints": {"mine": "tcp://h:1"},
            "srv_endpoints": ["nowhere.example.org", "example.org", "a.broken.example.org"],
        },
    )
    config = load()
    assert config["endpoints"] == {
        "mine": ["tcp://h:1"],
        "example.org": ["tcp://big.example.org:9940", "tcp://small.example.org:9940", "tcp://slow.example.org:9941"],
    }
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    for message, domain in zip(caplog.messages, ["nowhere.example.org", "a.broken.example.org"], strict=True):
        assert message.startswith(f"srv_endpoints: the endpoints of '{domain}' can't be looked up: ")
        assert message.isprintable()


def test_nobody_is_asked_without_srv_endpoints(server: NameServer) -> None:
    load()
    assert server.asked == []


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "values", [{}, {"endpoints": {"other.example.org": "tcp://old:1"}}, {"endpoints": {"a": "tcp://h:1"}}]
)
@pytest.mark.parametrize("bare", [False, True])
def test_the_dns_is_an_origin(values: dict[str, Any], bare: bool) -> None:
    write("fedmsg.d/a.py", {**values, "srv_endpoints": ["other.example.org"]})
    answer = _layers.gather(_layers.Request(disable_defaults=bare))
    assert answer.config["endpoints"]["other.example.org"] == ["tcp://127.0.0.1:9940"]
    rows = dict(lines(answer.origins))
    found = rows.get("endpoints.other.example.org") or rows["endpoints"]
    assert found == Origin("SRV records of other.example.org")


def test_a_missing_library_is_one_line(tmp_path: Path) -> None:
    write("fedmsg.d/a.py", {"srv_endpoints": ["example.org"]})
    # None in the place of a module makes its import fail, as if it were not installed.
    code = (
        "import sys; sys.modules['dns'] = None\n"
        "from fedmsg.config import load_config\nfrom fedmsg.exceptions import MissingExtra\n"
        "try: load_config()\nexcept MissingExtra as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert run.stdout == "looking up endpoints in the DNS needs fedmsg[srv]: pip install 'fedmsg[srv]'\n"
