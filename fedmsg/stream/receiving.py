# SPDX-License-Identifier: LGPL-2.1-or-later
"""The thread of a subscription: it keeps the connection, whatever its user is doing meanwhile."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedmsg import _wire
from fedmsg._util.ratelimit import RateLimitedLog, RejectionLog
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError, MessageError, PositionGone, QueryError, Unavailable
from fedmsg.store.recovery import is_time
from fedmsg.stream import protocol
from fedmsg.stream.begin import Begin
from fedmsg.stream.inbox import Inbox, StreamDelivery, size_of
from fedmsg.stream.progress import Progress, StoredPosition
from fedmsg.stream.protocol import Malformed
from fedmsg.stream.recovering import recovery_of
from fedmsg.stream.session import Ended, Session
from fedmsg.transport.zmq import contexts

__all__ = ["Receiving"]

log = logging.getLogger("fedmsg.stream")

_TOPIC_MAX = _wire.MAX_TOPIC_BYTES
# How many messages are received before timers are looked at.
_BATCH = 500
# Seconds between two attempts to connect: they double.
_RETRY_MIN = 0.05
_RETRY_MAX = 1.0
# Seconds until credit is returned that is less than half of the window, and until the next ACK.
_CREDIT_DELAY = 0.2
_ACK_DELAY = 0.02
# Seconds until the relay has to have read the last ACK.
_CLOSE_TIMEOUT = 1.0


class Receiving(ServiceThread):
    """Receives a stream.

    Args:
        config: The configuration.
        addresses: Where the relay is; those after the first are other relays.
        progress: Where to begin.
        topics: Returns the topics that are wanted.
        durable: The name of a durable subscription; empty for a plain one.
        rejections: Where rejected messages are counted and logged.
        stored: Returns how far the owner has stored, see `fedmsg.stream.subscription.Subscription`.

    Attributes:
        counts: ``received``, ``recovered`` (from a datagrepper), ``duplicates``, ``lost``, ``gaps`` and
            ``connections``.
        address: The address of the relay that serves at the moment; empty where none does.
        newest: The newest position that is known.
        ending: The error that ended the subscription, if one has.
        opens_again: Set by the owner, to begin again with other topics.
        inbox: What was received.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        addresses: Sequence[str],
        progress: Progress,
        *,
        topics: Callable[[], list[str]],
        durable: str,
        rejections: RejectionLog,
        stored: Callable[[], StoredPosition | Begin | None] = lambda: None,
    ) -> None:
        super().__init__("fedmsg-subscription")
        self._config = config
        # A durable subscription belongs to one relay, and waits for it.
        self._addresses = list(addresses[:1] if durable else addresses)
        self._progress, self._topics = progress, topics
        self._durable = durable
        self._rejections = rejections
        self._stored: Callable[[], StoredPosition | Begin | None] | None = stored
        self._client = os.urandom(16).hex()
        self._credit, self._credit_size = protocol.credit_of(config)
        self._max_size: int = settings.get(config, "max_message_size")
        # So many are passed on at once: the owner works on these while the relay sends the other half.
        self._half = self._credit // 2 or 1
        self.inbox = Inbox((self._half, self._credit_size // 2 or 1), self.waker)
        self._events = RateLimitedLog(log)
        self._generation = contexts.generation
        self.counts: Counter[str] = Counter()
        self._recovery = recovery_of(config, topics, self.inbox, self.counts, rejections)
        self._asked = Begin()
        self.address = ""
        self.newest = 0
        self.ending: FedmsgError | None = None
        self.opens_again = False
        self._stream = ""
        self._is_open = self._has_opened = False
        self._pending, self._pending_size = 0, 0
        self._credit_sent = self._ack_sent = 0.0
        self._acked = self._pongs = 0
        self._received: list[StreamDelivery] = []
        self._handlers: dict[bytes, Callable[..., None]] = {
            protocol.WELCOME: self._welcome,
            protocol.PING: self._ping,
            protocol.PONG: self._pong,
            protocol.OPENED: self._opened,
            protocol.AT: self._at,
            protocol.LARGE: self._large,
            protocol.LOST: self._lost,
            protocol.WAIT: self._wait,
            protocol.NO: self._no,
        }

    # ---------------------------------------------------------------- connections

    def run(self) -> None:
        """Receive until it is stopped, or something ends the subscription."""
        context = contexts.acquire(settings.get(self._config, "io_threads"))
        try:
            self.ready()
            for address in self._rotation():
                if self.stopping or self.ending is not None:
                    break
                self._connect(context, address)
        except FedmsgError as error:
            self.ending = error
        finally:
            self.address = ""
            self.inbox.notify()
            contexts.release(self._generation)

    def _rotation(self) -> Iterator[str]:
        """Yield the addresses, again and again, with pauses."""
        delay = _RETRY_MIN
        for address in itertools.cycle(self._addresses):
            self._has_opened = False
            yield address
            delay = _RETRY_MIN if self._has_opened else min(_RETRY_MAX, 2 * delay)
            deadline = time.monotonic() + delay
            while not self.stopping and self.ending is None and (left := deadline - time.monotonic()) > 0:
                self.waker.wait(left)

    def _connect(self, context: Any, address: str) -> None:
        try:
            with Session(
                context,
                self._config,
                address,
                client=self._client,
                is_one_of_several=len(self._addresses) > 1,
                waker=self.waker,
            ) as session:
                self._pongs = 0
                try:
                    self._serve(session)
                finally:
                    self._is_open = False
                    self.address = ""
        except Ended as error:
            if not self.stopping:
                self._events.report("connection", f"{error}; trying again", address)

    def _serve(self, session: Session) -> None:
        while not self.stopping and self.ending is None:
            self.waker.clear()
            session.look()
            # The relay sends more while this is received.
            self._return_credit(session)
            more = self._receive(session)
            if self.opens_again and self._is_open:
                self._open(session)
            timeout = self._return_credit(session)
            timeout = min(timeout, self._acknowledge(session))
            if not more:
                session.wait(timeout)
        if self._is_open:
            self._ack_sent = 0.0
            self._acknowledge(session)
            session.send(protocol.CLOSE)
            self._is_open = False
            if self._durable:
                self._wait_for_relay(session)

    def _wait_for_relay(self, session: Session) -> None:
        """Wait until the relay has read all that was sent: with a client that has gone, it drops what is not read."""
        session.ping()
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        while self._pongs < session.pings and (left := deadline - time.monotonic()) > 0:
            self.waker.clear()
            if not self._receive(session):
                session.wait(left)

    def _receive(self, session: Session) -> bool:
        """Receive a batch of messages; whether there may be more."""
        receive = session.receive
        try:
            for _ in range(_BATCH):
                frames = receive()
                if frames is None:
                    return False
                self._handle(session, frames)
                if len(self._received) >= self._half:
                    break
            return True
        finally:
            self._flush()

    def _flush(self) -> None:
        """Pass on what was received."""
        if self._received:
            received, self._received = self._received, []
            self._progress.received_at = time.time()
            self.counts["received"] += len(received)
            if self._recovery is not None:
                received = self._note(received)
            if received:
                self.inbox.put(received)

    def _note(self, received: list[StreamDelivery]) -> list[StreamDelivery]:
        """Return those of them that have not come from history, and note them all."""
        recovery = self._recovery
        assert recovery is not None
        recovery.received(received)
        # What is held back is looked at later.
        if not recovery.looks or self.inbox.is_holding:
            return received
        fresh = [delivery for delivery in received if recovery.is_new(delivery)]
        self._pending += len(received) - len(fresh)
        self._pending_size += size_of(received) - size_of(fresh)
        recovery.looked(received[-1].stored)
        return fresh

    def _handle(self, session: Session, frames: list[bytes]) -> None:
        try:
            message = protocol.decode(frames)
            if message is None:
                return
            if message.kind == protocol.MSGS:
                self._messages(session, protocol.decode_many(*message.fields))
            elif message.kind == protocol.MSG:
                self._messages(session, (message.fields,))
            elif (handler := self._handlers.get(message.kind)) is not None:
                # What it leads to must see what came before it.
                self._flush()
                handler(session, *message.fields)
        except Malformed as error:
            self._reject_frames(session, str(error))

    def _reject_frames(self, session: Session, reason: str) -> None:
        self._events.report("malformed", f"rejected a message of {session.address}: {reason}", session.address)

    # ---------------------------------------------------------------- what the relay sends

    def _welcome(self, session: Session, options: Mapping[str, Any]) -> None:
        stream = protocol.text_of(options, "stream", protocol.NAME_BYTES_MAX)
        if not stream:
            raise Malformed("WELCOME names no stream")
        newest = options.get("newest")
        self.newest = newest if isinstance(newest, int) else 0
        session.is_welcome = True
        self.counts["connections"] += 1
        self.address = session.address
        self._stream = stream
        self._recall()
        if self._progress.stream and self._progress.stream != stream:
            self._move(session)
        self._open(session)

    def _recall(self) -> None:
        """Ask the owner, once, how far it has stored."""
        if self._stored is not None:
            try:
                stored = self._stored()
            except Unavailable as error:
                raise Ended(f"where to begin is not known yet: {error}") from error
            self._stored = None
            if stored is not None:
                self._progress.recall(stored)

    def _move(self, session: Session) -> None:
        how = self._progress.move()
        log.warning("the stream at %s is another one (%s): going on %s", session.address, self._stream, how)

    def _open(self, session: Session) -> None:
        self._is_open = self.opens_again = False
        self._asked = self._progress.resume()
        options: dict[str, Any] = {"topics": self._topics(), **self._asked.options()}
        if self._durable:
            options["durable"] = self._durable
        session.send(protocol.OPEN, options)
        # What was received and is still waiting here is part of the window.
        waiting, size = self.inbox.waiting()
        self._pending = self._pending_size = 0
        session.send(protocol.CREDIT, max(0, self._credit - waiting), max(0, self._credit_size - size))

    def _ping(self, session: Session) -> None:
        session.send(protocol.PONG)

    def _pong(self, _session: Session) -> None:
        self._pongs += 1

    def _opened(self, session: Session, options: Mapping[str, Any]) -> None:
        position = options.get("position")
        if type(position) is not int or position < 0:
            raise Malformed("OPENED has no position")
        since = options.get("missing_since") if self._durable else self._asked.since
        if self._recovery is not None and is_time(since):
            self._recovery.begin(session.address, since, position, is_known=self._asked.since == since)
        elif self._recovery is not None and self._asked == Begin() and not self._durable:
            self._recovery.begin_now()
        self._progress.opened(self._stream, position)
        self._acked = 0
        self._is_open = self._has_opened = True
        self.inbox.open(self._stream, position)

    def _messages(self, session: Session, rows: Iterable[protocol.Row]) -> None:
        if not self._is_open:
            return
        progress, add, max_size = self._progress, self._received.append, self._max_size
        inbox, stream, address = self.inbox, self._stream, session.address
        for position, previous, stored, topic, body in rows:
            if previous != progress.previous or position <= previous:
                # Something between was missed; it is sent again.
                self.counts["gaps"] += 1
                self._flush()
                self._open(session)
                return
            size = len(topic) + len(body)
            if not progress.received(position, topic, body):
                self.counts["duplicates"] += 1
            elif (size <= max_size and len(topic) <= _TOPIC_MAX) or self._is_acceptable(session, topic, size):
                add(StreamDelivery(inbox, stream, address, position, stored / 1e6, topic, body))
                continue
            self._pending += 1
            self._pending_size += size

    def _is_acceptable(self, session: Session, topic: bytes, size: int) -> bool:
        """Return whether a message is not too large; one that is, is counted."""
        try:
            _wire.check_size(size, self._max_size)
            _wire.check_topic(topic)
        except MessageError as error:
            self._rejections.add(session.address, error)
            return False
        return True

    def _at(self, _session: Session, position: int) -> None:
        if self._is_open:
            self._progress.looked_at = max(self._progress.looked_at, position)
            self.newest = max(self.newest, position)

    def _large(self, session: Session, position: int, size: int) -> None:
        """Count a message that the relay has not sent, for it is too large here."""
        if self._is_open and position > self._progress.looked_at and size > self._max_size:
            self._is_acceptable(session, b"", size)
            self._progress.passed_over(position)

    def _lost(self, session: Session, first: int, last: int) -> None:
        if self._is_open and first <= last:
            self._progress.looked_at = max(self._progress.looked_at, last)
            if self._recovery is not None and self._recovery.lost(session.address, first, last):
                return
            self.counts["lost"] += last - first + 1
            self._events.report(
                "lost", f"{session.address}: lost positions {first} to {last}, which the relay no longer keeps"
            )

    def _wait(self, session: Session, options: Mapping[str, Any]) -> None:
        holder = protocol.text_of(options, "address", protocol.NAME_BYTES_MAX)
        log.warning("%s: another reader, at %s, has the name %s: waiting", session.address, holder, self._durable)

    def _no(self, session: Session, options: Mapping[str, Any]) -> None:
        code = protocol.text_of(options, "code")
        reason = str(options.get("reason", ""))[: protocol.NAME_BYTES_MAX]
        progress = self._progress
        if code == protocol.CODE_GONE and (progress.stream or progress.has_moved):
            if progress.stream:
                self._move(session)
            else:
                progress.move_by_time()
            self._open(session)
        elif code == protocol.CODE_GONE:
            self.ending = PositionGone(f"{session.address}: {reason}")
        elif code in {protocol.CODE_BAD, protocol.CODE_FULL}:
            self.ending = QueryError(f"{session.address}: {reason}")
        else:
            raise Ended(f"the relay at {session.address} can't serve the subscription at present: {reason}")

    @property
    def is_recovering(self) -> bool:
        """Whether what the relay no longer keeps is being read elsewhere."""
        return self.inbox.is_holding

    def stop(self) -> None:
        """Receive no more."""
        if self._recovery is not None:
            self._recovery.stop()
        super().stop()

    def forget(self) -> None:
        """Close it in a forked child, where its threads are not there."""
        if self._recovery is not None:
            self._recovery.abandon()
        self.abandon()

    def _close(self) -> None:
        super()._close()
        if self._recovery is not None:
            self._recovery.close()

    # ---------------------------------------------------------------- what the relay is sent

    def _return_credit(self, session: Session) -> float:
        """Return the credit of what was taken; seconds until that is to be looked at again."""
        messages, size = self.inbox.returned()
        self._pending += messages
        self._pending_size += size
        if not self._pending or not self._is_open:
            return protocol.HEARTBEAT
        now = time.monotonic()
        if 2 * self._pending < self._credit and 2 * self._pending_size < self._credit_size:
            left = self._credit_sent + _CREDIT_DELAY - now
            if left > 0:
                return left
        session.send(protocol.CREDIT, self._pending, self._pending_size)
        self._pending = self._pending_size = 0
        self._credit_sent = now
        return protocol.HEARTBEAT

    def _acknowledge(self, session: Session) -> float:
        """Send the cursor where it has moved; seconds until that is to be looked at again."""
        if not self._durable or not self._is_open:
            return protocol.HEARTBEAT
        now = time.monotonic()
        left = self._ack_sent + _ACK_DELAY - now
        if left > 0:
            # What is acknowledged until then goes with it.
            return left
        position = self.inbox.cursor(self._progress.looked_at)
        if position <= self._acked:
            return protocol.HEARTBEAT
        session.send(protocol.ACK, position)
        self._acked, self._ack_sent = position, now
        return protocol.HEARTBEAT
