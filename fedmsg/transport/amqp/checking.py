# SPDX-License-Identifier: LGPL-2.1-or-later
"""Questions to a broker from a command: how it is, how many messages wait for consumers; and removing a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from fedmsg.config import settings
from fedmsg.exceptions import QueryError, TransportError
from fedmsg.transport.amqp import calls
from fedmsg.transport.amqp.consuming import queues_of
from fedmsg.transport.amqp.link import Link
from fedmsg.transport.amqp.problems import BrokerRefusal, Refused
from fedmsg.transport.amqp.steps import Step, Steps
from fedmsg.transport.amqp.topology import check_exchange
from fedmsg.transport.amqp.urls import Server

__all__ = ["remove", "status"]

_NOT_FOUND = 404


class _Asking:
    """The job of a link that asks once.

    Args:
        exchange: The exchange of the bus.
        ask: Asks, as steps, when the exchange is in order.
    """

    def __init__(self, exchange: str, ask: Callable[[Step, Server], Steps]) -> None:
        self._exchange = exchange
        self._ask = ask
        self._refusals = 0
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.link: Link

    def what(self) -> str:
        """Return what it works with."""
        return f"the exchange {self._exchange!r}"

    def steps(self, open_channel: Step, server: Server) -> Steps:
        """Ask."""
        yield from check_exchange(open_channel, self._exchange, server)
        answer = yield from self._ask(open_channel, server)
        self.answers.put(answer)

    def woken(self) -> None:
        """Do nothing: there is no other thread."""

    def lost(self, problem: BrokerRefusal) -> None:
        """End with what each node refuses."""
        self._refusals = self._refusals + 1 if problem.is_permanent else 0
        if self._refusals >= len(self.link.servers):
            self.answers.put(problem)

    def finish(self) -> None:
        """Do nothing: there is nothing left to send."""


def _asked(config: Mapping[str, Any], timeout: float, ask: Callable[[Step, Server], Steps]) -> Any:
    """Ask, and return the answer.

    Raises:
        TransportError: There is none in time.
    """
    asking = _Asking(str(settings.get(config, "broker_exchange")), ask)
    with Link(config, asking, "check", is_patient=False) as link:
        asking.link = link
        link.start()
        try:
            answer = asking.answers.get(timeout=timeout)
        except Empty:
            reason = link.problem or f"no answer from {link.where}"
            raise TransportError(f"{reason} (within {timeout:g} s)") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def status(config: Mapping[str, Any], consumers: Iterable[str], timeout: float) -> dict[str, Any]:
    """Return the node that answers, and the queues of consumers.

    Returns:
        ``node``, ``cluster``, and ``queues``: for each that is there a dict with ``name``, ``queue``, ``ready`` and
        ``consumers``. Of the stream, where there is one, ``ready`` is how many messages it keeps.

    Raises:
        TransportError: There is no answer in time, or the broker refuses one.
        ConfigError: A URL or a file for TLS can't be used.
    """
    stream = str(settings.get(config, "broker_stream"))
    wanted = {stream: stream, **{name: queues_of(name)[0] for name in consumers}}

    def ask(open_channel: Step, server: Server) -> Steps:
        rows = []
        for name, queue in wanted.items():
            channel = yield open_channel
            try:
                found = (yield partial(calls.find_queue, channel, queue)).method
            except Refused as refused:
                if refused.code != _NOT_FOUND:
                    raise
                continue
            rows.append({"name": name, "queue": queue, "ready": found.message_count, "consumers": found.consumer_count})
            channel.close()
        channel = yield open_channel
        return {"node": server.label, "cluster": _text(calls.cluster_of(channel)), "queues": rows}

    found: dict[str, Any] = _asked(config, timeout, ask)
    return found


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def remove(config: Mapping[str, Any], name: str, timeout: float) -> None:
    """Remove the queue of a consumer or the cursor of a durable reader, with what waits in it.

    Raises:
        QueryError: There is none.
        TransportError: There is no answer in time, or the broker refuses it.
    """

    def ask(open_channel: Step, server: Server) -> Steps:
        del server
        removed = 0
        for queue in queues_of(name):
            channel = yield open_channel
            try:
                yield partial(calls.find_queue, channel, queue)
                yield partial(calls.delete_queue, channel, queue)
                removed += 1
                channel.close()
            except Refused as refused:
                if refused.code != _NOT_FOUND:
                    raise
        return removed

    if not _asked(config, timeout, ask):
        raise QueryError(f"no consumer and no durable reader has a queue as {name!r}")
