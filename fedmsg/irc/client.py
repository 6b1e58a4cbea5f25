# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bot in its channel: the thread that owns its connection, and what others may ask it to say."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from fedmsg._util import plugins
from fedmsg.irc import text
from fedmsg.irc.backlog import Backlog
from fedmsg.irc.backoff import Backoff, Turnstile
from fedmsg.irc.configuration import Bot
from fedmsg.irc.session import Pace, Session

if TYPE_CHECKING:
    from fedmsg.irc.library import Connection

__all__ = ["Client"]

log = logging.getLogger("fedmsg.consumers.ircbot")

# A connection that has held for so long, in seconds, counts as a good one.
_GOOD = 60.0
# How often to look whether it is still connecting when it is to end.
_LOOK = 0.1
# Seconds that a server has to close the connection after a goodbye.
_FAREWELL = 1.0


class Client:
    """Speaks in a channel, and comes back when it is thrown out or the connection is lost.

    Args:
        factory: The settings of the bot.
        turnstile: Keeps connections apart; clients share one.
        pace: How soon things are tried again.

    Attributes:
        factory: The settings of the bot.
    """

    def __init__(self, factory: Bot, turnstile: Turnstile | None = None, pace: Pace | None = None) -> None:
        self.factory = factory
        self._pace = pace or Pace()
        self._turnstile = turnstile or Turnstile(self._pace.apart)
        self._reconnect = Backoff(self._pace.reconnect, self._pace.longest)
        self._backlog = Backlog(factory.backlog)
        self._command = "NOTICE"
        self._next_line = 0.0
        self._speak_until = float("inf")
        self._connecting = False
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        # Before anything is started: a missing library is the caller's to report.
        self._library = plugins.lazy("irc")
        self._thread = threading.Thread(target=self._run, name=f"fedmsg-irc-{factory.channel}", daemon=True)

    # -------------------------------------------------------- for any thread

    @property
    def waiting(self) -> int:
        """How many messages wait to be said."""
        return len(self._backlog)

    @property
    def left_out(self) -> int:
        """How many messages were left out because too many waited."""
        return self._backlog.left_out

    def notice(self, target: str, message: str) -> None:
        """Let a message wait until it can be said in a NOTICE, which other bots don't answer.

        Args:
            target: The channel; the bot knows no other than its own.
            message: The text; what doesn't fit into a line goes into several.
        """
        self._add("NOTICE", target, message)

    def msg(self, target: str, message: str) -> None:
        """Let a message wait until it can be said like people do, in a PRIVMSG.

        Args:
            target: The channel; the bot knows no other than its own.
            message: The text; what doesn't fit into a line goes into several.
        """
        self._add("PRIVMSG", target, message)

    def _add(self, command: str, target: str, message: str) -> None:
        if target != self.factory.channel:
            raise ValueError(f"the bot speaks in {self.factory.channel}, not in {target}")
        self._command = command
        said = text.wire_safe(message)
        if said.strip() and self._backlog.add(command, said):
            left_out = self._backlog.left_out
            if left_out & (left_out - 1) == 0:
                log.warning("%s: too many messages wait: %d left out so far", self.factory.name, left_out)
        self._wake()

    def start(self) -> None:
        """Start to connect."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Have the bot say goodbye, once it has said what waits or half of the time is over.

        Args:
            seconds: How long it may take.
        """
        self._speak_until = time.monotonic() + max(0.0, min(seconds / 2, seconds - 2 * _FAREWELL))
        self._wake()

    def join(self, seconds: float) -> bool:
        """Wait for the end, after `stop`.

        Args:
            seconds: How long, at most.

        Returns:
            Whether it has ended; it does by itself when it was still connecting.
        """
        if self._thread.ident is None:
            self._close()
            return True
        until = time.monotonic() + seconds
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            self._thread.join(min(left, _LOOK))
            # The system can't be told to give a connection up. It will, and then the thread ends.
            if self._connecting:
                break
        return not self._thread.is_alive()

    def _close(self) -> None:
        self._woken.close()
        self._waker.close()

    def _wake(self) -> None:
        # A full pipe wakes as well, and a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._waker.send(b"!")

    # -------------------------------------------------------- the thread

    @property
    def _stopping(self) -> bool:
        return self._speak_until != float("inf")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.closing(self._woken), self._waker:
            selector.register(self._woken, selectors.EVENT_READ)
            self._wait(selector, self._turnstile.turn())
            while not self._stopping:
                began = time.monotonic()
                self._connect_and_speak(selector)
                if time.monotonic() - began > _GOOD:
                    self._reconnect.reset()
                if not self._stopping:
                    wait = self._reconnect.wait()
                    log.info("%s: the next try is in %.0f s", self.factory.name, wait)
                    self._wait(selector, max(wait, self._turnstile.turn()))
        if waiting := len(self._backlog):
            log.warning("%s: stopped with %d messages that were not said", self.factory.name, waiting)

    def _wait(self, selector: selectors.BaseSelector, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            selector.select(left)
            self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _connect_and_speak(self, selector: selectors.BaseSelector) -> None:
        """Connect, and speak until the connection is lost or the bot is stopped."""
        connection = self._library.Connection(self.factory)
        session = Session(self.factory, self._pace, connection)
        try:
            with contextlib.closing(connection):
                self._connecting = True
                try:
                    connection.open(session.heard)
                finally:
                    self._connecting = False
                selector.register(connection, selectors.EVENT_READ)
                try:
                    self._speak(selector, session, connection)
                finally:
                    selector.unregister(connection)
        except OSError as error:
            # After a goodbye it is the server that closes the connection.
            how = logging.INFO if self._stopping else logging.WARNING
            log.log(how, "%s: the connection ended: %s", self.factory.name, session.reason or _words(error))
        # One bot's trouble is not another's; what is strange is logged in full.
        except Exception:
            log.exception("%s: the connection is given up", self.factory.name)

    def _speak(self, selector: selectors.BaseSelector, session: Session, connection: Connection) -> None:
        farewell = None
        while farewell is None or time.monotonic() < farewell:
            wait = session.run_timers()
            if farewell is None and self._stopping and self._has_spoken(session):
                session.quit()
                farewell = time.monotonic() + _FAREWELL
            if farewell is None:
                waits = [wait, self._say(session), self._speak_until - time.monotonic()]
                wait = min(one for one in waits if one is not None)
            else:
                wait = farewell - time.monotonic()
            ready = selector.select(None if wait == float("inf") else max(0.0, wait))
            self._drain()
            if any(key.fileobj is connection for key, _ in ready):
                session.alive()
                connection.read()

    def _has_spoken(self, session: Session) -> bool:
        """Say whether it is time for a goodbye."""
        return not session.speaking or not len(self._backlog) or time.monotonic() >= self._speak_until

    def _say(self, session: Session) -> float | None:
        """Say a line when one waits and it is time for it.

        Returns:
            The seconds until it may be time for the next; None when it is not a question of time.
        """
        if not session.speaking:
            return None
        too_early = self._next_line - time.monotonic()
        if too_early > 0:
            return too_early if len(self._backlog) else None
        if not session.say_next(self._backlog, self._command):
            return None
        self._next_line = time.monotonic() + self.factory.rate
        return self.factory.rate


def _words(error: OSError) -> str:
    """Say in words why a connection failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message}"
    return text.harmless(error.strerror or error)
