# SPDX-License-Identifier: LGPL-2.1-or-later
"""A connection to an IRC server: the one module that imports irc, which knows the protocol."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import irc.client

from fedmsg.irc.configuration import Bot

__all__ = ["Connection", "Event"]

# More than that without the end of a line is no IRC: a line has 512 bytes, with tags 8,703.
_LONGEST_LINE = 16384
_AT_ONCE = 16384
# How often to read in a row before the bot's own lines have their turn.
_READS = 16
# Seconds that a server may take to take what is sent to it.
_SENDING = 20.0

# The lines that are of use here. The library raises on some that are malformed, or leave out
# what it expects.
_OF_USE = re.compile(r"(?::\S+ +)?(?:\d{3} .+|(?:PING|ERROR|CAP|AUTHENTICATE|PONG) .+)|:\S+ +(?:JOIN|PART|KICK|NICK|"
                     r"MODE) .+|:\S+ +NOTICE +\S+ +:.+", re.IGNORECASE)  # fmt: skip


class Event(NamedTuple):
    """A line of the server.

    Attributes:
        name: What, as the library calls it: ``join``, ``kick``, ``login_failed``, ...
        code: The number of a reply, such as ``433``; else nothing.
        source: Who did it: ``nick!user@host`` or the name of the server.
        target: What it was done to.
        arguments: The rest.
    """

    name: str
    code: str
    source: str
    target: str
    arguments: Sequence[str]

    @property
    def nick(self) -> str:
        """The name of the user who did it."""
        return self.source.partition("!")[0]


class _NoSecrets(logging.Filter):
    """Keeps passwords out of the log of the library, which logs every line at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        return not (isinstance(line, str) and re.match(r"(?:PASS|AUTHENTICATE|JOIN \S+ |PRIVMSG NickServ)", line))


irc.client.log.addFilter(_NoSecrets())


class _Lines(irc.client.ServerConnection.buffer_class):  # type: ignore[misc] # the library has no types
    """The lines of a server that are of use, whatever their encoding."""

    errors = "replace"

    def lines(self) -> Iterator[str]:
        for line in super().lines():
            # Some servers end the list of capabilities in a blank, which the library would take as a part of it.
            stripped = line.rstrip(" \r")
            if _OF_USE.fullmatch(stripped):
                yield stripped


class _Server(irc.client.ServerConnection):  # type: ignore[misc] # the library has no types
    buffer_class = _Lines


class _Socket:
    """A socket as the library uses it, which never blocks while reading."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = b""

    def receive(self) -> bool:
        """Receive what has come, for the library to read.

        Returns:
            Whether there is something to read; nothing, with True, is the end of the connection.
        """
        self._socket.settimeout(0)
        try:
            self._received = self._socket.recv(_AT_ONCE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def read(self, _size: int) -> bytes:
        received, self._received = self._received, b""
        return received

    def write(self, data: bytes) -> None:
        self._socket.settimeout(_SENDING)
        self._socket.sendall(data)

    recv, send = read, write

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()


def _connected(bot: Bot) -> _Socket:
    """Connect to a server.

    Raises:
        OSError: It can't be reached, or its certificate is invalid.
    """
    context = ssl.create_default_context(cafile=bot.ssl_ca) if bot.ssl else None
    plain = socket.create_connection((bot.network, bot.port), bot.timeout)
    if context is None:
        return _Socket(plain)
    try:
        return _Socket(context.wrap_socket(plain, server_hostname=bot.network))
    except BaseException:
        plain.close()
        raise


class Connection:
    """A connection to a server, used by one thread.

    Args:
        bot: Where to, and as whom.
    """

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        reactor = irc.client.Reactor()
        self._server = _Server(reactor)
        self._socket: _Socket | None = None

    def open(self, on_event: Callable[[Event], None]) -> None:
        """Connect, and register the bot.

        Args:
            on_event: Is called in `read` with each `Event`.

        Raises:
            OSError: It is not possible.
        """
        bot = self._bot

        def pass_on(_connection: object, event: Any) -> None:
            if event.type != "all_raw_messages":
                on_event(_translated(event))

        self._server.reactor.add_global_handler("all_events", pass_on)
        self._socket = _connected(bot)
        try:
            self._server.connect(
                bot.network,
                bot.port,
                bot.nickname,
                password=bot.sasl_password or bot.server_password,
                sasl_login=bot.sasl_username,
                connect_factory=lambda _address: self._socket,
            )
            self._check()
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return -1 if self._socket is None else self._socket.fileno()

    def read(self) -> None:
        """Handle what has come from the server.

        Raises:
            OSError: The connection is lost.
        """
        for _ in range(_READS):
            if self._socket is None or not self._socket.receive():
                return
            try:
                self._server.process_data()
            except OSError:
                raise
            # What else the library makes of lines from a hostile server.
            except Exception as error:
                raise ConnectionError(f"it sends what is no IRC: {error!r}") from error
            self._check()
            if len(self._server.buffer) > _LONGEST_LINE:
                raise ConnectionError("it sends lines without an end")

    def _check(self) -> None:
        # The library closes the connection when sending or reading fails, and doesn't raise.
        if not self._server.connected:
            raise ConnectionError("it closed the connection")

    def send(self, *words: str) -> None:
        """Send a command.

        Args:
            words: The command and its parameters; the last may have blanks.

        Raises:
            OSError: The connection is lost.
        """
        *first, last = words
        line = " ".join([*first, f":{last}" if first else last])
        # Everything has been looked at before; a mistake there must not become another command.
        if re.search("[\0\r\n]", line) or any(" " in word for word in first):
            raise ValueError(f"{words[0]}: a parameter that can't be sent")
        self._check()
        self._server.send_raw(line)
        self._check()

    def close(self) -> None:
        """Close the connection; may be called twice."""
        with contextlib.suppress(OSError):
            self._server.disconnect()
        if self._socket is not None:
            self._socket.close()


def _translated(event: Any) -> Event:
    code = getattr(event.type, "code", "")
    target, arguments = event.target, event.arguments
    # In events of the library itself, the text may stand where a target belongs.
    if isinstance(target, list):
        target, arguments = "", target
    return Event(
        str(event.type),
        code if code.isdigit() else "",
        str(event.source or ""),
        str(target or ""),
        [str(argument) for argument in arguments or ()],
    )
