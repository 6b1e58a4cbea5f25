# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a stream port for figures, durable subscriptions, or one message."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedmsg._util.service import Waker
from fedmsg.config import settings
from fedmsg.exceptions import PositionGone, QueryError, StoreError, TransportError
from fedmsg.stream import protocol
from fedmsg.stream.protocol import Malformed
from fedmsg.stream.session import Ended, Session
from fedmsg.transport.zmq import addresses, contexts

__all__ = ["Answer", "get", "info", "subscriptions"]

_ID = b"1"
# So many durable subscriptions are taken from a relay, or as many as relay_durable_max says here.
_NAMES_MAX = 10_000
_FIGURES = ("first", "newest", "messages", "bytes")
_ROW: dict[str, type | tuple[type, ...]] = {
    "name": str, "cursor": int, "lag": int, "seen": (int, float), "address": str, "connected": bool, "waiting": int,
}  # fmt: skip


class Answer(NamedTuple):
    """An answer: its options, and for a message its topic and body."""

    options: dict[str, Any]
    topic: bytes
    body: bytes


def info(config: Mapping[str, Any], address: str, timeout: float = 5.0) -> dict[str, Any]:
    """Return the figures of a stream.

    Raises:
        TransportError: The relay does not answer in time.
    """
    options = _ask(config, address, timeout, protocol.INFO).options
    if not isinstance(options.get("stream"), str) or not all(isinstance(options.get(key), int) for key in _FIGURES):
        raise TransportError(f"{address} does not answer like a relay with a stream")
    return options


def subscriptions(
    config: Mapping[str, Any], address: str, timeout: float = 5.0, *, name: str = ""
) -> list[dict[str, Any]]:
    """Return the durable subscriptions of a stream, by name.

    Args:
        config: The configuration.
        address: The address of the stream port.
        timeout: Seconds, for each page of them.
        name: Return this one alone.

    Raises:
        TransportError: The relay does not answer in time, or not with subscriptions, or with far too many.
    """
    most = max(_NAMES_MAX, settings.get(config, "relay_durable_max"))
    rows: dict[str, dict[str, Any]] = {}
    page: dict[str, str] = {"name": name} if name else {}
    while True:
        options = _ask(config, address, timeout, protocol.SUBSCRIPTIONS, page).options
        found, more = options.get("subscriptions"), options.get("more")
        if not isinstance(found, list) or not all(map(_is_row, found)):
            raise TransportError(f"{address} does not answer like a relay with a stream")
        fresh = {row["name"]: row for row in found if row["name"] not in rows}
        rows |= fresh
        # A page without a new name would come for ever.
        if not more or not fresh:
            return [*rows.values()]
        if len(rows) > most:
            raise TransportError(f"{address} has more than {most} durable subscriptions: raise relay_durable_max here")
        page = {"after": found[-1]["name"]}


def _is_row(row: object) -> bool:
    """Return whether an answer has what belongs to a durable subscription."""
    return isinstance(row, dict) and all(isinstance(row.get(key), kind) for key, kind in _ROW.items())


def get(
    config: Mapping[str, Any], address: str, wanted: int | str, timeout: float = 5.0, *, is_first: bool = False
) -> Answer:
    """Return one message.

    Args:
        config: The configuration.
        address: The address of the stream port.
        wanted: A position or a ``msg_id``.
        timeout: Seconds.
        is_first: Whether the first message that is kept at the position or after it is wanted.

    Raises:
        PositionGone: It is not there. A LookupError.
        TransportError: The relay does not answer in time.
    """
    key = "msg_id" if isinstance(wanted, str) else "position"
    return _ask(config, address, timeout, protocol.GET, {key: wanted, **({"first": True} if is_first else {})})


def _ask(config: Mapping[str, Any], address: str, timeout: float, kind: bytes, *fields: Any) -> Answer:
    addresses.check(address, "relay_stream")
    deadline = time.monotonic() + timeout
    generation = contexts.generation
    context = contexts.acquire(settings.get(config, "io_threads"))
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                with (
                    Waker() as waker,
                    Session(
                        context, config, address, client=os.urandom(16).hex(), is_one_of_several=False, waker=waker
                    ) as session,
                ):
                    answer = _converse(session, deadline, kind, *fields)
            except Ended:
                # It is tried again as long as there is time.
                with Waker() as pause:
                    pause.wait(min(0.1, left))
            else:
                if answer is not None:
                    return _checked(answer, address)
    finally:
        contexts.release(generation)
    raise TransportError(f"{address} did not answer within {timeout:g} s")


def _converse(session: Session, deadline: float, kind: bytes, *fields: Any) -> Answer | None:
    while (left := deadline - time.monotonic()) > 0:
        session.look()
        while (frames := session.receive()) is not None:
            try:
                message = protocol.decode(frames)
            except Malformed:
                continue
            if message is None:
                continue
            if message.kind == protocol.WELCOME:
                session.is_welcome = True
                session.send(kind, _ID, *fields)
            elif message.kind == protocol.ANSWER:
                return Answer(*message.fields[1:])
            elif message.kind == protocol.NO:
                raise Ended(str(message.fields[0].get("reason")))
        session.wait(left)
    return None


def _checked(answer: Answer, address: str) -> Answer:
    code = answer.options.get("code")
    if code is None:
        return answer
    kind = {protocol.CODE_GONE: PositionGone, protocol.CODE_STORE: StoreError}.get(code, QueryError)
    raise kind(f"{address}: {answer.options.get('reason')}")
