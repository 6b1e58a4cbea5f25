# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every daemon does under a service manager, with a socket of ours in its place. A row of DAEMONS for each."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fedmsg.testing import Process, free_address, free_port, run
from tests.certificates import Bench
from tests.structure import source


class Daemon(NamedTuple):
    """A daemon, and what it needs to run.

    Attributes:
        settings: Makes its settings, in a folder for files.
        ready: What it logs once it is ready.
        stopped: What it logs at its end.
    """

    settings: Callable[[Path], dict[str, Any]]
    ready: str
    stopped: str


def relay(_folder: Path) -> dict[str, Any]:
    return {"relay_inbound": [free_address()], "endpoints": {"relay_outbound": [free_address()]}}


def signing_relay(folder: Path) -> dict[str, Any]:
    keys = {key: value for key, value in Bench(folder).config.items() if key != "certname"}
    return {**relay(folder), **keys, "certnames": {"signing_relay": "shell.test"}}


def hub(_folder: Path) -> dict[str, Any]:
    return {"endpoints": {"shop": [free_address()]}, "fedmsg.consumers.dummy.enabled": True}


def gateway(_folder: Path) -> dict[str, Any]:
    return {"endpoints": {"shop": [free_address()]}, "fedmsg.consumers.gateway.port": free_port()}


def irc(_folder: Path) -> dict[str, Any]:
    channel = {"network": "127.0.0.1", "port": free_port(), "nickname": "bot", "channel": "#nobody"}
    return {"endpoints": {"shop": [free_address()]}, "irc": [channel]}


def replay(folder: Path) -> dict[str, Any]:
    return {"persistent_store": f"sqlite:///{folder}/store.db", "replay_endpoints": {"shop": free_address()}}


DAEMONS = {
    "fedmsg-gateway": Daemon(gateway, "repeating 1 endpoints", "stopped after 0 messages"),
    "fedmsg-hub": Daemon(hub, "running, 1 consumers and 0 producers", "stopped"),
    "fedmsg-irc": Daemon(irc, "speaking in IRC, 1 consumers", "stopped"),
    "fedmsg-relay": Daemon(relay, "relaying from ", "stopped after 0 messages"),
    "fedmsg-replay": Daemon(replay, "serving messages of shop", "stopped after 0 answers"),
    "fedmsg-signing-relay": Daemon(signing_relay, "relaying from ", "stopped after 0 messages"),
}


class Running(NamedTuple):
    """A daemon to start."""

    command: str
    daemon: Daemon
    environ: dict[str, str]

    def start(self, **environ: str) -> Process:
        """Start it, and wait until it is ready."""
        process = Process([self.command], env={**self.environ, **environ})
        try:
            return process.wait_ready()
        except BaseException:
            process.close()
            raise


@pytest.fixture(params=DAEMONS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    """Give each daemon in turn, with a configuration."""
    row = DAEMONS[request.param]
    path = tmp_path / "config.py"
    path.write_text(f"config = { {'environment': 'dev', **row.settings(tmp_path)}!r}\n")
    return Running(request.param, row, {"FEDMSG_CONFIG": str(path)})


def test_every_unit_is_of_a_daemon_that_is_tested() -> None:
    units = (source.REPOSITORY / "docs" / "systemd").glob("*.service")
    commands = {re.findall("ExecStart=/usr/bin/([^ \n]+)", path.read_text())[0] for path in units}
    # The server of these is gunicorn, and has tests of its own.
    assert commands - {"datagrepper", "statscache"} == set(DAEMONS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_one_starts_and_ends_in_good_order(daemon: Running, number: int) -> None:
    with daemon.start() as process:
        process.wait_for(daemon.daemon.ready)
        assert process.stop(number) == 0
        said = process.notifications()
        assert "STOPPING=1" in said
        # There was no watchdog to say that to.
        assert "WATCHDOG=1" not in said
        assert process.err == []
        process.wait_for(daemon.daemon.stopped)


def test_it_says_how_it_is(daemon: Running) -> None:
    with daemon.start(WATCHDOG_USEC="100000") as process:
        said: list[str] = []
        while said.count("WATCHDOG=1") < 3 or not any(line.startswith("STATUS=") for line in said):
            said += process.notifications()
            assert process.popen.poll() is None, process.report()
        assert process.stop() == 0


def test_a_hang_up_is_answered_and_survived(daemon: Running) -> None:
    with daemon.start() as process:
        process.popen.send_signal(signal.SIGHUP)
        process.wait_for("SIGHUP: a running process reloads nothing")
        assert process.stop() == 0


def test_a_flag_that_is_not_there_is_one_line(daemon: Running) -> None:
    ended = run([daemon.command, "--nonsense"], env=daemon.environ)
    assert ended.returncode == 2
    assert "--nonsense" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
