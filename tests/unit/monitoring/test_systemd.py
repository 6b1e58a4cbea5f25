# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a service manager is told, over a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.monitoring import systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_what_is_said_arrives(manager: socket.socket) -> None:
    assert systemd.notify("READY=1\nSTATUS=fine")
    assert manager.recv(100) == b"READY=1\nSTATUS=fine"


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0fedmsg-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@fedmsg-test-{os.getpid()}")
        assert systemd.notify("READY=1")
        assert listening.recv(100) == b"READY=1"


def test_nobody_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket) -> None:
    told = [systemd.notify("STATUS=fine") for _ in range(1000)]
    assert told[0]
    assert not told[-1]
    assert manager.recv(100) == b"STATUS=fine"
    assert systemd.notify("STATUS=fine")


def test_a_manager_that_is_gone_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not systemd.notify("READY=1")
    assert "NOTIFY_SOCKET" in caplog.text


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        (None, None, None),
        ("3000000", None, 1.5),
        ("3000000", "own", 1.5),
        ("3000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_watchdog_interval(
    usec: str | None, pid: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "own" else value)
    assert systemd.watchdog_interval() == seconds
