# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stop signals, sent to this very process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from fedmsg._util.signals import StopSignals
from fedmsg.monitoring import systemd


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert (stop.requested, stop.wait(0)) == (False, False)
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        assert stop.wait(10)
        assert stop.requested
    assert signal.getsignal(number) is before


def test_a_signal_may_come_at_any_moment() -> None:
    # Above all while the wait is on its way into or out of its sleep. Sent by another process, because a
    # thread of this one has its turn only while the main thread sleeps.
    with StopSignals() as stop:
        with subprocess.Popen(["/bin/sh", "-c", "while :; do kill -TERM $PPID; done"]) as sender:
            assert stop.wait(10)
            for _ in range(100_000):
                stop.wait(0)
            sender.kill()
        assert sender.returncode == -signal.SIGKILL


def test_a_hang_up_says_that_nothing_is_reloaded(caplog: pytest.LogCaptureFixture) -> None:
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.wait(0)
    assert "SIGHUP" in caplog.text


def test_the_wait_ends_when_the_work_does() -> None:
    with StopSignals() as stop:
        systemd.wait_and_watch(stop.wait, lambda: False, lambda: True)
        assert not stop.requested


def test_the_watchdog_is_reassured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, StopSignals() as stop:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        rounds, answers = iter([True] * 5 + [False]), iter([True, False, True, False, True])
        systemd.wait_and_watch(stop.wait, lambda: next(rounds), lambda: next(answers))
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_systemd_socket_that_can_not_be_written_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "socket"))
    for _ in range(10):
        assert not systemd.notify("WATCHDOG=1")
    assert caplog.text.count("NOTIFY_SOCKET") == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "socket"))
        assert systemd.notify("WATCHDOG=1")
    # It worked again, so its next failure is news.
    assert not systemd.notify("WATCHDOG=1")
    assert caplog.text.count("NOTIFY_SOCKET") == 2
