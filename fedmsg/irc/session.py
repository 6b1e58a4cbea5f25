# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection of a bot: log in, join, send, quit. The one module that imports irc, which knows the protocol."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import irc.client_aio
import irc.modes
import irc.strings
from irc.connection import AioFactory

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.irc import text

if TYPE_CHECKING:
    from fedmsg.irc.bot import Client

__all__ = ["QUIT_MESSAGE", "Session", "reactor"]

log = logging.getLogger("fedmsg.consumers.ircbot")

QUIT_MESSAGE = "fedmsg-irc is stopped"

# How long user name and host may become: the server puts them in front of every line, and may
# change them while the bot speaks.
_USER_BYTES, _HOST_BYTES = 11, 64
# More than that without the end of a line is not IRC: a line has 512 bytes, with tags 8,703.
_LONGEST_LINE = 16384
# How long NickServ may take for the login and the server for the modes of the channel, in seconds; then the bot
# goes on without. And how long the server may take to close the connection after QUIT.
_NICKSERV_TIMEOUT = _MODES_TIMEOUT = 5.0
_QUIT_TIMEOUT = 1.0
# Lines with passwords, which are not logged.
_SECRET = re.compile(r"PASS|AUTHENTICATE|JOIN \S+ |PRIVMSG NickServ")


def reactor(loop: asyncio.AbstractEventLoop) -> Any:
    """Return a reactor of the library, for all connections of an event loop."""
    made = irc.client_aio.AioReactor(loop=loop)
    made.add_global_handler("all_events", lambda session, event: session.on_event(event))
    return made


def same(one: str, other: str) -> bool:
    """Return whether two names are equal to a server."""
    return bool(irc.strings.lower(one) == irc.strings.lower(other))


def nicknames(wanted: str) -> Iterator[str]:
    """Return names to try while the wanted one is in use; the server may have a limit to their length."""
    yield from (f"{wanted}_", f"{wanted}__")
    for number in range(1, 10):
        yield f"{wanted[:-1] or wanted}{number}"


class _Lines(irc.client_aio.AioConnection.buffer_class):  # type: ignore[misc] # the library has no types
    errors = "replace"


class Session(irc.client_aio.AioConnection, asyncio.Protocol):  # type: ignore[misc] # the library has no types
    """A connection, and its own protocol.

    Attributes:
        speaking: Whether the bot is in its channel and knows the modes of it.
    """

    buffer_class = _Lines
    protocol_class = staticmethod(lambda session, _loop: session)
    transport: Any = None

    def __init__(self, reactor: Any, client: Client) -> None:
        super().__init__(reactor)
        self.loop: asyncio.AbstractEventLoop = reactor.loop
        self._client, self._bot = client, client.factory
        self._ended: asyncio.Future[str] = self.loop.create_future()
        self._registered = self._has_account = self._joined = self.speaking = False
        self._colours, self._is_full = True, False
        self._farewell = ""
        self._received = b""
        self._nickname = self._bot.nickname
        self._others = nicknames(self._bot.nickname)
        self._source = 0
        self._log = RateLimitedLog(log)
        self._rejoin, self._regain = client.pace.backoff("rejoin"), client.pace.backoff("nickname")
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    async def run(self) -> str:
        """Connect, and speak until the connection ends; return why it did."""
        bot = self._bot
        try:
            context = ssl.create_default_context(cafile=bot.ssl_ca) if bot.ssl else None
            connecting = self.connect(
                bot.network, bot.port, bot.nickname, bot.server_password, connect_factory=AioFactory(ssl=context)
            )
            await asyncio.wait_for(connecting, bot.timeout)
            return await self._ended
        except asyncio.TimeoutError:
            return "timed out"
        except OSError as error:
            return _words(error)
        finally:
            self.end("")

    def end(self, reason: str) -> None:
        """End the connection at once."""
        self.speaking = False
        for timer in self._timers.values():
            timer.cancel()
        if not self._ended.done():
            self._ended.set_result(self._farewell or reason)
        if self.transport is not None:
            self.transport.abort()

    # -------------------------------------------------------- the transport

    def connection_made(self, transport: Any) -> None:
        """Begin to log in with SASL, before the library sends who the bot is."""
        self.transport = transport
        self._in(self._bot.timeout, self._give_up)
        if self._bot.sasl_password:
            self.cap("REQ", "sasl")

    def data_received(self, data: bytes) -> None:
        """Handle the lines that have come; one that is not IRC is ignored."""
        if self._registered:
            self._renew()
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            if self._ended.done():
                return
            try:
                # Some servers end the list of capabilities in a blank.
                self.process_data(line.rstrip(b" \r") + b"\n")
            # Whatever the library and the handlers below make of a hostile line.
            except Exception as error:  # noqa: BLE001 - reported there
                self._log.report("malformed", f"{self._bot.name}: a line of the server is ignored: {error!r}")
        if len(self._received) > _LONGEST_LINE:
            self.end("it sends lines without an end")

    def connection_lost(self, exc: Exception | None) -> None:
        """Report why the connection has ended."""
        self.end(_words(exc or ConnectionResetError()))

    def pause_writing(self) -> None:
        """Send and read nothing while the server does not read: answers to its pings would pile up."""
        self._is_full = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Send and read again: the server reads."""
        self._is_full = False
        self.transport.resume_reading()
        self.pump()

    def send_raw(self, string: str) -> None:
        """Send a line, unless the connection is closing.

        Raises:
            ValueError: It would be more than one line.
        """
        if re.search("[\0\r\n]", string):
            raise ValueError(f"{string.partition(' ')[0]}: a parameter that can't be sent")
        if not self.transport.is_closing():
            if not _SECRET.match(string):
                irc.client_aio.log.debug("TO SERVER: %s", string)
            self.transport.write(f"{string}\r\n".encode())

    # -------------------------------------------------------- time

    def _in(self, seconds: float, what: Callable[[], None]) -> None:
        self._cancel(what)
        if not self._ended.done():
            self._timers[what] = self.loop.call_later(max(0.0, seconds), what)

    def _cancel(self, what: Callable[[], None]) -> None:
        if what in self._timers:
            self._timers.pop(what).cancel()

    def _renew(self) -> None:
        """Restart the timeout: the server has sent something."""
        self._cancel(self._give_up)
        self._in(self._bot.timeout, self._ask)

    def _ask(self) -> None:
        self.ping(self._bot.nickname)
        self._in(self._bot.timeout, self._give_up)

    def _give_up(self) -> None:
        self.end(f"it sent nothing of use for {self._bot.timeout:g} seconds")

    # -------------------------------------------------------- what the bot sends

    def pump(self) -> None:
        """Send a line, when one waits and the rate allows it; quit when the bot is to stop and none waits."""
        client, now = self._client, self.loop.time()
        can_send = self.speaking and not self._is_full and not self.transport.is_closing()
        if can_send and client.waiting and client.next_line_at <= now:
            self._send_line()
            client.next_line_at = now + self._bot.rate
        if can_send and client.waiting:
            self._in(client.next_line_at - now, self.pump)
        elif client.stopping and not (self.speaking and client.waiting) and self._cut not in self._timers:
            self.leave()

    def _send_line(self) -> None:
        source = max(self._source, len(self._nickname) + len("!@") + _USER_BYTES + _HOST_BYTES)
        line = self._client.lines.next_line(text.room(source, "PRIVMSG", self._bot.channel))
        if line is not None:
            command, said = line
            self.send_raw(f"{command} {self._bot.channel} :{said if self._colours else text.plain(said)}")

    def stop(self, until: float) -> None:
        """Quit when nothing waits any more, at the latest at a time of the loop."""
        self._in(until - self.loop.time(), self.leave)
        self.pump()

    def leave(self) -> None:
        """Send QUIT, and wait a moment for the server to close the connection."""
        self.speaking = False
        self._cancel(self.leave)
        self.quit(QUIT_MESSAGE)
        self._in(_QUIT_TIMEOUT, self._cut)

    def _cut(self) -> None:
        self.end("it did not close the connection")

    def _join(self) -> None:
        self.join(self._bot.channel, self._bot.channel_key or "")
        # Once more, if the server does not answer.
        self._in(self._bot.timeout, self._join)

    def _join_later(self, why: str) -> None:
        self._joined = self.speaking = False
        self._cancel(self._speak)
        wait = self._rejoin.wait()
        log.warning("%s: %s; the bot tries to join in %.0f s", self._bot.name, why, wait)
        self._in(wait, self._join)

    def _speak(self) -> None:
        self._cancel(self._speak)
        self.speaking = self._joined
        self.pump()

    def _take_nickname(self) -> None:
        if not same(self._nickname, self._bot.nickname):
            self.nick(self._bot.nickname)
            self._in(self._regain.wait(), self._take_nickname)

    # -------------------------------------------------------- what the server sends

    def on_event(self, event: Any) -> None:
        """Handle a line of the server."""
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event)
        elif getattr(event.type, "code", "")[:1] in {"4", "5"} and self._is_channel(event.arguments[0]):
            self._rejected(event)

    def _is_channel(self, name: str) -> bool:
        return same(name, self._bot.channel)

    def _is_bot(self, nickname: str) -> bool:
        return same(nickname, self._nickname)

    def _cap(self, event: Any) -> None:
        if event.arguments[0] == "ACK" and "sasl" in event.arguments[1].split():
            self.send_raw("AUTHENTICATE PLAIN")
        elif event.arguments[0] == "NAK":
            self._login_failed("server does not support sasl")

    def _authenticate(self, event: Any) -> None:
        if event.target == "+" and not self._registered:
            credentials = f"\0{self._bot.sasl_username}\0{self._bot.sasl_password}"
            self.send_raw(f"AUTHENTICATE {base64.b64encode(credentials.encode()).decode()}")

    def _logged_in(self, _event: Any) -> None:
        self._has_account = True
        self.cap("END")

    def _login_rejected(self, event: Any) -> None:
        self._login_failed(_said(event))

    def _login_failed(self, why: str) -> None:
        # Without its account the bot could be taken for another one, show its address, or be rejected later.
        self.end(f"the login with sasl_username {self._bot.sasl_username} failed: {why}")

    def _welcome(self, event: Any) -> None:
        if self._bot.sasl_password and not self._has_account:
            self._login_failed("server does not support sasl")
            return
        self._registered = True
        self._nickname = event.target
        self._renew()
        log.info("%s: connected as %s", self._bot.name, self._nickname)
        if not self._is_bot(self._bot.nickname):
            self._in(self._regain.wait(), self._take_nickname)
        if self._bot.nickserv_password:
            self.privmsg("NickServ", f"IDENTIFY {self._bot.nickserv_password}")
            self._in(_NICKSERV_TIMEOUT, self._join)
        else:
            self._join()

    def _has_identified(self, _event: Any) -> None:
        if self._registered and not self._joined:
            self._join()

    def _nickname_rejected(self, event: Any) -> None:
        if event.arguments and self._is_channel(event.arguments[0]):  # 437 may mean a nickname or a channel
            self._rejected(event)
        elif not self._registered:
            other = next(self._others, None)
            if other is None:
                self.end(f"the nickname {self._bot.nickname} and what is like it are taken: {_said(event)}")
                return
            log.warning("%s: %s: %s; the bot tries %s", self._bot.name, self._nickname, _said(event), other)
            self._nickname = other
            self.nick(other)

    def _renamed(self, event: Any) -> None:
        if self._is_bot(event.source.nick):
            self._nickname = event.target
            log.info("%s: the bot has the nickname %s now", self._bot.name, self._nickname)

    def _has_joined(self, event: Any) -> None:
        if not self._is_bot(event.source.nick):
            return
        if not self._is_channel(event.target):
            # A server may send a bot elsewhere, which is no place to speak.
            self.part(event.target)
            return
        self._joined = True
        self._source = len(event.source.encode())
        self._cancel(self._join)
        self._rejoin.reset()
        log.info("%s: joined", self._bot.name)
        # The answer shows whether colours are allowed; without one the bot speaks, too.
        self.mode(self._bot.channel, "")
        self._in(_MODES_TIMEOUT, self._speak)

    def _kicked(self, event: Any) -> None:
        if self._is_bot(event.arguments[0]) and self._is_channel(event.target):
            self._join_later(f"{event.source.nick} kicked the bot out ({_said(event)})")

    def _parted(self, event: Any) -> None:
        if self._is_bot(event.source.nick) and self._is_channel(event.target):
            self._join_later("the server removed the bot from the channel")

    def _rejected(self, event: Any) -> None:
        if not self._joined:
            self._join_later(f"can't join: {_said(event)}")
        else:
            self._log.report("line", f"{self._bot.name}: the server rejected a line: {_said(event)}")

    def _modes(self, event: Any) -> None:
        if self._is_channel(event.arguments[0]):
            self._colours = "c" not in event.arguments[1]
            self._speak()

    def _modes_changed(self, event: Any) -> None:
        if self._is_channel(event.target):
            for sign, letter, _ in irc.modes.parse_channel_modes(" ".join(event.arguments)):
                if letter == "c":
                    self._colours = sign == "-"

    def _closing(self, event: Any) -> None:
        # What is sent from now on would be lost.
        self.speaking = False
        self._farewell = text.harmless(event.target)


_HANDLERS: dict[str, Callable[[Session, Any], None]] = {
    "cap": Session._cap, "authenticate": Session._authenticate, "saslsuccess": Session._logged_in,
    **dict.fromkeys(("nicklocked", "saslfail", "sasltoolong", "saslaborted"), Session._login_rejected),
    "welcome": Session._welcome, "loggedin": Session._has_identified, "channelmodeis": Session._modes,
    **dict.fromkeys(("erroneusnickname", "nicknameinuse", "nickcollision", "unavailresource"),
                    Session._nickname_rejected),
    "nick": Session._renamed, "join": Session._has_joined, "kick": Session._kicked, "part": Session._parted,
    "mode": Session._modes_changed, "error": Session._closing,
}  # fmt: skip


def _said(event: Any) -> str:
    """Return the text of an event, for people."""
    return text.harmless(event.arguments[-1] if event.arguments else event.target)


def _words(error: Exception) -> str:
    """Return why a connection failed, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is rejected: {error.verify_message}"
    if isinstance(error, (BrokenPipeError, ConnectionResetError)):
        return "it closed the connection"
    number = getattr(error, "errno", None) or 0
    # The text of asyncio has the address once more.
    known = os.strerror(number) if number > 0 and not isinstance(error, ssl.SSLError) else ""
    return text.harmless(known or getattr(error, "strerror", None) or error)
