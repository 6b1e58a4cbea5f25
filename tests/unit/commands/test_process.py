# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.commands._process: what a command does around its work, piece by piece."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading

import pytest

from fedmsg.commands import _process
from fedmsg.exceptions import NotListening


def test_no_failure_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    with _process.reporting("greet", debug=True):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [SystemExit(5), KeyboardInterrupt()])
def test_what_is_no_failure_passes(error: BaseException) -> None:
    with pytest.raises(type(error)), _process.reporting("greet", debug=False):
        raise error


def test_the_log_gets_the_line_too(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught, _process.reporting("greet", debug=False, log=logging.getLogger("x")):
        raise NotListening("nobody\nthere")
    assert caught.value.code == 3
    assert capsys.readouterr() == ("", "greet: nobody; there\n")
    assert [(row.levelname, row.getMessage()) for row in caplog.records] == [("ERROR", "nobody; there")]
    assert not caplog.records[0].exc_info


def test_a_signal_handler_that_was_there_comes_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with _process.interruptible("greet"):
        assert all(signal.getsignal(number) not in before for number in numbers)
    with pytest.raises(KeyboardInterrupt), _process.interruptible("greet"):
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    found: list[object] = []

    def work() -> None:
        with _process.interruptible("greet"):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOENT])
def test_an_output_that_is_there_is_not_gone(number: int) -> None:
    _process.end_quietly_when_output_is_gone(OSError(number, os.strerror(number)))
