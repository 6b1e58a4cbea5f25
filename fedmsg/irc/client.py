# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bot in its channel: the thread that owns its connection, and what other threads may queue for it."""

from __future__ import annotations

import contextlib
import logging
import selectors
import ssl
import time
from typing import TYPE_CHECKING

from fedmsg._util import plugins
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import ServiceThread
from fedmsg.irc import text
from fedmsg.irc.backlog import Backlog
from fedmsg.irc.configuration import Bot
from fedmsg.irc.session import Backoff, Pace, Session, Turnstile

if TYPE_CHECKING:
    from fedmsg.irc.library import Connection

__all__ = ["Client"]

log = logging.getLogger("fedmsg.consumers.ircbot")

# After so many seconds a connection counts as a good one, and the next wait is short again.
_GOOD_CONNECTION = 60.0
# How often `join` looks whether the bot is still connecting, in seconds.
_JOIN_INTERVAL = 0.1
# Seconds that a server has to close the connection after QUIT.
_QUIT_TIMEOUT = 1.0


class Client(ServiceThread):
    """Speaks in a channel; it joins again when it is kicked, and reconnects when the connection is lost.

    Args:
        factory: The settings of the bot.
        turnstile: Keeps the starts of connections apart; clients share one.
        pace: How soon things are tried again.

    Attributes:
        factory: The settings of the bot.
    """

    def __init__(self, factory: Bot, turnstile: Turnstile | None = None, pace: Pace | None = None) -> None:
        # Before anything is opened: a missing library is reported by the caller.
        self._library = plugins.lazy("irc")
        super().__init__(f"fedmsg-irc-{factory.channel}")
        self.factory = factory
        self._pace = pace or Pace()
        self._turnstile = turnstile or Turnstile(self._pace.apart)
        self._reconnect = Backoff(self._pace.reconnect, self._pace.longest)
        self._backlog = Backlog(factory.backlog)
        self._log = RateLimitedLog(log)
        self._command = "NOTICE"
        self._next_line = 0.0
        self._speak_until = float("inf")
        self._connecting = False

    # -------------------------------------------------------- for any thread

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent."""
        return len(self._backlog)

    @property
    def left_out(self) -> int:
        """How many messages were dropped because too many waited."""
        return self._backlog.dropped

    def notice(self, target: str, message: str) -> None:
        """Queue a message to be sent as NOTICE, which other bots do not answer.

        Args:
            target: The channel; the bot knows only its own.
            message: The text; what does not fit into one line is sent in several.
        """
        self._add("NOTICE", target, message)

    def msg(self, target: str, message: str) -> None:
        """Queue a message to be sent as PRIVMSG, as people do; see `notice`."""
        self._add("PRIVMSG", target, message)

    def _add(self, command: str, target: str, message: str) -> None:
        if target != self.factory.channel:
            raise ValueError(f"the bot speaks in {self.factory.channel}, not in {target}")
        self._command = command
        line = text.wire_safe(message)
        if line.strip() and self._backlog.add(command, line):
            dropped = self._backlog.dropped
            self._log.report("dropped", f"{self.factory.name}: too many messages wait: {dropped} dropped so far")
        self.waker.wake()

    def stop_within(self, seconds: float) -> None:
        """Have the bot quit, once it has sent what waits or half of the time is over.

        Args:
            seconds: How long it may take.
        """
        self._speak_until = time.monotonic() + max(0.0, min(seconds / 2, seconds - 2 * _QUIT_TIMEOUT))
        self.stop()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread, but not while it is connecting: that can't be interrupted.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether it has ended; if not, it will when the system ends its attempt to connect.
        """
        deadline = time.monotonic() + timeout
        while not super().join(min(_JOIN_INTERVAL, max(0.0, deadline - time.monotonic()))):
            if self._connecting or time.monotonic() >= deadline:
                return False
        return True

    # -------------------------------------------------------- the thread

    def run(self) -> None:
        """Connect and speak, again and again, until the bot is stopped."""
        self.ready()
        with selectors.DefaultSelector() as selector:
            selector.register(self.waker, selectors.EVENT_READ)
            self._wait(self._turnstile.turn())
            while not self.stopping:
                began = time.monotonic()
                self._connect_and_speak(selector)
                if time.monotonic() - began > _GOOD_CONNECTION:
                    self._reconnect.reset()
                if not self.stopping:
                    wait = self._reconnect.wait()
                    log.info("%s: the next try is in %.0f s", self.factory.name, wait)
                    self._wait(max(wait, self._turnstile.turn()))
        if waiting := len(self._backlog):
            log.warning("%s: stopped with %d messages that were not sent", self.factory.name, waiting)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.stopping and (left := deadline - time.monotonic()) > 0:
            self.waker.wait(left)

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
            # After QUIT the server closes the connection.
            how = logging.INFO if self.stopping else logging.WARNING
            log.log(how, "%s: the connection ended: %s", self.factory.name, session.reason or _words(error))
        # The other bots go on.
        except Exception:
            log.exception("%s: the connection is given up", self.factory.name)

    def _speak(self, selector: selectors.BaseSelector, session: Session, connection: Connection) -> None:
        quit_by = None
        while quit_by is None or time.monotonic() < quit_by:
            wait = session.run_timers()
            if quit_by is None and self.stopping and self._is_done(session):
                session.quit()
                quit_by = time.monotonic() + _QUIT_TIMEOUT
            if quit_by is None:
                waits = [wait, self._send_line(session), self._speak_until - time.monotonic()]
                wait = min(one for one in waits if one is not None)
            else:
                wait = quit_by - time.monotonic()
            ready = selector.select(None if wait == float("inf") else max(0.0, wait))
            self.waker.clear()
            if any(key.fileobj is connection for key, _ in ready):
                session.alive()
                connection.read()

    def _is_done(self, session: Session) -> bool:
        """Return whether it is time for QUIT."""
        return not session.speaking or not len(self._backlog) or time.monotonic() >= self._speak_until

    def _send_line(self, session: Session) -> float | None:
        """Send a line when one waits and the rate allows it.

        Returns:
            The seconds until the next may be sent; None when nothing is to be sent.
        """
        if not session.speaking:
            return None
        too_early = self._next_line - time.monotonic()
        if too_early > 0:
            return too_early if len(self._backlog) else None
        if not session.send_next(self._backlog, self._command):
            return None
        self._next_line = time.monotonic() + self.factory.rate
        return self.factory.rate


def _words(error: OSError) -> str:
    """Return in words why a connection failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message}"
    return text.harmless(error.strerror or error)
