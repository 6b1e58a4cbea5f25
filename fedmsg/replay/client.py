# SPDX-License-Identifier: LGPL-2.1-or-later
"""The client of a replay server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedmsg import encoding
from fedmsg.config import settings
from fedmsg.exceptions import MissingReplayEndpoint, QueryError, TransportError
from fedmsg.replay import protocol
from fedmsg.transport.zmq import addresses, rpc, sockets

__all__ = ["Client", "address_of", "get_replay"]


def address_of(name: str, config: Mapping[str, Any]) -> str:
    """Return the address of the replay server of a service.

    Raises:
        MissingReplayEndpoint: There is none. A KeyError, a ValueError and an IOError.
        ConfigError: It is no address.
    """
    found = addresses.as_list((settings.get(config, "replay_endpoints") or {}).get(name))
    if not found:
        raise MissingReplayEndpoint(f"No appropriate replay endpoint found for {name}")
    return addresses.check(found[0], f"replay_endpoints[{name!r}]")


class Client(rpc.Client):
    """A connection to one replay server, for the thread that opens it.

    Args:
        config: The configuration. With ``curve_servers["replay_endpoints.NAME"]`` the connection
            is encrypted by CURVE.
        context: The ZeroMQ context to use; that of the process when not given.

    Raises:
        MissingReplayEndpoint: No address is configured for the name.
    """

    def __init__(self, name: str, config: Mapping[str, Any], context: sockets.Context | None = None) -> None:
        self._closed = True  # until there is something to close
        self.name = name
        address, key = address_of(name, config), f"replay_endpoints[{name!r}]"
        super().__init__(config, address, key, f"replay_endpoints.{name}", context)

    def ask(self, query: Mapping[str, Any], timeout: float) -> list[bytes]:
        """Send a query and wait for the answer.

        Raises:
            TransportError: There is no answer in time.
        """
        try:
            return self.request(protocol.encode_query(query), timeout, protocol.is_busy)
        except TransportError as error:
            raise TransportError(f"the replay server of {self.name} at {error}") from error


def get_replay(
    name: str, query: Mapping[str, Any], config: Mapping[str, Any], context: sockets.Context | None = None
) -> Iterator[dict[str, Any]]:
    """Query the replay server of a service for messages.

    Nothing is sent before the first ``next()``. Many numbers are asked for by several queries,
    so that neither end has to hold them all. The messages are as the server has sent them:
    where only signed ones are trusted, the caller has to check them.

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
        QueryError: The answer was an error, or can't be read. A ValueError.
    """
    timeout = float(settings.get(config, "timeout"))
    parts = _in_parts(query)
    with Client(name, config, context) as client:
        if parts is None:
            yield from map(_decode, protocol.check(client.ask(query, timeout)))
            return
        walk, make = parts
        found = False
        for _, frames in walk.answers(lambda first, last: client.ask(make(first, last), timeout)):
            found = True
            yield from map(_decode, frames)
        if not found:
            raise QueryError(protocol.error_frame(protocol.NO_MATCH).decode())


#: Makes the query for a part of a longer one: from which number or index to which.
_Part = Callable[[int, int], Mapping[str, Any]]


def _in_parts(query: Mapping[str, Any]) -> tuple[protocol.Walk, _Part] | None:
    """Return the parts of a query for more numbers than are asked for at once; None for any other."""
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


def _decode(frame: bytes) -> dict[str, Any]:
    try:
        message = encoding.loads(frame)
    except ValueError as error:
        raise QueryError(frame.decode(errors="replace")[:1000]) from error
    if not isinstance(message, dict):
        raise QueryError(frame.decode(errors="replace")[:1000])
    return message
