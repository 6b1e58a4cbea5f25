# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real IRC server in a folder of its own, and people who talk on it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from fedmsg.testing import free_port, wait_until
from tests import requirements
from tests.integration.faults.ground import freeze

_CONFIG = """
<server name="irc.test" description="tests" network="Tests">
<admin name="tests" nick="tests" email="tests@irc.test">
<bind address="127.0.0.1" port="{port}" type="clients">
{more}
<connect name="main" allow="*" timeout="20" pingfreq="3600" hardsendq="64M" softsendq="64M" recvq="64M"
 threshold="10000000" commandrate="1000000000" fakelag="no" localmax="100" globalmax="100" maxchans="1000"
 resolvehostnames="no" useident="no" {connect}>
<files motd="{folder}/motd.txt">
<pid file="{folder}/ircd.pid">
<path configdir="{folder}" datadir="{folder}" logdir="{folder}" runtimedir="{folder}" moduledir="{modules}">
<log method="file" type="*" level="default" target="{folder}/ircd.log">
<options defaultmodes="no" casemapping="rfc1459">
<performance somaxconn="128">
<class name="all" commands="*" privs="*" usermodes="*" chanmodes="*">
<type name="boss" classes="all">
<oper name="boss" password="boss" host="*@*" type="boss">
<module name="cap">
<module name="blockcolor">
"""
_MODULES = "/usr/lib/inspircd/modules"


class Ircd:
    """An InspIRCd that listens on the loopback interface.

    Args:
        folder: Where it keeps its files.
        certificate: The files of its certificate and key; it listens for TLS then, too.
        more: More lines for its configuration.
        connect: More attributes for everybody who connects.

    Attributes:
        port: Where it listens.
        tls_port: Where it listens for TLS.
    """

    def __init__(
        self, folder: Path, certificate: tuple[Path, Path] | None = None, more: str = "", connect: str = ""
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.port, self.tls_port = free_port(), free_port()
        if certificate is not None:
            more += (
                '<module name="ssl_gnutls">\n'
                f'<sslprofile name="tls" provider="gnutls" certfile="{certificate[0]}" keyfile="{certificate[1]}">\n'
                f'<bind address="127.0.0.1" port="{self.tls_port}" type="clients" sslprofile="tls">\n'
            )
        text = _CONFIG.format(port=self.port, folder=folder, modules=_MODULES, more=more, connect=connect)
        (folder / "ircd.conf").write_text(text, encoding="utf-8")
        (folder / "motd.txt").write_text("Welcome\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Ircd:
        """Start it, and wait until it listens."""
        program = requirements.program("inspircd", "inspircd")
        command = [program, f"--config={self._folder}/ircd.conf", "--nofork", "--nopid"]
        if os.getuid() == 0:
            command.append("--runasroot")
        with (self._folder / "out.txt").open("ab") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._folder
            )
        wait_until(self._listens)
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "out.txt").read_text(errors="replace")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """Stop it, which cuts all connections."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it do nothing for a while, with all connections open."""
        assert self._process is not None
        freeze(self._process.pid)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Ircd:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Heard(NamedTuple):
    """A line from the server.

    Attributes:
        at: When it came, in seconds of the monotonic clock.
        raw: The line with its end, as bytes.
    """

    at: float
    raw: bytes

    @property
    def line(self) -> str:
        """Return it as text without the end."""
        return self.raw.decode().rstrip("\r\n")


class User:
    """Somebody who sits in a channel and writes down what is said.

    Args:
        port: Where the server listens.
        nick: The name.
        channel: The channel to join.

    Attributes:
        heard: All lines from the server, in their order.
    """

    def __init__(self, port: int, nick: str, channel: str | None = None) -> None:
        self.nick = nick
        self.heard: list[Heard] = []
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(f"NICK {nick}")
        self.send(f"USER {nick} 0 * :{nick}")
        self.wait_for(" 001 ")
        if channel is not None:
            self.join(channel)

    def join(self, channel: str) -> None:
        """Enter a channel."""
        self.send(f"JOIN {channel}")
        self.wait_for(f" 366 {self.nick} {channel} ")

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for raw in lines:
                if raw.startswith(b"PING"):
                    self._socket.sendall(raw.replace(b"PING", b"PONG", 1))
                self.heard.append(Heard(time.monotonic(), raw))

    def send(self, line: str) -> None:
        """Send a command."""
        self._socket.sendall(line.encode() + b"\r\n")

    def wait_for(self, what: str | Callable[[str], object], timeout: float = 20.0, after: int = 0) -> str:
        """Wait for a line.

        Args:
            what: Text in it, or a predicate.
            timeout: Seconds.
            after: How many lines to leave out.
        """
        fits = (lambda line: what in line) if isinstance(what, str) else what

        def found() -> str | None:
            return next((heard.line for heard in self.heard[after:] if fits(heard.line)), None)

        wait_until(lambda: found() is not None, timeout, what=lambda: f"no {what!r} in {self.heard[-10:]}")
        line = found()
        assert line is not None
        return line

    def said(self, nick: str | None = None) -> list[str]:
        """Return what was said in channels, by somebody."""
        return [text for who, text in (_said(heard.line) for heard in list(self.heard)) if nick in {None, who} and text]

    def said_in(self, channel: str, nick: str) -> list[Heard]:
        """Return the lines that somebody said in a channel."""
        found = []
        for heard in list(self.heard):
            words = heard.line.split(" ", 3)
            if words[0].startswith(f":{nick}!") and words[1] in {"NOTICE", "PRIVMSG"} and words[2] == channel:
                found.append(heard)
        return found

    def wait_for_said(self, text: str, timeout: float = 20.0) -> None:
        """Wait until exactly that has been said."""
        wait_until(lambda: text in self.said(), timeout, what=lambda: f"no {text!r} in {self.said()[-10:]}")

    def close(self) -> None:
        """Leave."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(10)
        self._socket.close()

    def __enter__(self) -> User:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _said(line: str) -> tuple[str, str]:
    """Take a line apart into who said it in a channel, and what; nothing for other lines."""
    source, _, rest = line.partition(" ")
    command, _, rest = rest.partition(" ")
    target, _, text = rest.partition(" :")
    said = command in {"NOTICE", "PRIVMSG"} and target.startswith("#") and "!" in source
    return (source[1:].partition("!")[0], text) if said else ("", "")


class Wiretap:
    """Sits between a client and a server, and writes down what the client sends.

    Args:
        port: Where the server listens.

    Attributes:
        port: Where to connect to.
        sent: What has come from clients, one after the other, as bytes.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.sent: list[bytes] = []
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self._sockets[0].getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                self._sockets.append(client)
                try:
                    server = socket.create_connection(("127.0.0.1", self._to), 10)
                except ConnectionRefusedError:
                    client.close()
                    continue
                server.settimeout(None)
                self._sockets.append(server)
                for source, sink, notes in ((client, server, self.sent), (server, client, None)):
                    thread = threading.Thread(target=self._pass_on, args=(source, sink, notes), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, notes: list[bytes] | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if notes is not None:
                    notes.append(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def lines(self) -> list[bytes]:
        """Return the lines that clients have sent; a last one without an end included."""
        return b"".join(self.sent).split(b"\r\n")

    def close(self) -> None:
        """End all connections."""
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Wiretap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
