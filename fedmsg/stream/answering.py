# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answers questions about a stream: figures, durable subscriptions, one message."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg.stream import jobs, protocol
from fedmsg.stream.names import Names
from fedmsg.stream.protocol import Malformed, Message
from fedmsg.stream.readers import Reader
from fedmsg.stream.records import Cursor, Entry
from fedmsg.stream.window import Window
from fedmsg.stream.worker import Worker

__all__ = ["Answering"]

#: How many durable subscriptions an answer lists.
PAGE = 500

#: Called with the options of the answer, and perhaps topic and body.
Done = Callable[..., None]


class Answering:
    """Answers ``INFO``, ``SUBSCRIPTIONS`` and ``GET``, by a thread that may wait for the store.

    Args:
        stream: The stream.
        names: The durable names.
        worker: The thread.
        statistics: Returns the figures of the server.
        window: The newest messages.
    """

    def __init__(
        self,
        stream: jobs.Readable,
        names: Names,
        worker: Worker,
        statistics: Callable[[], Mapping[str, Any]],
        window: Window,
    ) -> None:
        self._stream = stream
        self._names = names
        self._worker = worker
        self._statistics = statistics
        self._window = window

    def answer(self, reader: Reader, message: Message, done: Done) -> None:
        """Answer a request, one at a time for each client.

        Raises:
            Malformed: It makes no sense; it is answered all the same.
        """
        identifier, options = message.fields[0], message.fields[1] if len(message.fields) > 1 else {}
        if len(identifier) > protocol.ID_BYTES_MAX:
            raise Malformed("the id of a request is too long")
        if reader.is_asking:
            done(_error(protocol.CODE_BUSY, "one request at a time"))
            return
        work, make = self._plan(message.kind, options, done)

        def take(result: Any) -> None:
            reader.is_asking = False
            if isinstance(result, jobs.Refused):
                done(_error(result.code, str(result)))
            elif isinstance(result, Exception):
                done(_error(protocol.CODE_STORE, "the store can't be read at the moment"))
            else:
                make(result)

        reader.is_asking = True
        self._worker.ask(work, take)

    def _plan(
        self, kind: bytes, options: Mapping[str, Any], done: Done
    ) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        """Return what asks the store, and what makes the answer of it."""
        stream = self._stream
        if kind == protocol.INFO:
            return stream.statistics, lambda found: done(self._info(found))
        try:
            if kind == protocol.SUBSCRIPTIONS:
                after = protocol.text_of(options, "after", protocol.NAME_BYTES_MAX)
                name = protocol.text_of(options, "name", protocol.NAME_BYTES_MAX)
                return lambda: _cursors(stream, name, after), lambda found: done(self._subscriptions(found))
            wanted, is_first = _wanted(options), options.get("first") is True
        except Malformed as error:
            done(_error(protocol.CODE_BAD, str(error)))
            raise
        return lambda: jobs.find(stream, wanted, is_first=is_first), lambda found: done(*_found(found))

    def _info(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {"stream": self._stream.stream, "time": time.time(), **self._statistics(), **found}

    def _subscriptions(self, cursors: list[Cursor]) -> dict[str, Any]:
        names, newest = self._names, self._window.newest
        rows = []
        for cursor in cursors[:PAGE]:
            holder = names.holder(cursor.name)
            position = names.newest_of(cursor)
            rows.append(
                {
                    "name": cursor.name,
                    "cursor": position,
                    "lag": max(0, newest - position),
                    "seen": cursor.seen if holder is None else time.time(),
                    "address": cursor.address if holder is None else holder.peer,
                    "connected": holder is not None,
                    "waiting": names.waiting(cursor.name),
                }
            )
        return {"newest": newest, "subscriptions": rows, "more": len(cursors) > PAGE}


def _cursors(stream: jobs.Readable, name: str, after: str) -> list[Cursor]:
    """Read one cursor, or a page and one more of them."""
    if name:
        found = stream.cursor(name)
        return [] if found is None else [found]
    return stream.cursors(after, PAGE + 1)


def _wanted(options: Mapping[str, Any]) -> int | str:
    position, msg_id = options.get("position"), options.get("msg_id")
    if type(position) is int and msg_id is None and 0 < position < 2**63:
        return position
    if position is None and isinstance(msg_id, str) and msg_id:
        return msg_id
    raise Malformed("it asks for no position and no msg_id")


def _found(entry: Entry) -> tuple[dict[str, Any], bytes, bytes]:
    return {"position": entry.position, "stored": entry.stored, "via": list(entry.via)}, entry.topic, entry.body


def _error(code: str, reason: str) -> dict[str, Any]:
    return {"code": code, "reason": reason}
