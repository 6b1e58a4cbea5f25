# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-config --check as a pre-flight: what it finds is what the start of a command finds."""

from __future__ import annotations

import contextlib
import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process, free_address, run
from tests import inside
from tests.certificates import Bench, Holder, authority, put
from tests.publisher import Publisher

DAY = timedelta(days=1)
SHELL = f"shell.{socket.gethostname().split('.', 1)[0]}"
BOT = {"network": "127.0.0.1", "port": 6667, "nickname": "x", "channel": "c"}

WOULD_NOT_START, WOULD_NOT_WORK = 5, 1


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with files that are broken in several ways."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    bench = Bench(tmp_path)
    put(tmp_path / "old.pem", bench.ca.crl(start=-3 * DAY, end=-DAY))
    put(tmp_path / "old.crt", authority(start=-3 * DAY, end=-DAY).pem)
    Holder("other.test", bench.ca).write(tmp_path)
    put(tmp_path / "other.test.key", bench.leaf.key_pem, 0o600)
    put(tmp_path / "text", "no key, no certificate, no list")


def configure(settings: dict[str, Any]) -> str:
    """Write a configuration in which {here} stands for the folder, and addresses are free."""
    text = repr(settings).replace("{here}", str(Path.cwd()))
    endpoints = {"relay_outbound": [free_address()]}
    Path("configured.py").write_text(
        f"config = {{'relay_inbound': {free_address()!r}, 'endpoints': {endpoints!r}, **{text}}}"
    )
    return str(Path("configured.py").absolute())


CHECKING = {"validate_signatures": True, "ca_cert_location": "{here}/ca.crt"}
SIGNING = {"sign_messages": True, "ssldir": "{here}", "certnames": {SHELL: "shell.test"}}
SOCKET = "moksha.monitoring.socket"
TAIL, RELAY, HUB, BOTS, LOGGER = "fedmsg-tail", "fedmsg-relay", "fedmsg-hub", "fedmsg-irc", "fedmsg-logger --message x"

# What is configured, the command that can't start with it, the key and a part of the cure.
BROKEN: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no CA": ({**CHECKING, "ca_cert_location": "{here}/no.crt"}, TAIL, "validate_signatures", "ca_cert_location"),
    "bad CA": ({**CHECKING, "ca_cert_location": "{here}/text"}, TAIL, "validate_signatures", "ca_cert_location"),
    "no CRL": ({**CHECKING, "crl_location": "{here}/no.pem"}, TAIL, "validate_signatures", "crl_location"),
    "unknown backend": ({**CHECKING, "crypto_validate_backends": ["x"]}, TAIL, "validate_signatures", "'x'"),
    "no ssldir": ({**SIGNING, "ssldir": "{here}/no"}, LOGGER, "ssldir", "not a folder"),
    "no certnames": ({**SIGNING, "certnames": {}}, LOGGER, "certnames", "shell.<host>"),
    "no key": ({**SIGNING, "certnames": {SHELL: "no"}}, LOGGER, f"certnames['{SHELL}']", "no.key"),
    "key of another": ({**SIGNING, "certnames": {SHELL: "other.test"}}, LOGGER, f"certnames['{SHELL}']", "other.test"),
    "no CURVE server key": ({"curve_servers": {"relay_outbound": "{here}/no"}}, TAIL, "curve_servers", "no"),
    "bad CURVE server key": ({"curve_servers": {"relay_outbound": "{here}/text"}}, TAIL, "curve_servers", "text"),
    "no CURVE folder": ({"curve_publishers": "{here}/no"}, RELAY, "curve_publishers", "not a folder"),
    "CURVE without a key": ({"curve_subscribers": "{here}"}, RELAY, "curve_key", "curve_subscribers"),
    "no status folder": (
        {"status_directory": "{here}/text/x", "fedmsg.consumers.dummy.enabled": True},
        HUB, "status_directory", "text",
    ),
    "logging level": ({"logging": {"loggers": {"fedmsg": {"level": "debug"}}}}, TAIL, "logging", "'debug'"),
    "logging handler": ({"logging": {"loggers": {"fedmsg": {"handlers": ["no"]}}}}, TAIL, "logging", "'no'"),
    "logging class": ({"logging": {"handlers": {"console": {"class": "no.such"}}}}, TAIL, "logging", "console"),
    "log file": (
        {"logging": {"handlers": {"file": {"class": "logging.FileHandler", "filename": "{here}/no/log"}}}},
        TAIL, "logging.handlers.file", "make its folder",
    ),
    "IRC filter": ({"irc": [{**BOT, "filters": {"topic": ["*bad("]}}]}, BOTS, "irc[0]", "'*bad('"),
    "IRC nickname": ({"irc": [{**BOT, "nickname": "a b"}]}, BOTS, "irc[0]", "nickname"),
    "IRC port": ({"irc": [BOT, {**BOT, "port": "x"}]}, BOTS, "irc[1]", "port"),
    "IRC dict": ({"irc": {**BOT, "sasl_password": "geheim"}}, BOTS, "irc", "write a list of dicts"),
    "socket mode": ({SOCKET: "ipc://m.s", f"{SOCKET}.mode": "999"}, RELAY, f"{SOCKET}.mode", "0770"),
    "socket address": ({SOCKET: "/run/m.s"}, RELAY, SOCKET, "tcp:///run/m.s"),
    "socket path": ({SOCKET: f"ipc://{'x' * 120}"}, RELAY, SOCKET, "107"),
    "two addresses in one": (
        {"endpoints": {"a": "tcp://127.0.0.1:3000,tcp://127.0.0.1:3001"}}, TAIL, "endpoints", "write a list"
    ),
    "no port": ({"endpoints": {"a": "tcp://127.0.0.1"}}, TAIL, "endpoints", "host:1234"),
    "high port": ({"endpoints": {"a": "tcp://127.0.0.1:70000"}}, TAIL, "endpoints", "host:1234"),
    "no transport": ({"endpoints": {"a": "127.0.0.1:3000"}}, TAIL, "endpoints", "tcp://127.0.0.1:3000"),
    "long path": ({"relay_inbound": f"ipc://{'x' * 120}"}, RELAY, "relay_inbound", "107"),
    "policy of text": ({"routing_policy": {"a": "b"}}, TAIL, "routing_policy", "a dict of topics and lists"),
    "number": ({"timeout": "soon"}, TAIL, "timeout", "write a number of seconds"),
    "expression": ({"topic_prefix_re": "("}, TAIL, "topic_prefix_re", "regular expression"),
}  # fmt: skip


def check(path: str) -> tuple[int, list[str]]:
    """Run the pre-flight, and return its status and its lines."""
    ended = inside.run(["fedmsg-config", "--check", "--config-filename", path])
    assert (ended.stdout == "") is (ended.returncode != 0)
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.parametrize("broken", BROKEN)
def test_preflight_names_what_keeps_a_command_from_starting(broken: str) -> None:
    settings, command, key, cure = BROKEN[broken]
    path = configure(settings)
    status, lines = check(path)
    assert status == WOULD_NOT_START, lines
    assert [key in line and cure in line for line in lines] == [True], lines
    assert lines[0].startswith(f"fedmsg-config: {path}: ") or "default: " in lines[0]
    assert "geheim" not in lines[0]
    ended = run([*command.split(), "--config-filename", path])
    assert ended.returncode in {WOULD_NOT_START, 6, 7}, ended.stderr
    assert "geheim" not in ended.stderr


def test_preflight_is_content_with_what_is_in_order(publisher: Publisher) -> None:
    settings = {**CHECKING, **SIGNING, "crl_location": "{here}/crl.pem", "irc": [BOT], "state_directory": "{here}/new"}
    path = configure(settings)
    assert check(path) == (0, [])
    with Process([RELAY, "--config-filename", path]) as relay:
        assert relay.wait_ready().stop() == 0
    assert not Path("new").exists()


ODD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "old CRL": ({**CHECKING, "crl_location": "{here}/old.pem"}, TAIL, "crl_location", "has expired"),
    "old CA": ({**CHECKING, "ca_cert_location": "{here}/old.crt"}, TAIL, "ca_cert_location", "has expired"),
    "IRC without a channel": ({"irc": [BOT, {"nickname": "x"}]}, BOTS, "irc[1]", "'channel'"),
    "IRC key": ({"irc": [{**BOT, "colour": 1}]}, BOTS, "irc[0]", "'colour'"),
    "state folder": ({"state_directory": "{here}/text/x"}, RELAY, "state_directory", "text"),
    "CRL cache": ({"crl_cache": "{here}/no/crl.pem"}, RELAY, "crl_cache", "make it"),
    "pid file": ({"pidfile": "{here}"}, RELAY, "pidfile", "name a file"),
    "STOMP key": ({"stomp_ssl_key": "{here}/no.key"}, RELAY, "stomp_ssl_key", "may read"),
    "dead letters": ({"dead_letter_directory": "{here}/text"}, RELAY, "dead_letter_directory", "text"),
}


@pytest.fixture
def publisher(tmp_path: Path) -> Any:
    with contextlib.closing(Publisher(tmp_path)) as found:
        yield found


@pytest.mark.parametrize("odd", ODD)
def test_preflight_names_what_keeps_a_command_from_working(odd: str, publisher: Publisher) -> None:
    settings, command, key, cure = ODD[odd]
    if command == TAIL:
        found = Path(publisher.environ["FEDMSG_CONFIG"]).read_text()
        address = found.partition("['")[2].partition("']")[0]
        settings = {**settings, "endpoints": {**settings.get("endpoints", {}), "publisher": [address]}}
    path = configure(settings)
    status, lines = check(path)
    assert status == WOULD_NOT_WORK, lines
    assert [key in line and cure in line for line in lines] == [True], lines
    with Process([command, "--config-filename", path]) as started:
        if command == TAIL:
            publisher.wait()
        else:
            started.wait_ready()
        assert started.stop() == 0


def test_preflight_names_an_address_that_no_listener_can_connect_to(publisher: Publisher) -> None:
    found = Path(publisher.environ["FEDMSG_CONFIG"]).read_text()
    good = found.partition("['")[2].partition("']")[0]
    path = configure({"endpoints": {"a": ["tcp://*:4001", good]}})
    status, lines = check(path)
    assert status == WOULD_NOT_WORK
    assert [("endpoints['a']" in line, "the name of the host" in line) for line in lines] == [(True, True)]
    with Process([TAIL, "--config-filename", path]) as tail:
        publisher.wait()
        assert tail.stop() == 0


def test_preflight_names_endpoints_none_of_which_a_listener_can_connect_to() -> None:
    path = configure({"endpoints": {"a": ["tcp://*:4001", "tcp://*:4002"]}})
    status, lines = check(path)
    assert (status, len(lines)) == (WOULD_NOT_START, 2)
    ended = run([TAIL, "--config-filename", path])
    assert ended.returncode == WOULD_NOT_START, ended.stderr


@pytest.mark.parametrize("key", ["relay_inbound", "endpoints['relay_outbound']"])
def test_preflight_names_a_port_that_another_program_has(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        path = configure(
            {"relay_inbound": address} if key == "relay_inbound" else {"endpoints": {"relay_outbound": [address]}}
        )
        status, lines = check(path)
        assert status == WOULD_NOT_START
        assert [key in line and address in line for line in lines] == [True], lines
        assert run([RELAY, "--config-filename", path]).returncode == 6
    assert check(path) == (0, [])


def test_preflight_is_content_while_the_relay_runs() -> None:
    path = configure({})
    with Process([RELAY, "--config-filename", path]) as relay:
        relay.wait_ready()
        assert check(path) == (0, [])


def test_preflight_names_the_keys_that_nothing_reads(tmp_path: Path) -> None:
    put(
        tmp_path / "own.py",
        "config = {'own.key': 1, 'fedmsg.consumers.dummy.enabled': False, 'name': 'x', 'json': True}",
    )
    status, lines = check(str(tmp_path / "own.py"))
    assert status == 0
    assert len(lines) == 1
    assert "own.key: neither fedmsg nor an installed consumer is known to read this key" in lines[0]


def test_preflight_names_all_problems_at_once() -> None:
    path = configure({**BROKEN["no CA"][0], **BROKEN["IRC filter"][0], **BROKEN["number"][0]})
    status, lines = check(path)
    assert status == WOULD_NOT_START
    assert [word in line for word, line in zip(["timeout", "validate_signatures", "irc[0]"], lines, strict=True)] == [
        True
    ] * 3


def test_preflight_finds_the_samples_in_need_of_keys(repository: Path) -> None:
    ended = run(["fedmsg-config", "--check"], env={"FEDMSG_CONFIG": str(repository / "fedmsg.d")})
    assert ended.returncode == WOULD_NOT_START
    assert [line.split(": ")[2] for line in ended.stderr.splitlines()] == ["validate_signatures", "ssldir"]


def test_preflight_opens_no_log_file() -> None:
    handler = {"class": "logging.FileHandler", "filename": "{here}/new.log", "level": "INFO"}
    path = configure({"logging": {"handlers": {"file": handler}, "loggers": {"fedmsg": {"handlers": ["file"]}}}})
    assert check(path) == (0, [])
    assert not Path("new.log").exists()
    assert json.loads(run(["fedmsg-config", "--config-filename", path]).stdout)["logging"]["handlers"]["file"]
