# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream port of a relay: clients read the stream there, from wherever they want."""

from __future__ import annotations

import logging
import select
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from fedmsg._util.ratelimit import RateLimitedLog
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from fedmsg.stream import jobs, protocol
from fedmsg.stream.answering import Answering
from fedmsg.stream.begin import begin_of, topics_of
from fedmsg.stream.delivering import Delivering
from fedmsg.stream.figures import Figures
from fedmsg.stream.names import Names
from fedmsg.stream.opening import Opening
from fedmsg.stream.port import Full, Gone, Incoming, Port
from fedmsg.stream.protocol import Malformed, Message
from fedmsg.stream.readers import Outbox, Reader
from fedmsg.stream.records import Entry
from fedmsg.stream.window import Window
from fedmsg.stream.worker import Worker
from fedmsg.transport.zmq import contexts

__all__ = ["StreamServer"]

log = logging.getLogger("fedmsg.stream")

#: How many clients there may be.
CLIENTS_MAX = 4000
# How many messages of clients are read in one turn.
_RECEIVE_MAX = 200
# Seconds between two looks at clients that are silent, at names that several want, and at cursors to store.
_TICK = 0.25
# Seconds between two AT.
_AT_INTERVAL = 1.0


class StreamServer(ServiceThread):
    """Serves a stream to its readers, in a thread of its own.

    It is started before what is stored is passed to `append`.

    Args:
        config: The configuration, for the options of the socket, for CURVE (``curve_subscribers``) and for
            ``relay_durable_max``.
        addresses: The addresses to bind.
        stream: The stream; it is read by threads of this server.
        clients_max: How many clients there may be.
        window: The newest messages; one of the usual size by default.
        figures: Returns more figures for ``INFO``, such as those of retention; called in the thread of the server.

    Attributes:
        addresses: What was bound, once it is started.
        counts: ``malformed`` messages of clients; ``clients`` that were turned away; ``silent`` ones that were
            disconnected; ``store`` failures; ``lost`` times that retention was faster than a reader; ``dropped``
            answers.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        addresses: Sequence[str],
        stream: jobs.Readable,
        *,
        clients_max: int = CLIENTS_MAX,
        window: Window | None = None,
        figures: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__("fedmsg-stream")
        self.addresses = list(addresses)
        self._config = config
        self._stream = stream
        self._clients_max = clients_max
        self._window = window
        self._figures = figures
        self._events = RateLimitedLog(log)
        self.counts: Counter[str] = self._events.counts
        self._names = Names()
        self._readers: dict[bytes, Reader] = {}
        self._by_client: dict[str, Reader] = {}
        # What still waits for clients that are no longer readers.
        self._left: list[Outbox] = []
        self._stored: Figures | None = None
        self._news = False
        self._next_tick = self._next_at = 0.0
        self._handlers = {
            protocol.PING: self._ping,
            protocol.OPEN: self._open,
            protocol.CREDIT: self._credit,
            protocol.ACK: self._ack,
            protocol.CLOSE: self._close_subscription,
            protocol.INFO: self._request,
            protocol.SUBSCRIPTIONS: self._request,
            protocol.GET: self._request,
        }

    # ---------------------------------------------------------------- for other threads

    def append(self, entries: Sequence[Entry]) -> None:
        """Pass on what was stored; the thread that stores calls it, after each commit."""
        if self._window is not None:
            self._window.append(entries)
            self._news = True
            # A client that comes just now looks into the window when it begins to read.
            if self._readers:
                self.waker.wake()

    @property
    def first(self) -> int:
        """The oldest position, as far as it is known; it is read every few seconds."""
        return 0 if self._stored is None else self._stored.first

    def statistics(self) -> dict[str, Any]:
        """Return figures for status reports and metrics."""
        readers = list(self._readers.values())
        window = self._window
        newest = 0 if window is None else window.newest
        delivering = getattr(self, "_delivering", None)
        return {
            **({} if self._stored is None else self._stored.statistics()),
            "clients": len(readers),
            "subscriptions": sum(reader.is_open for reader in readers),
            "lag_max": max((newest - reader.at for reader in readers if reader.is_open), default=0),
            "sent": delivering.sent if delivering is not None else 0,
            "sent_bytes": delivering.sent_size if delivering is not None else 0,
            "lost": delivering.lost if delivering is not None else 0,
            "window_bytes": 0 if window is None else window.size,
            **{f"rejected_{kind}": count for kind, count in list(self.counts.items())},
        }

    def lags(self) -> dict[str, int]:
        """Return the lags of durable subscriptions by name, for metrics; of many, the largest."""
        return {} if self._stored is None else self._stored.lags()

    # ---------------------------------------------------------------- the thread

    def run(self) -> None:
        """Serve until it is stopped."""
        stream = self._stream
        newest = stream.newest()
        first = stream.first()
        if self._window is None:
            self._window = Window(newest)
        self._reading = Worker("fedmsg-stream-read", self.waker)
        self._asking = Worker("fedmsg-stream-ask", self.waker)
        self._stored = Figures(stream, self._names, self._asking, self._window, first)
        try:
            contexts.allow_open_files(self._clients_max, f"{self._clients_max} clients of the stream")
        except ConfigError as error:
            log.warning("%s", error)
        self._port = Port(self._config, self.addresses, key="relay_stream", admit="curve_subscribers")
        with self._port, self._reading, self._asking:
            self.addresses = self._port.addresses
            self._reading.start()
            self._asking.start()
            self._delivering = Delivering(
                port=self._port,
                window=self._window,
                stream=stream,
                worker=self._reading,
                events=self._events,
                lose=self._lose,
            )
            self._opening = Opening(
                stream, self._names, self._asking, self._events, settings.get(self._config, "relay_durable_max")
            )
            self._answering = Answering(
                stream, self._names, self._asking, lambda: {**self.statistics(), **self._figures()}, self._window
            )
            poll = select.poll()
            poll.register(self._port.fileno(), select.POLLIN)
            poll.register(self.waker.fileno(), select.POLLIN)
            self.ready()
            while not self.stopping:
                if not self._turn():
                    poll.poll(1000 * self._timeout() + 1)
            # What it has in work must not overwrite what is stored now.
            self._asking.close()
            self._save_last()

    def _timeout(self) -> float:
        soon = max(0.0, self._next_tick - time.monotonic())
        waiting = self._delivering.timeout()
        return soon if waiting is None else min(soon, waiting)

    def _turn(self) -> bool:
        """Do what there is to do; whether there was something."""
        self.waker.clear()
        worked = self._receive()
        worked = self._asking.finish() or worked
        worked = self._reading.finish() or worked
        if self._news:
            self._news = False
            for reader in self._readers.values():
                self._delivering.push(reader)
        worked = self._delivering.turn(len(self._readers)) or worked
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            self._tick(now)
            # Sending may have taken in what the descriptor would have reported.
            worked = True
        return worked

    def _receive(self) -> bool:
        for count in range(_RECEIVE_MAX):
            incoming = self._port.receive()
            if incoming is None:
                return count > 0
            try:
                message = protocol.decode(incoming.frames)
                if message is not None:
                    self._handle(incoming, message)
            except Malformed as error:
                self._events.report("malformed", f"rejected a message of a client at {incoming.peer}: {error}")
        return True

    # ---------------------------------------------------------------- clients

    def _handle(self, incoming: Incoming, message: Message) -> None:
        reader = self._readers.get(incoming.identity)
        if message.kind == protocol.HELLO:
            self._greet(incoming, message.fields[0])
        elif reader is None:
            if message.kind in self._handlers:
                self._reject(incoming.identity, protocol.CODE_HELLO, "begin with HELLO")
        else:
            reader.heard = time.monotonic()
            handler = self._handlers.get(message.kind)
            if handler is not None:
                handler(reader, message)

    def _greet(self, incoming: Incoming, options: Mapping[str, Any]) -> None:
        """Take in a client."""
        client = protocol.text_of(options, "client")
        for old in (self._readers.get(incoming.identity), self._by_client.get(client) if client else None):
            if old is not None:
                self._lose(old)
        if len(self._readers) + len(self._left) >= self._clients_max:
            text = f"turned away a client at {incoming.peer}: there are {self._clients_max} already"
            self._events.report("clients", text)
            self._reject(incoming.identity, protocol.CODE_BUSY, "there are too many clients")
            return
        many, size_max = protocol.many_of(options), protocol.size_max_of(options)
        reader = Reader(incoming.identity, client, incoming.peer, time.monotonic(), many=many, size_max=size_max)
        self._readers[reader.identity] = reader
        if client:
            self._by_client[client] = reader
        assert self._window is not None
        self._send(
            reader,
            protocol.WELCOME,
            {
                "stream": self._stream.stream,
                "first": self.first,
                "newest": self._window.newest,
                "heartbeat": protocol.HEARTBEAT,
            },
        )

    def _reject(self, identity: bytes, code: str, reason: str) -> None:
        try:
            self._port.send(identity, protocol.encode(protocol.NO, {"code": code, "reason": reason}))
        except (Gone, Full):
            self.counts["dropped"] += 1

    def _send(self, reader: Reader, kind: bytes, *fields: Any) -> None:
        """Send what a client has to know; one that does not read it is disconnected."""
        try:
            self._port.send(reader.identity, protocol.encode(kind, *fields))
        except (Gone, Full):
            self._lose(reader)

    def _offer(self, reader: Reader, kind: bytes, *fields: Any) -> None:
        """Send what a client can do without; one that has gone is forgotten."""
        try:
            self._port.send(reader.identity, protocol.encode(kind, *fields))
        except Full:
            self.counts["dropped"] += 1
        except Gone:
            self._lose(reader)

    def _lose(self, reader: Reader) -> None:
        """Forget a client."""
        if self._readers.get(reader.identity) is not reader:
            return
        del self._readers[reader.identity]
        if self._by_client.get(reader.client) is reader:
            del self._by_client[reader.client]
        self._end(reader)
        reader.outbox.look()
        if reader.outbox.size:
            self._left.append(reader.outbox)

    def _end(self, reader: Reader, keep: str = "") -> None:
        """End the subscription of a client; one name may be kept."""
        self._delivering.forget(reader)
        name = reader.name
        reader.close()
        if name and name != keep:
            successor = self._names.release(name, reader)
            if successor is not None:
                self._begin(successor)

    # ---------------------------------------------------------------- what clients send

    def _ping(self, reader: Reader, _message: Message) -> None:
        self._offer(reader, protocol.PONG)

    def _open(self, reader: Reader, message: Message) -> None:
        options = message.fields[0]
        try:
            begin, prefixes = begin_of(options), topics_of(options)
            name = protocol.text_of(options, "durable", protocol.NAME_BYTES_MAX)
        except Malformed as error:
            self._end(reader)
            self._send(reader, protocol.NO, {"code": protocol.CODE_BAD, "reason": str(error)})
            raise
        # A reader that opens again keeps its name, and its place among those who wait.
        self._end(reader, keep=name)
        reader.begin, reader.prefixes, reader.name = begin, prefixes, name
        holder = self._names.take(name, reader) if name else None
        if holder is None:
            self._begin(reader)
        else:
            self._send(reader, protocol.WAIT, {"address": holder.peer})

    def _begin(self, reader: Reader) -> None:
        """Find out where a subscription begins, and then begin it."""

        def done(position: int | None, code: str, reason: str) -> None:
            if position is None:
                self._end(reader)
                self._send(reader, protocol.NO, {"code": code, "reason": reason})
                return
            reader.open(position)
            missing = {} if reader.missing_since is None else {"missing_since": reader.missing_since}
            self._send(reader, protocol.OPENED, {"position": position, **missing})
            self._delivering.push(reader)

        self._opening.ask(reader, done)

    def _credit(self, reader: Reader, message: Message) -> None:
        reader.add_credit(*message.fields)
        self._delivering.push(reader)

    def _ack(self, reader: Reader, message: Message) -> None:
        if reader.is_open and reader.name:
            self._names.acknowledge(reader, message.fields[0])

    def _close_subscription(self, reader: Reader, _message: Message) -> None:
        self._end(reader)

    def _request(self, reader: Reader, message: Message) -> None:
        """Answer a request, unless the client does not read its answers."""

        def done(options: dict[str, Any], topic: bytes = b"", body: bytes = b"") -> None:
            frames = protocol.encode(protocol.ANSWER, message.fields[0], options, topic, body)
            size = sum(map(len, frames))
            reader.outbox.look()
            if self._readers.get(reader.identity) is not reader:
                return
            if not reader.outbox.has_room(size, self._delivering.share):
                self.counts["dropped"] += 1
                return
            try:
                tracker: zmq.MessageTracker | None = self._port.send(
                    reader.identity, frames, track=reader.outbox.wants_report(size)
                )
            except Full:
                self.counts["dropped"] += 1
            except Gone:
                self._lose(reader)
            else:
                reader.outbox.add(size, tracker)

        self._answering.answer(reader, message, done)

    # ---------------------------------------------------------------- now and then

    def _tick(self, now: float) -> None:
        self._port.check()
        contested = set(self._names.contested())
        for reader in list(self._readers.values()):
            if now - reader.heard > protocol.SILENCE_MAX:
                self._events.report("silent", f"disconnected a client at {reader.peer}: it is silent", reader.peer)
                self._lose(reader)
            elif now - reader.pinged >= protocol.HEARTBEAT or reader in contested:
                reader.pinged = now
                self._offer(reader, protocol.PING)
        if now >= self._next_at:
            self._next_at = now + _AT_INTERVAL
            self._announce()
        if self._stored is not None:
            self._stored.tick(now)
        self._opening.tick(now)
        for outbox in self._left:
            outbox.look()
        self._left = [outbox for outbox in self._left if outbox.size]
        self._delivering.pending_elsewhere = sum(outbox.size for outbox in self._left)

    def _announce(self) -> None:
        for reader in list(self._readers.values()):
            try:
                self._delivering.announce(reader)
            except Full:
                continue
            except Gone:
                self._lose(reader)

    def _save_last(self) -> None:
        """Store the cursors that are not stored yet; the server is stopping."""
        for reader in list(self._readers.values()):
            self._lose(reader)
        self._opening.save_last()
