# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.commands._daemon: what is looked at before a process goes to the background."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedmsg.commands import _daemon
from fedmsg.exceptions import AddressInUse, ConfigError


def test_a_pidfile_that_is_not_there() -> None:
    path = str(Path("daemon.pid").absolute())
    assert _daemon._pidfile(path).path == path
    assert not Path(path).exists()


def test_a_pidfile_of_a_process_that_runs() -> None:
    Path("daemon.pid").write_text(f"{os.getpid()}\n")
    with pytest.raises(AddressInUse, match=f"process {os.getpid()} is running"):
        _daemon._pidfile(str(Path("daemon.pid").absolute()))


def test_a_pidfile_of_a_process_that_has_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    Path("daemon.pid").write_text(f"{ended.pid}\n")
    _daemon._pidfile(str(Path("daemon.pid").absolute()))
    assert not Path("daemon.pid").exists()


@pytest.mark.parametrize("text", ["", "no number", "\x00"])
def test_pidfile_without_a_process_number_is_taken_over(text: str, caplog: pytest.LogCaptureFixture) -> None:
    Path("daemon.pid").write_text(text)
    lock = _daemon._pidfile(str(Path("daemon.pid").absolute()))
    assert not Path("daemon.pid").exists()
    with lock:
        assert Path("daemon.pid").read_text() == f"{os.getpid()}\n"
    assert [message.partition(" holds ")[2] for message in caplog.messages] == ["no process number, and is taken over"]


def test_pidfile_that_is_a_file_for_something_else_is_kept() -> None:
    Path("daemon.pid").write_text("x" * 65)
    with pytest.raises(ConfigError, match="is no pid file; remove it"):
        _daemon._pidfile(str(Path("daemon.pid").absolute()))
    assert Path("daemon.pid").read_text() == "x" * 65


def test_the_mask_for_new_files_is_the_one_that_is_set() -> None:
    before = os.umask(0o027)
    try:
        assert _daemon._umask() == 0o027
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_the_files_of_the_log_are_known() -> None:
    handlers: list[logging.Handler] = [logging.FileHandler("a.log"), logging.FileHandler("b.log", delay=True)]
    handlers.append(logging.NullHandler())
    log = logging.getLogger("test_commands_daemonize")
    log.handlers[:] = handlers
    try:
        files = {os.readlink(f"/proc/self/fd/{number}") for number in _daemon._log_files()}
        assert str(Path("a.log").absolute()) in files
        assert str(Path("b.log").absolute()) not in files
    finally:
        log.handlers.clear()
        for handler in handlers:
            handler.close()
