# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands as real processes, and conditions to wait for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fedmsg._util.service import SafeCondition

__all__ = ["Process", "command_path", "run", "wait_until"]

_T = TypeVar("_T")

_POLL_INTERVAL_S = 0.01


def wait_until(
    condition: Callable[[], _T],
    timeout: float = 30.0,
    *,
    what: str | Callable[[], str] = "",
    meanwhile: Callable[[], object] | None = None,
) -> _T:
    """Wait until a condition is true.

    Args:
        condition: Called again and again until it returns something true.
        timeout: Seconds.
        what: What is waited for, or a function that describes it; for the error.
        meanwhile: Called before each look at the condition, to make it true.

    Returns:
        What the condition returned.

    Raises:
        TimeoutError: It is still not true after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        if meanwhile is not None:
            meanwhile()
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            described = what() if callable(what) else what
            raise TimeoutError(f"not true after {timeout} s: {described or condition}")
        time.sleep(_POLL_INTERVAL_S)


def command_path(name: str) -> str:
    """Return the script of a command, that of this Python's environment first.

    Raises:
        FileNotFoundError: It is not installed; the text names how to install it.
    """
    here = Path(sysconfig.get_path("scripts")) / name
    found = str(here) if here.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed in {here.parent}: pip install the package first")
    return found


def run(
    argv: Sequence[str],
    *,
    stdin: str | bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float = 30.0,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; return its status, and its output as text.

    A bare name is looked up by `command_path`; ``env`` is added to this process's environment. After ``timeout``
    seconds it is killed and `subprocess.TimeoutExpired` raised.
    """
    ended = subprocess.run(
        _resolved(argv),
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    return subprocess.CompletedProcess(
        ended.args, ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
    )


def _resolved(argv: Sequence[str]) -> list[str]:
    first = argv[0] if os.sep in argv[0] else command_path(argv[0])
    return [first, *argv[1:]]


class Process:
    """A command that goes on running, with its output at hand.

    It ends with the block. Standard output and error are read all the time, so that it
    never waits for its reader.

    Args:
        argv: The command and its arguments; a bare name is looked up by `command_path`.
        stdin: Whether to open a pipe to its standard input, as ``popen.stdin``.

    Attributes:
        popen: The `subprocess.Popen` behind it.
        out: The lines of its standard output so far.
        err: The lines of its standard error so far.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdin: bool = False,
    ) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = SafeCondition()
        self._folder = tempfile.TemporaryDirectory(prefix="fedmsg-notify-")
        path = str(Path(self._folder.name) / "socket")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(path)
        self.popen = subprocess.Popen(
            _resolved(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NOTIFY_SOCKET": path, **(env or {})},
            cwd=cwd,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.popen.stdout, self.out), (self.popen.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: subprocess._FILE, lines: list[str]) -> None:
        assert not isinstance(stream, int)
        assert stream is not None
        for line in stream:
            with self._news.lock:
                lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        with self._news.lock:
            self._news.notify_all()

    def wait_ready(self, timeout: float = 20.0) -> Process:
        """Wait until the process reports to its service manager that it is ready.

        Raises:
            TimeoutError: It does not.
            ChildProcessError: It ends instead.
        """
        deadline = time.monotonic() + timeout
        self._notify.settimeout(0.05)
        while time.monotonic() < deadline:
            try:
                if "READY=1" in self._notify.recv(4096).decode().splitlines():
                    return self
            except TimeoutError:
                if self.popen.poll() is not None:
                    raise ChildProcessError(f"it ended with {self.popen.returncode}: {self.report()}") from None
        raise TimeoutError(f"it is not ready after {timeout} s: {self.report()}")

    def notifications(self) -> list[str]:
        """Return what the process has sent to its service manager since the last call."""
        self._notify.setblocking(False)
        found: list[str] = []
        while True:
            try:
                found += self._notify.recv(4096).decode().splitlines()
            except BlockingIOError:
                return found

    def wait_for(
        self,
        what: str | Callable[[str], object],
        timeout: float = 20.0,
        *,
        stream: str = "out",
        meanwhile: Callable[[], object] | None = None,
    ) -> str:
        """Wait for a line of output, of ``out`` or ``err``.

        Args:
            what: Text that the line contains, or a predicate of the line.
            timeout: Seconds.
            stream: The stream.
            meanwhile: Called every 50 ms while there is no such line, to provoke it.

        Raises:
            TimeoutError: No such line.
            ChildProcessError: It ended without one.
        """
        lines = self.out if stream == "out" else self.err
        fits = (lambda line: what in line) if isinstance(what, str) else what
        deadline, seen = time.monotonic() + timeout, 0
        while True:
            with self._news.lock:
                waiter = self._news.expect()
                found = next((line for line in lines[seen:] if fits(line)), None)
                seen = len(lines)
            if found is not None:
                self._news.discard(waiter)
                return found
            self._news.wait(waiter, 0.05)
            if len(lines) > seen:
                continue
            if self.popen.poll() is not None and not any(reader.is_alive() for reader in self._readers):
                raise ChildProcessError(f"it ended with {self.popen.returncode}: {self.report()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no line with {what!r} after {timeout} s: {self.report()}")
            if meanwhile is not None:
                meanwhile()

    def report(self) -> str:
        """Return the end of what it printed, for an error."""
        return f"out={self.out[-5:]} err={self.err[-20:]}"

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Send a signal, and wait for the end as `wait` does."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the end, and for the rest of the output; return the exit status.

        Raises:
            subprocess.TimeoutExpired: It goes on; it is killed.
        """
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise
        for reader in self._readers:
            reader.join(timeout)
        return status

    def memory(self) -> int:
        """Return its resident memory in KiB."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def close(self, timeout: float = 20.0) -> None:
        """Kill the process if it still runs, and close its pipes, socket and folder.

        Args:
            timeout: How many seconds to wait for the rest of the output.

        Raises:
            ChildProcessError: It has left a process behind that holds its output.
        """
        if self.popen.poll() is None:
            self.popen.kill()
        self.wait(timeout)
        # To close what a thread reads from would wait for that thread.
        is_left = any(reader.is_alive() for reader in self._readers)
        for stream in (self.popen.stdin, *(() if is_left else (self.popen.stdout, self.popen.stderr))):
            if stream is not None:
                # It may have ended before it had read what we wrote.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._notify.close()
        self._folder.cleanup()
        if is_left:
            raise ChildProcessError(f"{self.popen.args!r} has left a process behind: {self.report()}")

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
