# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command does as a process: signals, one line for a failure, an output that is gone."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from fedmsg._util.service import ServiceThread
from fedmsg._util.text import as_utf8, one_line
from fedmsg.exceptions import FedmsgError, UsageError, WorkLeft

__all__ = [
    "BUG",
    "end_quietly_when_output_is_gone",
    "ending_with_output",
    "input_lines",
    "interruptible",
    "reporting",
    "write_what_can_be_written",
]

#: The exit status for what was not expected. Expected failures carry their own: fedmsg.exceptions.
BUG = 70
_STDOUT = 1
# How long Python may take to come back from a hook.
_RETURN_SECONDS = 0.01
# The disk, or what the user may have of it.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def reporting(prog: str, *, debug: bool, log: logging.Logger | None = None) -> Iterator[None]:
    """Turn a failure into one line on standard error, and in a log, and an exit status.

    Raises:
        SystemExit: Something failed, with the status for it; 0 when the reader of the output has left.
    """
    try:
        with _flushed():
            yield
    except FedmsgError as error:
        _fail(prog, one_line(str(error)), error.exit_status, debug=debug, log=log)
    except Exception as error:  # noqa: BLE001 whatever it is, the user gets a line and not a traceback
        if isinstance(error, OSError):
            end_quietly_when_output_is_gone(error)
            if error.errno in _FULL:
                _fail(prog, f"it can't write any more: {error.strerror}", WorkLeft.exit_status, debug=debug, log=log)
        what = one_line(f"{type(error).__name__}: {error}")
        hint = "" if debug else " (--debug shows where)"
        _fail(prog, f"this should not happen: {what}{hint}", BUG, debug=debug, log=log)


def _fail(prog: str, line: str, status: int, *, debug: bool, log: logging.Logger | None) -> NoReturn:
    if log is not None:
        log.error("%s", line, exc_info=debug)
    if debug:
        traceback.print_exc()
    print(f"{prog}: {line}", file=sys.stderr)
    try:
        _flush()
    except OSError:
        _discard_output()
    sys.exit(status)


@contextmanager
def _flushed() -> Iterator[None]:
    """Write what is still to be written at the end, while a failure can still be reported."""
    try:
        yield
    except SystemExit:
        _flush()
        raise
    _flush()


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


class _Interrupt(KeyboardInterrupt):
    """What a signal raises, and which it was."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def interruptible(prog: str) -> Iterator[None]:
    """Make SIGTERM interrupt as Ctrl-C does, and SIGHUP only print a line; a second signal ends the process at once.

    A signal that the process was started to ignore, as by nohup, stays ignored. Outside the
    main thread nothing changes: Python has signals there only.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Interrupt(number)

    def hang_up(number: int, _: FrameType | None) -> None:
        try:
            # Not by print: the signal may have come in the middle of one.
            os.write(2, f"{prog}: SIGHUP: nothing is reloaded; restart it to read a changed configuration\n".encode())
        except OSError:
            # The terminal itself has gone.
            raise _Interrupt(number) from None

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    for which, handler in ((signal.SIGINT, stop), (signal.SIGTERM, stop), (signal.SIGHUP, hang_up)):
        if signal.getsignal(which) is not signal.SIG_IGN:
            before[which] = signal.signal(which, handler)
    try:
        with _insisting(stop):
            yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def _insisting(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Repeat an interruption that got lost.

    A signal may come while an object is destroyed. What its handler raises there can't go
    anywhere, so Python reports it and goes on. That is rare elsewhere, but pyzmq spends
    much of its time on freeing frames: of a hundred busy tails two missed their SIGINT.
    """
    main = threading.get_ident()
    excepthook, unraisablehook = sys.excepthook, sys.unraisablehook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Cython shows a lost exception in both ways.
        if not isinstance(error, _Interrupt):
            excepthook(kind, error, trace)

    def repeat(lost: Any) -> None:
        if not isinstance(lost.exc_value, _Interrupt):
            unraisablehook(lost)
            return
        number = lost.exc_value.number
        here = threading.Lock()

        def again() -> None:
            # Here it would be lost again, and this may take long on a busy machine: to start a thread does.
            with here:
                time.sleep(_RETURN_SECONDS)
            # To the thread, to wake it.
            signal.pthread_kill(main, number)

        with here:
            threading.Thread(target=again, daemon=True).start()
            signal.signal(number, stop)

    sys.excepthook, sys.unraisablehook = show, repeat
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = excepthook, unraisablehook


class _OutputWatch(ServiceThread):
    """Ends an idle command when the reader of its standard output has gone, as SIGTERM would."""

    def run(self) -> None:
        main = threading.main_thread().ident
        poll = select.poll()
        poll.register(_STDOUT, 0)  # errors are reported unasked
        poll.register(self.waker, select.POLLIN)
        self.ready()
        gone = {descriptor for descriptor, _ in poll.poll()}
        if _STDOUT in gone and main is not None and not self.stopping:
            # To the thread itself, which may be waiting for a message.
            signal.pthread_kill(main, signal.SIGTERM)


@contextmanager
def ending_with_output() -> Iterator[None]:
    """Interrupt the block when the reader of standard output has gone; inside `interruptible`.

    Nothing happens outside the main thread, and when a program has put another object in place of
    standard output.

    Raises:
        KeyboardInterrupt: The reader has gone.
    """
    is_ours = sys.stdout is not None and sys.stdout is sys.__stdout__
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _OutputWatch("fedmsg-output") as watch:
        watch.start()
        yield


def end_quietly_when_output_is_gone(error: OSError) -> None:
    """End the process silently if the reader of its standard output has left.

    Raises:
        SystemExit: The reader has left. The status is 0: it got all that it wanted.
    """
    if error.errno not in {errno.EPIPE, errno.EIO} or not _output_is_gone():
        return
    _discard_output()
    sys.exit(0)


def write_what_can_be_written() -> None:
    """Write a character that the encoding of the output lacks as an escape, instead of ending the command."""
    reconfigure: Any = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Drop what is left in the buffer: Python would flush it at exit, fail again and print a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _output_is_gone() -> bool:
    """Return whether the reader of standard output has gone."""
    poll = select.poll()
    poll.register(_STDOUT, 0)  # errors are reported unasked
    return any(events & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, events in poll.poll(0))


def input_lines(log: logging.Logger) -> Iterator[str]:
    """Yield the lines of standard input as they come, each with its end.

    Bad bytes become U+FFFD, which is logged once: what JSON could write of them, half of a character that
    doesn't exist, is rejected by databases and by other languages.

    Raises:
        UsageError: It can't be read.
    """
    stream: Any = sys.stdin
    if stream is None:
        raise UsageError("standard input is closed: there is nothing to read")
    if hasattr(stream, "reconfigure"):
        # Keeps bad bytes apart from a U+FFFD that was there before.
        stream.reconfigure(errors="surrogateescape")
    is_logged = False
    try:
        for number, line in enumerate(stream, 1):
            text = line if line.isascii() else as_utf8(line)
            if not is_logged and text is not line and text.count("\ufffd") > line.count("\ufffd"):
                log.warning("line %d is not UTF-8: its bad bytes, and those of later lines, are sent as U+FFFD", number)
                is_logged = True
            yield text
    except OSError as error:
        raise UsageError(f"standard input can't be read: {error.strerror or error}") from error
