# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread that keeps one connection to a broker, along the URLs of its nodes.

Everything that is done with the connection is done in this thread, by callbacks of its loop: nothing in it blocks,
so that heartbeats go on whatever the program does.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from fedmsg._util import plugins
from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.transport.amqp import urls
from fedmsg.transport.amqp.problems import BLOCKED, BrokerRefusal, Refused, of_channel, of_connection, unanswered
from fedmsg.transport.amqp.steps import Step, Steps, perform
from fedmsg.transport.amqp.urls import Server

__all__ = ["Job", "Link"]

log = logging.getLogger("fedmsg.transport")

# Seconds between two attempts at all nodes: they double.
_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 1.0
# Seconds until a connection that is closed has to be.
_CLOSE_TIMEOUT_S = 1.0
# Seconds before the next node of a cluster is used when one has gone: until its queues have new leaders, usually half a
# second, a channel that begins to use them may hang for as long as it lives (RabbitMQ 3.10 with Erlang 25 does so).
_ELECTION_S = 1.0
# Seconds within which a node has to do all that is asked of it on a new connection. RabbitMQ itself waits for the
# leader of a queue for its net_ticktime and 5 s.
_SETUP_TIMEOUT_S = 10.0


class Job(Protocol):
    """What is done with a connection; called in the thread of the link."""

    def steps(self, open_channel: Step, server: Server) -> Steps:
        """Set up what the job needs, on each new connection."""

    def what(self) -> str:
        """Return what it works with, for an error: "the exchange 'amq.topic'"."""

    def woken(self) -> None:
        """Look at what other threads want; called after `Link.wake`, too."""

    def lost(self, problem: BrokerRefusal) -> None:
        """Note that the connection has ended, or could not be made."""

    def finish(self) -> None:
        """Send what is to be sent before the connection is closed."""


class Link(ServiceThread):
    """Keeps a connection to the first node that answers, and makes it anew when it ends.

    Args:
        config: The configuration.
        job: What is done with it.
        name: The name that the management of the broker shows.
        is_patient: Whether it logs why there is no connection; others raise that.

    Attributes:
        server: The node of the connection; None where there is none.
        problem: Why there is no connection, or it takes no messages; None where all is well.
        ending: The error that has ended it for good.
        connections: How many connections have been made.
        is_blocked: Whether an alarm of the broker keeps messages out.

    Raises:
        ConfigError: A URL or a file for TLS can't be used.
        MissingExtra: The library is not installed.
    """

    def __init__(self, config: Mapping[str, Any], job: Job, name: str, *, is_patient: bool = True) -> None:
        self.servers = urls.servers(config)
        self._client: Any = plugins.lazy("amqp")
        self._tls = self._client.tls_context(config) if any(server.is_tls for server in self.servers) else None
        super().__init__(f"fedmsg-amqp-{name}")
        self._title = f"{os.path.basename(sys.argv[0]) or 'python'}:{os.getpid()}:{name}"
        self._body_max: int = settings.get(config, "max_message_size")
        self._job = job
        self._loop: Any = None
        self._connection: Any = None
        self._at = self._tried = 0
        self._delay = _RETRY_MIN_S
        self._is_ending = False
        self._is_patient = is_patient
        # Connections that were given up, until they are closed.
        self._dropped: set[Any] = set()
        self._events = RateLimitedLog(log)
        self.server: Server | None = None
        self.problem: BrokerRefusal | None = None
        self.ending: BrokerRefusal | None = None
        self.connections = 0
        self.is_blocked = False

    @property
    def address(self) -> str:
        """The node of the connection; empty where there is none."""
        return self.server.label if self.server is not None else ""

    @property
    def where(self) -> str:
        """All nodes, for an error."""
        return ", ".join(server.label for server in self.servers)

    # ---------------------------------------------------------------- other threads

    def wake(self) -> None:
        """Have the job look at what is to be done; any thread may call this."""
        self.waker.wake()

    def end(self, problem: BrokerRefusal) -> None:
        """End for good; called in the thread by its job."""
        self.ending = problem
        self.stop()

    # ---------------------------------------------------------------- the thread

    def run(self) -> None:
        """Keep the connection until the stop."""
        self._loop = loop = self._client.new_loop()
        try:
            loop.add_handler(self.waker.fileno(), self._woken, self._client.READ)
            self.ready()
            self._connect()
            while not self._is_ending:
                try:
                    loop.start()
                    break
                except Exception as error:
                    log.debug("the connection with %s can't be used", self._server.label, exc_info=True)
                    self.drop(error)
        finally:
            for connection in {*self._dropped, self._connection} - {None}:
                self._client.close_socket(connection)
            loop.close()

    @property
    def _server(self) -> Server:
        return self.servers[self._at % len(self.servers)]

    def _woken(self, *_: object) -> None:
        self.waker.clear()
        if self.stopping:
            self._finish()
        elif self.server is not None:
            self._job.woken()

    def _connect(self) -> None:
        if self.stopping:
            return
        try:
            self._connection = self._client.connect(
                self._server, self._loop, self._tls, name=self._title, body_max=self._body_max,
                opened=self._opened, failed=self._failed, closed=self._failed,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - a name that can't be resolved, for example
            self._failed(None, error)

    def _opened(self, connection: Any) -> None:
        self._tried, self._delay = 0, _RETRY_MIN_S
        self.connections += 1
        self.is_blocked = False
        connection.add_on_connection_blocked_callback(partial(self._blocked, True))
        connection.add_on_connection_unblocked_callback(partial(self._blocked, False))
        perform(connection, self._steps, self._client.refusal, partial(self._refused, connection))
        self._loop.call_later(_SETUP_TIMEOUT_S, partial(self._check_setup, connection))

    def _steps(self, open_channel: Step) -> Steps:
        yield from self._job.steps(open_channel, self._server)
        if self.problem is not None:
            log.info("connected to the broker at %s", self._server.label)
        self.server, self.problem = self._server, None
        self._job.woken()

    def _check_setup(self, connection: Any) -> None:
        """Drop a connection on which what was asked for is still not done."""
        if connection is self._connection and self.server is None and not self.stopping:
            self.drop(unanswered(self._server, self._job.what(), _SETUP_TIMEOUT_S))

    def perform(self, steps: Steps) -> None:
        """Do something more on the connection; called in the thread by its job."""

        def make(open_channel: Step) -> Steps:
            del open_channel
            yield from steps

        perform(self._connection, make, self._client.refusal, partial(self._refused, self._connection))

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function after a while; called in the thread by its job."""
        self._loop.call_later(seconds, call)

    def _blocked(self, is_blocked: bool, *_: object) -> None:
        self.is_blocked = is_blocked
        if is_blocked:
            self.problem = BrokerRefusal(f"{self._server.label}: {BLOCKED}")
            self._events.report("blocked", str(self.problem), self._server.label)
        else:
            self.problem = None
            log.info("%s takes messages again", self._server.label)
            self._job.woken()

    def _refused(self, connection: Any, error: BaseException) -> None:
        """Note that the broker has refused something, and begin again with a new connection."""
        if connection is self._connection:
            self.drop(of_channel(error, self._server, self._job.what()) if isinstance(error, Refused) else error)

    def drop(self, error: BaseException) -> None:
        """Drop a connection that is of no use, and connect again; called in the thread."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_open:
            self._dropped.add(connection)
            connection.close()
        self._lost(error)

    def _failed(self, connection: Any, error: BaseException) -> None:
        self._dropped.discard(connection)
        if self.stopping:
            if connection is self._connection:
                self._connection = None
            self._end_loop()
        elif connection is None or connection is self._connection:
            self._connection = None
            self._lost(error)

    def _lost(self, error: BaseException) -> None:
        """Note why there is no connection, and try the next node, or all of them again after a while."""
        problem = error if isinstance(error, BrokerRefusal) else of_connection(error, self._server)
        has_gone = self.server is not None and len(self.servers) > 1
        self.server, self.is_blocked, self.problem = None, False, problem
        if self._is_patient:
            self._events.report("lost", str(problem), self._server.label)
        self._at += 1
        self._tried += 1
        self._job.lost(problem)
        if self.stopping:
            return
        delay = _ELECTION_S if has_gone else 0.0
        if self._tried % len(self.servers) == 0:
            delay, self._delay = self._delay, min(2 * self._delay, _RETRY_MAX_S)
        self._loop.call_later(delay, self._connect)

    # ---------------------------------------------------------------- the end

    def _finish(self) -> None:
        """Close the connection, and end the loop when it is closed."""
        if self._is_ending:
            return
        self._is_ending = True
        connection = self._connection
        if self.server is not None:
            self._job.finish()
        self._loop.call_later(_CLOSE_TIMEOUT_S, self._loop.stop)
        if connection is not None and not connection.is_closing and not connection.is_closed:
            # One that is still being opened ends with an error.
            connection.close()
        self._end_loop()

    def _end_loop(self) -> None:
        """End the loop when each connection has closed its socket."""
        self._is_ending = True
        if not self._dropped and (self._connection is None or self._connection.is_closed):
            self._loop.stop()
