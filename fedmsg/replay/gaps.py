# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gaps in the numbers of messages: found, and filled from a replay server in order."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from fedmsg import _wire, encoding
from fedmsg._util.ratelimit import RateLimitedLog, RejectionLog
from fedmsg.exceptions import MessageError
from fedmsg.replay.history import Ask, ReplayHistory
from fedmsg.replay.numbers import ServiceNumbers, number_of
from fedmsg.store.recovery import Message
from fedmsg.transport.zmq import sockets

__all__ = ["GapFiller", "Message", "check_for_replay"]

log = logging.getLogger("fedmsg.replay")


class GapFiller:
    """Fills gaps in the numbers of services, for one receiver; used by one thread at a time.

    What is replayed comes in the order of its numbers and once. A server that does not answer,
    rejects the query, or has lost a part of the gap costs one error in the log, and at most ``timeout``
    seconds in which nothing is passed on.

    Args:
        config: The configuration: ``replay_endpoints``, ``timeout``.
        names: The services, by their names in ``replay_endpoints``.
        numbers: The last number of each service, -1 before the first message. It is kept up
            to date; with it ``names`` is not needed.
        validate: Returns whether a replayed envelope may be passed on; None lets all pass.
        signed: Whether signatures are checked, so that numbers belong to signers; when not
            given, whether there is ``validate``.
        read: Turns a frame of an answer into an envelope, or raises MessageError.
        rejections: Where replayed messages that are rejected are counted and logged.
        context: The ZeroMQ context to use; that of the process when not given.
        counts: Where to count, when not in a Counter of its own.
        ask: Sends a query to the server of a service, instead of a client of `fedmsg.replay.client`.

    Attributes:
        numbers: The last number of each service.
        counts: ``asked`` (queries), ``replayed`` (messages), ``lost`` (messages that can't be had
            any more), ``failed`` (gaps with such losses), ``repeated`` (duplicates), ``uncounted``
            (messages whose number is not one of the service).
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        names: Iterable[str] = (),
        *,
        numbers: MutableMapping[str, int] | None = None,
        validate: Callable[[dict[str, Any]], bool] | None = None,
        signed: bool | None = None,
        read: Callable[[bytes], dict[str, Any]] = _wire.parse_stored,
        rejections: RejectionLog | None = None,
        context: sockets.Context | None = None,
        counts: Counter[str] | None = None,
        ask: Ask | None = None,
    ) -> None:
        self.numbers = numbers if numbers is not None else dict.fromkeys(names, -1)
        self.counts: Counter[str] = counts if counts is not None else Counter()
        self._config = config
        self._signed = validate is not None if signed is None else signed
        self._events = RateLimitedLog(log)
        self._validate = validate
        self._read = read
        self._rejections = rejections if rejections is not None else RejectionLog(log)
        self._context = context
        self._ask = ask
        self._services: dict[str, ServiceNumbers] = {}

    def fill(self, name: str, message: Message) -> Iterable[Message]:
        """Take a received message and return what is to be passed on now."""
        last = self.numbers.get(name)
        number = number_of(message)
        if number is None or last is None:
            return (message,)
        service = self._service(name)
        if (number == last + 1 or last < 0) and number < service.ahead_start and not service.is_unknown(message):
            # What nearly all messages are.
            if last < 0:
                service.begin(number, message)
            else:
                self.numbers[name] = number
            return (message,)
        return service.take(number, message)

    def catch_up(self, name: str) -> Iterable[Message]:
        """Return what the server of a service has after its last number; nothing before the first message."""
        return self._service(name).catch_up() if self.numbers.get(name, -1) >= 0 else ()

    def _service(self, name: str) -> ServiceNumbers:
        found = self._services.get(name)
        if found is None:
            found = self._services[name] = ServiceNumbers(
                name, self.numbers, signed=self._signed, counts=self.counts, events=self._events,
                open_history=self._open_history,
            )  # fmt: skip
        return found

    def _open_history(self, name: str, is_received: Callable[[Message], bool]) -> ReplayHistory:
        """Return the history of a service."""
        return ReplayHistory(
            name, self._config, is_received, read=self._read, validate=self._validate, rejections=self._rejections,
            counts=self.counts, context=self._context, ask=self._ask,
        )  # fmt: skip


def _read_anything(frame: bytes) -> dict[str, Any]:
    """Decode a replayed message for `check_for_replay`, whose caller checks it."""
    try:
        message = encoding.loads(frame)
    except ValueError as error:
        raise MessageError(f"it is not JSON: {error}", "json") from error
    if not isinstance(message, dict):
        raise MessageError("it is not a JSON object", "json")
    return message


def check_for_replay(
    name: str,
    names_to_seq_id: MutableMapping[str, int],
    msg: Message,
    config: Mapping[str, Any],
    context: sockets.Context | None = None,
    *,
    validate: Callable[[dict[str, Any]], bool] | None = None,
    counts: Counter[str] | None = None,
) -> list[Message]:
    """Return a received message together with those that are missing before it.

    Threads may call it at the same time, each with a ``names_to_seq_id`` of its own. Of many
    missing messages `GapFiller.fill` yields one after the other instead of a list.

    Args:
        name: The service that it came from.
        names_to_seq_id: The last number of each service, -1 before the first; kept up to date.
        msg: The message: an envelope, or a dict of ``topic`` and ``body``.
        config: The configuration: ``replay_endpoints``, ``timeout``.
        context: The ZeroMQ context to use; that of the process when not given.
        validate: Returns whether a replayed envelope may be passed on. Without it they come
            as the server has sent them, and the caller checks them like the message itself.
        counts: Where to count, see `GapFiller`.

    Returns:
        The messages in order; none when it is not newer than the last one. What is missing
        and can't be had is one error in the log.
    """
    number, last = number_of(msg), names_to_seq_id.get(name)
    if number is None or last is None:
        return [msg]
    if 0 <= number <= last:
        if counts is not None:
            counts["repeated"] += 1
        return []
    read = _read_anything if validate is None else _wire.parse_stored
    filler = GapFiller(
        config, numbers=names_to_seq_id, validate=validate, signed=False, read=read, context=context, counts=counts
    )  # fmt: skip
    return list(filler.fill(name, msg))
