# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every bench needs: the contenders as processes of their own, and an end for each of them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from fedmsg.testing import command_path, free_address

__all__ = ["Bench", "BenchError", "Program", "cpu_seconds", "end", "expect", "memory_mib", "progress"]

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

# What the sockets of a relay may hold: our defaults, and so those of the bare proxy.
RECEIVE_LIMIT, SEND_LIMIT = 100_000, 200_000

# The peer needs the first to start its relay; the rest is what is usual, but unsigned.
_CONFIG = {"zmq_enabled": True, "environment": "dev", "sign_messages": False, "validate_signatures": False}


class BenchError(Exception):
    """What was measured did not do its work, so there is no figure."""


def expect(problem: str, who: str) -> None:
    """Stop when a check has found something.

    Raises:
        BenchError: It has.
    """
    if problem:
        raise BenchError(f"{who}: {problem}")


def progress(text: str) -> None:
    """Tell whoever waits how far we are."""
    print(text, file=sys.stderr, flush=True)


class Program:
    """One of the programs in `programs`, which does what it is asked for.

    Args:
        argv: How to start it.
        env: Its whole environment.
        cwd: Its folder.
    """

    def __init__(self, argv: list[str], env: dict[str, str], cwd: Path) -> None:
        self._name = " ".join(argv)
        self._popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=cwd)

    def begin(self, task: str, **arguments: Any) -> None:
        """Ask for a task and go on; `result` waits for its end."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"do": task, **arguments}).encode() + b"\n")
        self._popen.stdin.flush()

    def result(self, timeout: float = 120.0) -> Any:
        """What the task that was begun has returned.

        Raises:
            BenchError: It fails, or takes too long.
        """
        assert self._popen.stdout is not None
        # One answer is under way at most, so nothing can be left in the buffer that select does not see.
        if not select.select([self._popen.stdout], [], [], timeout)[0]:
            raise BenchError(f"no answer within {timeout:g} s from {self._name}")
        line = self._popen.stdout.readline()
        if not line:
            raise BenchError(f"status {self._popen.wait()} of {self._name}")
        return json.loads(line)

    def do(self, task: str, **arguments: Any) -> Any:
        """Ask for a task and wait for what it returns."""
        self.begin(task, **arguments)
        return self.result()

    def close(self) -> None:
        """Hang up; what does not end by that is killed."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        self._popen.stdout.close()
        end(self._popen, 0.5)


class Bench:
    """The surroundings of all measurements: folders, configurations, processes.

    It ends everything that was started in it.

    Args:
        peer: The environment in which fedmsg 1.1.7 is installed.
        rounds: How many rounds; each contender has its turn in each.
        share: By how much everything is made smaller, for a first look; 1 is full size.

    Attributes:
        folder: A folder of its own.
        environ: The environment for what is started: nothing of this machine's configuration.
        settings: The settings of every command.
    """

    def __init__(self, peer: Path, rounds: int, share: float = 1.0) -> None:
        self.rounds = rounds
        self._share = share
        self._peer = peer / "bin"
        self._temporary = tempfile.TemporaryDirectory(prefix="fedmsg-bench-")
        self.folder = Path(self._temporary.name)
        self._closers: list[Callable[[], None]] = [self._temporary.cleanup]
        self.settings: dict[str, Any] = dict(_CONFIG)
        # The programs are found by this link and not by the repository itself, in which the
        # peer's Python would find our fedmsg instead of its own.
        (self.folder / "path").mkdir()
        (self.folder / "path" / "tests").symlink_to(REPOSITORY / "tests")
        # For the programs; the peer does not start without a configuration. Commands are handed one of their own.
        (self.folder / "fedmsg.d").mkdir()
        (self.folder / "fedmsg.d" / "bench.py").write_text(f"config = {_CONFIG | {'endpoints': {}}!r}\n")
        unwanted = ("FEDMSG_", "PYTHON", "VIRTUAL_ENV", "NOTIFY_SOCKET", "NO_COLOR")
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
        self.environ["HOME"] = self._temporary.name

    def size(self, full: int) -> int:
        """How many messages, runs or the like to take."""
        return max(1, int(full * self._share))

    def python(self, who: str) -> str:
        """The interpreter of a contender."""
        return str(self._peer / "python") if who == "peer" else sys.executable

    def program(self, name: str, who: str = "limit") -> Program:
        """Start a program of ours with a contender's Python."""
        argv, env = self._program(name, who)
        started = Program(argv, env, self.folder)
        self._closers.append(started.close)
        return started

    def _program(self, name: str, who: str) -> tuple[list[str], dict[str, str]]:
        env = {**self.environ, "PYTHONPATH": str(self.folder / "path")}
        return [self.python(who), "-m", f"tests.bench.programs.{name}"], env

    def command(self, who: str, command: str, *arguments: str) -> list[str]:
        """The command line of a fedmsg command of ours or of the peer."""
        script = str(self._peer / command) if who == "peer" else command_path(command)
        return [script, *arguments]

    def configuration(self, who: str, inbound: str, outbound: str) -> str:
        """Write the configuration of a bus with those addresses; give its file."""
        settings = {"relay_inbound": [inbound], "endpoints": {"relay_outbound": [outbound]}}
        return self.configuration_file(f"{who}-{inbound.rpartition(':')[2]}", settings)

    def configuration_file(self, name: str, settings: dict[str, Any]) -> str:
        """Write a configuration; give its file."""
        path = self.folder / f"{name}.py"
        path.write_text(f"config = { ({**_CONFIG, **settings})!r}\n")
        return str(path)

    def relay(self, who: str, inbound: str, outbound: str) -> subprocess.Popen[bytes]:
        """Start a relay, or the bare proxy as the limit of one."""
        env = self.environ
        if who == "limit":
            argv, env = self._program("proxy", who)
            argv += ["bind", inbound, outbound, str(RECEIVE_LIMIT), str(SEND_LIMIT)]
        else:
            argv = self.command(who, "fedmsg-relay", "--config-filename", self.configuration(who, inbound, outbound))
        return self.start(argv, env)

    def gateway(self, who: str, endpoint: str, port: str) -> subprocess.Popen[bytes]:
        """Start a gateway that listens to one endpoint, or the bare proxy as the limit of one."""
        env = self.environ
        if who == "limit":
            argv, env = self._program("proxy", who)
            argv += ["connect", endpoint, f"tcp://*:{port}", str(RECEIVE_LIMIT), str(SEND_LIMIT)]
        else:
            settings = {
                "endpoints": {"bench": [endpoint]},
                "fedmsg.consumers.gateway.port": int(port),
                "fedmsg.consumers.gateway.high_water_mark": SEND_LIMIT,
            }
            config = self.configuration_file(f"gateway-{who}-{port}", settings)
            argv = self.command(who, "fedmsg-gateway", "--config-filename", config)
        return self.start(argv, env)

    def start(
        self, argv: list[str], env: dict[str, str] | None = None, output: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process; what it says goes to a file."""
        with (output or self.folder / "output.log").open("ab") as file:
            process = subprocess.Popen(
                argv, env=env or self.environ, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self._closers.append(lambda: end(process, 0.0))
        return process

    def closing(self, close: Callable[[], None]) -> None:
        """Have something closed at the end."""
        self._closers.append(close)

    def address(self) -> str:
        """A free address on this machine."""
        return free_address()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (self.folder / "output.log").exists():
            progress((self.folder / "output.log").read_text(errors="replace")[-2000:])
        while self._closers:
            self._closers.pop()()


def end(process: subprocess.Popen[bytes], patience: float) -> None:
    """Wait for the end of a process, and kill it after so many seconds."""
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """The processor time that a process has used, all its threads together, to the nanosecond."""
    # clock_getcpuclockid(3), which Python does not have: the id of a process's clock is made of its number.
    return time.clock_gettime((~process.pid << 3) | 2)


def memory_mib(process: subprocess.Popen[bytes], field: str = "VmRSS") -> float:
    """The resident memory of a process in MiB, or with ``VmHWM`` the most that it ever was."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024
