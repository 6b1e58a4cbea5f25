# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bots, each in its channel: the thread that connects them, and what waits to be sent."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import ServiceThread, start_thread
from fedmsg.irc import text
from fedmsg.irc.configuration import Bot
from fedmsg.irc.session import Session, reactor

__all__ = ["Backoff", "Bots", "Client", "LineQueue", "Pace"]

log = logging.getLogger("fedmsg.consumers.ircbot")

# After so many more messages, waiting or dropped, a line about that is sent.
_STEP = 20
# After so many seconds a connection counts as a good one, and the next wait is short again.
_GOOD_CONNECTION = 60.0
# What QUIT takes at most, in seconds.
_QUIT_SECONDS = 2.0


class Backoff:
    """Waits that double from one try to the next, up to the longest; in seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._next = first
        self._longest = longest

    def wait(self) -> float:
        """Return how many seconds to wait: up to 20 % less than planned, so that not all bots reconnect at once."""
        planned, self._next = self._next, min(2 * self._next, self._longest)
        return planned * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Begin with the first wait again, after a success."""
        self._next = self._first


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

    def backoff(self, what: str) -> Backoff:
        """Return the waits for one of these."""
        return Backoff(getattr(self, what), self.longest)


class LineQueue:
    """Messages that wait; any thread may add some while one takes them line by line.

    Args:
        limit: How many may wait; then the oldest is dropped.

    Attributes:
        dropped: How many were dropped so far.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        # Each with its command; the first may be what is left of a message.
        self._waiting: deque[tuple[str, str]] = deque()
        self._is_begun = False
        self._command = "NOTICE"
        self._grown_to = self._reported = self.dropped = 0
        self._report_growth = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, command: str, message: str) -> bool:
        """Add a message with its command, ``NOTICE`` or ``PRIVMSG``; return whether another was dropped for it."""
        with self._lock:
            self._command = command
            self._waiting.append((command, message))
            count = len(self._waiting) - self._is_begun
            if count > self._limit:
                del self._waiting[int(self._is_begun)]
                self.dropped += 1
            if count >= self._grown_to + _STEP:
                self._grown_to = count // _STEP * _STEP
                self._report_growth = True
            return count > self._limit

    def next_line(self, room: int) -> tuple[str, str] | None:
        """Take the next line to send, with its command; its text has at most ``room`` bytes."""
        with self._lock:
            if not self._is_begun and (report := self._report()):
                return self._command, report
            if not self._waiting:
                return None
            command, message = self._waiting.popleft()
            line, rest = text.cut(message, room)
            self._is_begun = bool(rest)
            if rest:
                self._waiting.appendleft((command, rest))
            elif not self._waiting:
                self._grown_to = 0
            return command, line

    def _report(self) -> str | None:
        """Return a line about the queue itself, when there is something to report."""
        if self._report_growth:
            self._report_growth = False
            return f"* backlogged by {len(self._waiting)} messages"
        missing = self.dropped - self._reported
        # Not every other line is about that while each line drops another message.
        if missing >= _STEP or (missing and len(self._waiting) < self._limit):
            self._reported = self.dropped
            return f"* dropped {missing} messages"
        return None


class Client:
    """A bot in its channel: what programs send through it, and its connections, one after the other.

    Attributes:
        lines: What waits to be sent.
        next_line_at: When the rate allows the next line, on the clock of `time.monotonic`.
    """

    def __init__(self, factory: Bot, pace: Pace, wake: Callable[[], object]) -> None:
        self.factory, self.pace = factory, pace
        self.lines = LineQueue(factory.backlog)
        self.stopping = False
        self.next_line_at = 0.0
        self._wake = wake
        self._reconnect = pace.backoff("reconnect")
        self._log = RateLimitedLog(log)
        self._session: Session | None = None

    # -------------------------------------------------------- for any thread

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent."""
        return len(self.lines)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because too many waited."""
        return self.lines.dropped

    def notice(self, target: str, message: str) -> None:
        """Queue a message as NOTICE, which other bots do not answer; the target is the bot's own channel."""
        self._add("NOTICE", target, message)

    def msg(self, target: str, message: str) -> None:
        """Queue a message as PRIVMSG, as people send them; see `notice`."""
        self._add("PRIVMSG", target, message)

    def _add(self, command: str, target: str, message: str) -> None:
        if target != self.factory.channel:
            raise ValueError(f"the bot speaks in {self.factory.channel}, not in {target}")
        line = text.wire_safe(message)
        if line.strip() and self.lines.add(command, line):
            dropped = self.lines.dropped
            self._log.report("dropped", f"{self.factory.name}: too many messages wait: {dropped} dropped so far")
        self._wake()

    # -------------------------------------------------------- in the thread of the bots

    async def run(self, make_session: Callable[[Client], Session], turn: Callable[[], float]) -> None:
        """Connect and speak, again and again, until the bot is stopped."""
        name, wait = self.factory.name, 0.0
        while True:
            await asyncio.sleep(max(wait, turn()))
            began = time.monotonic()
            self._session = make_session(self)
            try:
                reason = await self._session.run()
            # The other bots go on.
            except Exception:
                log.exception("%s: the connection is given up", name)
            else:
                # After QUIT the server closes the connection.
                log.log(
                    logging.INFO if self.stopping else logging.WARNING, "%s: the connection ended: %s", name, reason
                )
            finally:
                self._session = None
            if time.monotonic() - began > _GOOD_CONNECTION:
                self._reconnect.reset()
            if self.stopping:
                return
            wait = self._reconnect.wait()
            log.info("%s: the next try is in %.0f s", name, wait)

    def pump(self) -> None:
        """Send what has been queued, if the bot is connected."""
        if self._session is not None:
            self._session.pump()

    def stop(self, task: asyncio.Task[None], until: float) -> None:
        """Quit when nothing waits any more, at the latest at a time on the clock of `time.monotonic`."""
        self.stopping = True
        if self._session is not None and self._session.transport is not None:
            self._session.stop(until)
            return
        if self._session is not None:
            log.warning("%s: stopped while it was connecting", self.factory.name)
        task.cancel()


class Bots(ServiceThread):
    """Runs the bots of some channels, on an event loop in a thread of its own."""

    def __init__(self, bots: Iterable[Bot], pace: Pace | None = None) -> None:
        super().__init__("fedmsg-irc")
        self._pace = pace or Pace()
        self._next_turn = 0.0
        self._speak_until = 0.0
        self.clients = [Client(bot, self._pace, self._wake) for bot in bots]

    def _wake(self) -> None:
        self.waker.wake()

    def stop_within(self, seconds: float) -> None:
        """Stop the bots within some seconds: they send what waits, for half of the time at most, and quit."""
        self._speak_until = time.monotonic() + max(0.0, min(seconds / 2, seconds - _QUIT_SECONDS))
        self.stop()

    def turn(self) -> float:
        """Take the next turn to connect; return the seconds until it comes."""
        now = time.monotonic()
        mine = max(now, self._next_turn)
        self._next_turn = mine + self._pace.apart
        return mine - now

    def run(self) -> None:
        """Serve until the bots have quit."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        loop.set_default_executor(_Lookups())
        library = reactor(loop)

        def make_session(client: Client) -> Session:
            return Session(library, client)

        tasks = [loop.create_task(client.run(make_session, self.turn)) for client in self.clients]
        loop.add_reader(self.waker.fileno(), self._on_wake, stopping)
        self.ready()
        try:
            await stopping.wait()
            for client, task in zip(self.clients, tasks, strict=True):
                client.stop(task, self._speak_until)
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            loop.remove_reader(self.waker.fileno())
        for client in self.clients:
            if client.waiting:
                log.warning("%s: stopped with %d messages that were not sent", client.factory.name, client.waiting)

    def _on_wake(self, stopping: asyncio.Event) -> None:
        self.waker.clear()
        if self.stopping:
            stopping.set()
        for client in self.clients:
            client.pump()


class _Lookups(ThreadPoolExecutor):
    """Looks up the names of servers in threads that the end of the process does not wait for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a thread of its own."""
        future: Future[Any] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except Exception as error:  # noqa: BLE001 - raised where it is waited for
                    future.set_exception(error)

        start_thread(run, "fedmsg-irc-lookup")
        return future
