# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PostgreSQL server of our own for tests and benches, from the programs that Debian's package brings."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psycopg

from fedmsg.testing import free_port, wait_until

MISSING = "PostgreSQL, whose initdb is neither on the PATH nor in /usr/lib/postgresql (apt-get install postgresql)"


def programs() -> Path:
    """Return the folder with the programs of the server, the newest one where there are several.

    Raises:
        FileNotFoundError: There is none; says what to install.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path))
    if not found:
        raise FileNotFoundError(MISSING)
    return found[-1].resolve().parent


def _version(program: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", program.parts[-3])]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Cluster:
    """A server with its data in a temporary folder, on a free port of the loopback interface.

    Args:
        durable: Whether a commit waits for the disk, as it does outside of tests.
        data: Data of another one that is taken over; new ones when not given.
    """

    def __init__(self, *, durable: bool = False, data: Path | None = None) -> None:
        self._programs = programs()
        self._numbers = itertools.count(1)
        # PostgreSQL refuses to run as root.
        self._user = self._other_user() if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="fedmsg-postgresql-"))
        self._server: subprocess.Popen[bytes] | None = None
        self._options: list[str] = []
        try:
            if self._user is not None:
                os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
            if data is None:
                self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                          "--no-locale", "--no-sync")  # fmt: skip
            else:
                self._take_over(data)
            self._start(durable=durable)
        except BaseException:
            self.close()
            raise

    @property
    def data(self) -> Path:
        """The folder with its data."""
        return self._folder / "data"

    def _take_over(self, data: Path) -> None:
        shutil.move(data, self.data)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if self._user is not None:
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid, follow_symlinks=False)

    @staticmethod
    def _other_user() -> pwd.struct_passwd:
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise LookupError("PostgreSQL can't run as root, and there is neither a user postgres nor nobody")

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        user = self._user
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *arguments], cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                user=user and user.pw_uid, group=user and user.pw_gid, extra_groups=None if user is None else [],
            )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        with self._popen(program, *arguments) as process:
            status = process.wait(60)
        if status:
            raise RuntimeError(f"{program} has ended with {status}: {self._log()}")

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]

    def _start(self, *, durable: bool) -> None:
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        self._options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        # Somebody may take the port between our looking for it and the server's taking it.
        for _ in range(3):
            self.port = free_port()
            if self._try():
                return
        raise RuntimeError(f"postgres does not start: {self._log()}")

    def _try(self) -> bool:
        self._server = self._popen("postgres", "-D", str(self.data), "-p", str(self.port), *self._options)
        return self._answers(self._server)

    def processes(self) -> list[int]:
        """Return the ids of its processes."""
        assert self._server is not None
        return [self._server.pid, *_children(self._server.pid)]

    def checkpoint(self) -> None:
        """Have all that it has in memory written to its files."""
        self._execute("CHECKPOINT")

    def kill(self) -> None:
        """Kill the server and all that it has started, as a fault of the machine would."""
        assert self._server is not None
        for process in self.processes():
            # One of them may have ended by itself.
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._server.wait()

    def start_again(self) -> None:
        """Start the server that was killed, at the same port."""
        # What the dead one had may still be in use for a moment.
        wait_until(self._try, what="PostgreSQL starts again")

    def _answers(self, server: subprocess.Popen[bytes]) -> bool:
        def answers() -> bool:
            try:
                psycopg.connect(self.url("postgres", driver="postgresql"), connect_timeout=5).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(lambda: server.poll() is not None or answers(), what="PostgreSQL answers")
        return server.poll() is None

    def limit_files(self, process: int, size: int | None) -> None:
        """Limit the size of files that a process of the server writes, as a full disk would; None for no limit."""
        limit = "unlimited" if size is None else str(size)
        arguments = ["prlimit", "--pid", str(process), f"--fsize={limit}:unlimited"]
        user = self._user and self._user.pw_uid
        subprocess.run(arguments, check=True, user=user, group=self._user and self._user.pw_gid, cwd="/")

    def url(self, database: str, *, driver: str = "postgresql+psycopg") -> str:
        """Return the URL of a database."""
        return f"{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """Make a database; returns its SQLAlchemy URL."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres", driver="postgresql"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        """Stop the server and remove its data."""
        if self._server is not None and self._server.poll() is None:
            # Ends it without waiting for those who are connected.
            self._server.send_signal(signal.SIGINT)
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
