# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state of one connection of a bot: log in, join, speak, quit."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg.irc import text
from fedmsg.irc.backlog import Backlog
from fedmsg.irc.configuration import Bot

if TYPE_CHECKING:
    from fedmsg.irc.library import Connection, Event

__all__ = ["QUIT_MESSAGE", "Backoff", "Pace", "Session", "Turnstile"]

log = logging.getLogger("fedmsg.consumers.ircbot")

QUIT_MESSAGE = "fedmsg-irc is stopped"

# How long user name and host may become: the server puts them in front of every line, and may
# change them while the bot speaks.
_USER_BYTES, _HOST_BYTES = 11, 64
# Seconds that NickServ has to log the bot in; then it joins without.
_NICKSERV_TIMEOUT = 5.0
# Seconds that the server has to send the modes of the channel.
_MODES_TIMEOUT = 5.0
# Upper and lower case of names, as servers compare them.
_LOWER = str.maketrans("[]\\~", "{}|^")


class Pace(NamedTuple):
    """How soon things are tried again, in seconds; each wait doubles up to the longest.

    Attributes:
        apart: From the start of one connection to that of the next.
        reconnect: After a connection is lost.
        rejoin: After the channel has rejected or kicked the bot.
        nickname: Until the bot tries to get the name that it wants.
        longest: The longest wait.
    """

    apart: float = 5.0
    reconnect: float = 5.0
    rejoin: float = 5.0
    nickname: float = 30.0
    longest: float = 300.0


class Backoff:
    """Waits that double from one try to the next.

    Args:
        first: Seconds before the first repetition.
        longest: Seconds that a wait has at most.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def wait(self) -> float:
        """Return the seconds to wait now: up to a fifth less than planned, so that not all bots come back at once."""
        planned, self._next = self._next, min(2 * self._next, self._longest)
        return planned * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Begin with the first wait again, after a success."""
        self._next = self._first


class Turnstile:
    """Schedules turns that are some seconds apart; threads share one."""

    def __init__(self, apart: float) -> None:
        self._apart = apart
        self._lock = threading.Lock()
        self._next = 0.0

    def turn(self) -> float:
        """Take the next turn; return the seconds until it comes."""
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next)
            self._next = mine + self._apart
            return mine - now


def same(one: str, other: str) -> bool:
    """Return whether two names are equal to a server."""
    return one.lower().translate(_LOWER) == other.lower().translate(_LOWER)


def nicknames(wanted: str) -> Iterator[str]:
    """Return names to try while the wanted one is in use."""
    yield f"{wanted}_"
    yield f"{wanted}__"
    # The server may have a limit to their length.
    for number in range(1, 10):
        yield f"{wanted[:-1]}{number}" if len(wanted) > 1 else f"{wanted}{number}"


class Session:
    """The state of a connection.

    Args:
        bot: Where to, and as whom.
        pace: How soon to try again.
        connection: The connection, which is open.

    Attributes:
        speaking: Whether the bot is in its channel and knows the modes of it.
        reason: Why the server ended the connection, if it sent that.
    """

    def __init__(self, bot: Bot, pace: Pace, connection: Connection) -> None:
        self._bot = bot
        self._connection = connection
        self._registered = self._joined = self.speaking = False
        self.reason = ""
        self._nickname = bot.nickname
        self._others = nicknames(bot.nickname)
        self._source = 0
        self._colours = True
        self._log = RateLimitedLog(log)
        self._rejoin = Backoff(pace.rejoin, pace.longest)
        self._regain = Backoff(pace.nickname, pace.longest)
        # Functions, and when to call them.
        self._timers: dict[Callable[[], None], float] = {}
        self._in(bot.timeout, self._give_up)

    # -------------------------------------------------------- time

    def _in(self, seconds: float, what: Callable[[], None]) -> None:
        self._timers[what] = time.monotonic() + seconds

    def run_timers(self) -> float | None:
        """Call the timers that are due.

        Returns:
            The seconds until the next one; None when there is none.

        Raises:
            OSError: The connection is lost.
        """
        for what, when in list(self._timers.items()):
            if when <= time.monotonic() and self._timers.pop(what, None) is not None:
                what()
        return max(0.0, min(self._timers.values()) - time.monotonic()) if self._timers else None

    def alive(self) -> None:
        """Restart the timeout: the server has sent something."""
        if self._registered:
            self._timers.pop(self._give_up, None)
            self._in(self._bot.timeout, self._ping)

    def _ping(self) -> None:
        self._connection.send("PING", self._nickname)
        self._in(self._bot.timeout, self._give_up)

    def _give_up(self) -> None:
        raise TimeoutError(f"it sent nothing of use for {self._bot.timeout:g} seconds")

    # -------------------------------------------------------- what the bot sends

    def send_next(self, backlog: Backlog, command: str) -> bool:
        """Send a line, if one waits.

        Args:
            backlog: What waits.
            command: The command for a line about the backlog itself.

        Returns:
            Whether there was one.
        """
        source = max(self._source, len(self._nickname) + len("!@") + _USER_BYTES + _HOST_BYTES)
        # NOTICE is the shorter of the two commands.
        line = backlog.next_line(command, text.room(source, "PRIVMSG", self._bot.channel))
        if line is None:
            return False
        command, said = line
        try:
            self._connection.send(command, self._bot.channel, said if self._colours else text.plain(said))
        except OSError:
            backlog.put_back(command, said)
            raise
        return True

    def quit(self) -> None:
        """Send QUIT."""
        self._connection.send("QUIT", QUIT_MESSAGE)

    def _join(self) -> None:
        key = [self._bot.channel_key] if self._bot.channel_key else []
        self._connection.send("JOIN", self._bot.channel, *key)
        # Once more, if the server does not answer.
        self._in(self._bot.timeout, self._join)

    def _join_later(self, why: str) -> None:
        self._joined = self.speaking = False
        self._timers.pop(self._speak, None)
        wait = self._rejoin.wait()
        log.warning("%s: %s; the bot tries to join in %.0f s", self._bot.name, why, wait)
        self._in(wait, self._join)

    def _speak(self) -> None:
        self._timers.pop(self._speak, None)
        self.speaking = self._joined

    def _take_nickname(self) -> None:
        if not same(self._nickname, self._bot.nickname):
            self._connection.send("NICK", self._bot.nickname)
            self._in(self._regain.wait(), self._take_nickname)

    # -------------------------------------------------------- what the server sends

    def heard(self, event: Event) -> None:
        """Handle a line of the server.

        Raises:
            OSError: The connection is of no use.
        """
        handler = getattr(self, f"_on_{event.code or event.name}", None)
        if handler is not None:
            handler(event)
        elif event.code[:1] in {"4", "5"} and event.arguments and same(event.arguments[0], self._bot.channel):
            self._on_refusal(event)

    def _on_001(self, event: Event) -> None:
        self._registered = True
        self._nickname = event.target
        self.alive()
        log.info("%s: connected as %s", self._bot.name, self._nickname)
        if not same(self._nickname, self._bot.nickname):
            self._in(self._regain.wait(), self._take_nickname)
        if self._bot.nickserv_password:
            self._connection.send("PRIVMSG", "NickServ", f"IDENTIFY {self._bot.nickserv_password}")
            self._in(_NICKSERV_TIMEOUT, self._join)
        else:
            self._join()

    def _on_900(self, _event: Event) -> None:
        # Logged in; with SASL that comes before the registration.
        if self._registered and not self._joined:
            self._join()

    def _on_login_failed(self, event: Event) -> None:
        # Without its account the bot could be taken for another one, show its address, or be rejected later.
        raise PermissionError(f"the login with sasl_username {self._bot.sasl_username} failed: {_words(event)}")

    def _on_433(self, event: Event) -> None:
        if self._registered:
            return
        other = next(self._others, None)
        if other is None:
            raise ConnectionError(f"the nickname {self._bot.nickname} and what is like it are taken: {_words(event)}")
        log.warning("%s: %s: %s; the bot tries %s", self._bot.name, self._nickname, _words(event), other)
        self._nickname = other
        self._connection.send("NICK", other)

    _on_432 = _on_436 = _on_433

    def _on_437(self, event: Event) -> None:
        # A nickname or a channel that is not available for the moment.
        if event.arguments and same(event.arguments[0], self._bot.channel):
            self._on_refusal(event)
        else:
            self._on_433(event)

    def _on_nick(self, event: Event) -> None:
        if same(event.nick, self._nickname):
            self._nickname = event.target
            log.info("%s: the bot has the nickname %s now", self._bot.name, self._nickname)

    def _on_join(self, event: Event) -> None:
        if not same(event.nick, self._nickname):
            return
        if not same(event.target, self._bot.channel):
            # A server may send a bot elsewhere, which is no place to speak.
            self._connection.send("PART", event.target)
            return
        self._joined = True
        self._source = len(event.source.encode())
        self._timers.pop(self._join, None)
        self._rejoin.reset()
        log.info("%s: joined", self._bot.name)
        # The answer shows whether colours are allowed; without one the bot speaks, too.
        self._connection.send("MODE", self._bot.channel)
        self._in(_MODES_TIMEOUT, self._speak)

    def _on_kick(self, event: Event) -> None:
        if event.arguments and same(event.arguments[0], self._nickname) and same(event.target, self._bot.channel):
            self._join_later(f"{event.nick} kicked the bot out ({_words(event)})")

    def _on_part(self, event: Event) -> None:
        if same(event.nick, self._nickname) and same(event.target, self._bot.channel):
            self._join_later("the server removed the bot from the channel")

    def _on_refusal(self, event: Event) -> None:
        if not self._joined:
            self._join_later(f"can't join: {_words(event)}")
            return
        self._log.report("line", f"{self._bot.name}: a line was refused: {_words(event)}")

    def _on_324(self, event: Event) -> None:
        if len(event.arguments) > 1 and same(event.arguments[0], self._bot.channel):
            self._colours = "c" not in event.arguments[1]
            self._speak()

    def _on_mode(self, event: Event) -> None:
        if not same(event.target, self._bot.channel) or not event.arguments:
            return
        added = True
        for letter in event.arguments[0]:
            if letter in "+-":
                added = letter == "+"
            elif letter == "c":
                self._colours = not added

    def _on_error(self, event: Event) -> None:
        self.reason = text.harmless(event.target)


def _words(event: Event) -> str:
    """Return the text of an event, for people."""
    return text.harmless(event.arguments[-1] if event.arguments else event.target)
