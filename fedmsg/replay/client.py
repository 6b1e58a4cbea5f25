# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asking a replay server, and waiting for what it says."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import zmq

from fedmsg import encoding
from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import MissingReplayEndpoint, QueryError, TransportError
from fedmsg.replay import protocol
from fedmsg.transport.zmq import addresses, contexts, sockets
from fedmsg.transport.zmq.connections import Connections
from fedmsg.transport.zmq.resolver import resolve

__all__ = ["Client", "address_of", "get_replay"]

log = logging.getLogger("fedmsg.replay")

# Seconds between two looks while a connection is to be made anew.
_RECHECK = 0.1


def address_of(name: str, config: Mapping[str, Any]) -> str:
    """Give the address of the replay server of a name.

    Raises:
        MissingReplayEndpoint: There is none. A KeyError, a ValueError and an IOError.
        ConfigError: It is no address.
    """
    found = addresses.as_list((settings.get(config, "replay_endpoints") or {}).get(name))
    if not found:
        raise MissingReplayEndpoint(f"No appropriate replay endpoint found for {name}")
    return addresses.check(found[0], f"replay_endpoints[{name!r}]")


class Client:
    """A connection to one replay server, for the thread that opens it.

    Args:
        name: The name of the service, for messages to people.
        config: The configuration.
        context: The ZeroMQ context to use; that of the process when not given.

    Raises:
        MissingReplayEndpoint: No address is configured for the name.
    """

    def __init__(self, name: str, config: Mapping[str, Any], context: sockets.Context | None = None) -> None:
        self._closed = True  # until there is something to close
        self.name = name
        self.address = address_of(name, config)
        self._own = context is None
        self._generation = contexts.generation
        self._context = context if context is not None else contexts.acquire(settings.get(config, "io_threads"))
        self._closed = False
        self._socket: sockets.Socket | None = None
        self._connections: Connections | None = None
        try:
            self._socket = sockets.asker(self._context, config)
            self._connections = Connections(
                self._context, self._socket, config, RejectionLog(log), setting="replay_endpoints", curve_servers=False
            )
            self._connections.add(name, resolve(self.address))
        except BaseException:
            self.close()
            raise

    def ask(self, query: Mapping[str, Any], timeout: float) -> list[bytes]:
        """Ask, and wait for the answer.

        Args:
            query: The question.
            timeout: Seconds.

        Returns:
            Its frames, messages or an error.

        Raises:
            TransportError: None came in time.
        """
        assert self._socket is not None
        assert self._connections is not None
        question, connections = protocol.Question(query), self._connections
        deadline = time.monotonic() + timeout
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(connections.monitor.fileno(), zmq.POLLIN)
        self._send(question)
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(int(min(left, _RECHECK if connections.unsettled else left) * 1000) + 1))
            if self._socket in ready:
                answer = question.answer(self._socket.recv_multipart())
                if answer is not None:
                    return answer
            # A question that was under way when its connection broke has to be asked again.
            ended = connections.observe()
            if connections.reopen(time.monotonic()) or ended:
                self._send(question)
        raise TransportError(f"the replay server of {self.name} at {self.address} did not answer within {timeout:g} s")

    def _send(self, question: protocol.Question) -> None:
        assert self._socket is not None
        try:
            self._socket.send_multipart(question.frames, zmq.NOBLOCK)
        except zmq.Again:
            # Enough of them wait for a connection already.
            return

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._closed or self._generation != contexts.generation:
            return
        self._closed = True
        if self._connections is not None:
            self._connections.close()
        if self._socket is not None:
            self._socket.close(0)
        if self._own:
            contexts.release(self._generation)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)
            self.close()


def get_replay(
    name: str, query: Mapping[str, Any], config: Mapping[str, Any], context: sockets.Context | None = None
) -> Iterator[dict[str, Any]]:
    """Ask the replay server of a name for messages.

    Nothing is sent before the first ``next()``. Many numbers are asked for in several
    questions, so that neither end has to hold them all. The messages are as the server has
    sent them: whoever trusts only signed ones has to check them.

    Args:
        name: The name in ``replay_endpoints``.
        query: What is asked for; several keys are alternatives: ``seq_id``, ``seq_ids``,
            ``seq_id_range`` ([first, last]), ``msg_id``, ``msg_ids``, ``time`` ([from, to] in
            seconds since the epoch).
        config: The configuration: ``replay_endpoints``, ``timeout``.
        context: The ZeroMQ context to use; that of the process when not given.

    Yields:
        The messages, in the order of their numbers.

    Raises:
        MissingReplayEndpoint: There is no address for the name. An IOError and a ValueError.
        TransportError: The server did not answer within ``timeout``. An IOError.
        QueryError: The answer was an error, or nothing that can be read. A ValueError.
    """
    timeout = float(settings.get(config, "timeout"))
    parts = _in_parts(query)
    with Client(name, config, context) as client:
        if parts is not None:
            yield from _walked(client, *parts, timeout)
            return
        for frame in protocol.check(client.ask(query, timeout)):
            yield _read(frame)


#: Makes the question for a part of a longer one: from which number or position to which.
_Part = Callable[[int, int], Mapping[str, Any]]


def _in_parts(query: Mapping[str, Any]) -> tuple[protocol.Walk, _Part] | None:
    """Give the parts of a question for more numbers than are asked for at a time; None for any other."""
    if len(query) != 1:
        return None
    ((key, value),) = query.items()
    if not isinstance(value, list | tuple) or not all(type(number) is int for number in value):
        return None
    if key == "seq_id_range" and len(value) == 2 and value[1] - value[0] >= protocol.AT_ONCE:
        return protocol.Walk(*value), lambda first, last: {"seq_id_range": [first, last]}
    if key == "seq_ids" and len(value) > protocol.AT_ONCE:
        numbers = sorted(set(value))
        walk = protocol.Walk(0, len(numbers) - 1, grows=False)
        return walk, lambda first, last: {"seq_ids": numbers[first : last + 1]}
    return None


def _walked(client: Client, walk: protocol.Walk, make: _Part, timeout: float) -> Iterator[dict[str, Any]]:
    """Ask for one part after the other; only all of them having nothing is an error."""
    found, nothing = False, None
    while (part := walk.part) is not None:
        try:
            frames = protocol.check(client.ask(make(*part), timeout))
        except QueryError as error:
            if protocol.NO_MATCH in str(error):
                nothing = error
                walk.step(found=False)
            elif protocol.ASK_FOR_LESS not in str(error) or not walk.narrow():
                raise
            continue
        found = True
        for frame in frames:
            yield _read(frame)
        walk.step(found=True)
    if nothing is not None and not found:
        raise nothing


def _read(frame: bytes) -> dict[str, Any]:
    try:
        message = encoding.loads(frame)
    except ValueError as error:
        raise QueryError(frame.decode(errors="replace")[:1000]) from error
    if not isinstance(message, dict):
        raise QueryError(frame.decode(errors="replace")[:1000])
    return message
