# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passes messages from publishers to subscribers: relay and gateway run on it.

The messages go through libzmq's own proxy loop, in a thread that holds no Python lock:
frames are neither read nor changed. Only with ``check`` each message is looked at, in
Python: rejected messages are dropped, and others may get another body.

After a restart subscribers connect again one by one. A forwarder that knows how many there were at
its last stop holds what arrives in its queue until they are back, for a second or so at most.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import zmq

from fedmsg._util.ratelimit import RejectionLog
from fedmsg._util.service import ServiceThread
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, FedmsgError, MessageError, TransportError
from fedmsg.transport.zmq import contexts, curve, keeping, sockets, subscribers
from fedmsg.transport.zmq.keeping import Keeper
from fedmsg.transport.zmq.proxy_control import MESSAGE_INCREMENT, LoopEnd, ProxyControl
from fedmsg.transport.zmq.sockets import Socket
from fedmsg.transport.zmq.subscribers import Stuck, Subscribers
from fedmsg.transport.zmq.upstream import Upstream

__all__ = ["Check", "Forwarder", "Outcome", "Statistics"]

log = logging.getLogger("fedmsg.transport")

#: Takes the two frames and returns the body that goes on, or raises MessageError.
Check = Callable[[bytes, bytes], bytes]

#: Inbound that has been silent for so long after the subscription was withdrawn has nothing more in flight.
QUIET_MS = 100
#: For so many seconds after the start former subscribers are waited for, at most.
RETURN_TIMEOUT = 1.5
# A subscription follows its handshake at once; for so many seconds after the last one it may be on its way.
_SUBSCRIPTION_DELAY = 0.1
_CHECK_INTERVAL_MS = 10
_BATCH = 1000


class Statistics(NamedTuple):
    """What a forwarder has done since it started."""

    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    rejected: int


class Outcome(NamedTuple):
    """How a forwarder ended.

    Attributes:
        passed_on: How many messages it passed on in its life.
        drained: How many of them after it was stopped.
        still_arriving: Whether more was coming in when time was up.
        behind: How many subscribers had not taken everything when time was up.
        unkept: How many messages could not be kept, and so were not passed on, when time was up.
    """

    passed_on: int
    drained: int
    still_arriving: bool
    behind: int
    unkept: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything that was sent arrived."""
        return not (self.still_arriving or self.behind or self.unkept)


class Forwarder:
    """A thread between a socket to publish into and a socket to subscribe to.

    Args:
        config: The configuration, for the options of the sockets.
        inbound: Addresses to bind for publishers; all of them.
        outbound: Addresses for subscribers; the first that is free is bound.
        limit: How many messages one stuck subscriber may hold.
        check: Looks at the two frames and returns the body that goes on, usually the same one; raises
            MessageError for what is to be rejected.
        upstream: Endpoints to listen to, by connecting to them.
        keeper: Keeps each message before it is passed on, and looks at it in place of ``check``.
        outbound_key: Where ``outbound`` is configured, for errors.

    Attributes:
        inbound: The addresses that publishers connect to.
        outbound: The address that subscribers connect to.
        rejections: What ``check`` rejected.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        inbound: list[str],
        outbound: list[str],
        *,
        limit: int,
        check: Check | None = None,
        upstream: Upstream | None = None,
        keeper: Keeper | None = None,
        outbound_key: str = "endpoints",
    ) -> None:
        self.inbound = list(inbound)
        self.outbound = ""
        self.rejections = RejectionLog(log)
        self.config = config
        self.limit = limit
        self.check = check
        self.upstream = upstream
        self.keeper = keeper
        self._candidates = list(outbound)
        self._outbound_key = outbound_key
        # Only a bound inbound side can be guarded.
        self._guarded = curve.guard_settings(config if upstream is None else {**config, "curve_publishers": None})
        self.guard: curve.Guard | None = None
        self._loop: _Loop | None = None

    def start(self) -> Forwarder:
        """Bind the addresses and start; returns when messages are being passed on.

        Raises:
            AddressInUse: An inbound address, or every outbound one, is taken.
            ConfigError: A configured value is not an address.
        """
        self._context = zmq.Context(io_threads=settings.get(self.config, "io_threads"))
        self.guard = curve.Guard(self._guarded) if self._guarded else None
        self._loop = _Loop(self, self._context)
        try:
            self._loop.start()
        except BaseException:
            self._close()
            raise
        return self

    @property
    def running(self) -> bool:
        """Whether messages are being passed on."""
        alive = self._loop is not None and self._loop.alive
        return alive and (self.guard is None or self.guard.alive)

    def statistics(self) -> Statistics:
        """Return what it has done.

        Raises:
            TransportError: It is not running.
            FedmsgError: It does not answer.
        """
        if self._loop is None or not self.running:
            raise TransportError("the forwarder is not running")
        counts = self._loop.control.counts()
        messages = counts[0] // MESSAGE_INCREMENT, counts[2] // MESSAGE_INCREMENT
        return Statistics(messages[0], counts[1], messages[1], counts[3], self.rejections.counts.total())

    def look(self) -> int:
        """Find out how the subscribers are, every second or so; return how many there are."""
        if self._loop is None:
            return 0
        self._loop.subscribers.look()
        return self._loop.subscribers.count()

    def stuck(self, least: float = 5.0) -> list[Stuck]:
        """Return the subscribers that have taken nothing of what waits for them, as far as `look` has seen."""
        return [] if self._loop is None else self._loop.subscribers.stuck(least)

    def stop(self, timeout: float | None = None) -> Outcome:
        """Take no more, pass on what is there, and end; return what became of the messages.

        The ``timeout`` is for all of it, in seconds; ``stop_timeout`` by default.

        Raises:
            FedmsgError: The thread does not end, or the guard has ended.
            Exception: The thread had ended with it before.
        """
        loop = self._loop
        if loop is None:
            return Outcome(0, 0, still_arriving=False, behind=0)
        limit = float(settings.get(self.config, "stop_timeout") if timeout is None else timeout)
        loop.deadline = time.monotonic() + limit
        passed_on = 0
        if loop.alive:
            loop.remember_subscribers()
            with contextlib.suppress(FedmsgError):
                passed_on = loop.control.counts()[2] // MESSAGE_INCREMENT
            loop.control.stop()
        if not loop.join(limit + 1):
            raise FedmsgError("the forwarding loop does not answer, what it holds is lost")
        guard_failure = self.guard.failure if self.guard is not None else None
        self._close()
        if loop.failure is not None:
            raise loop.failure
        if guard_failure is not None:
            raise FedmsgError(f"stopped, because the CURVE guard has ended: {guard_failure!r}") from guard_failure
        assert loop.outcome is not None
        return loop.outcome._replace(passed_on=passed_on + loop.outcome.drained)

    def _close(self) -> None:
        loop, self._loop = self._loop, None
        if self.upstream is not None:
            self.upstream.close()
        if self.guard is not None:
            self.guard.close()
        if loop is not None:
            loop.control.close()
            loop.close()
        contexts.terminate(self._context)
        if loop is not None:
            loop.subscribers.close()

    def __enter__(self) -> Forwarder:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __del__(self) -> None:
        if getattr(self, "_loop", None) is not None:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)

    def bind(self, inbound: Socket, outbound: Socket) -> None:
        """Bind both sides; called in the thread.

        Raises:
            AddressInUse: An inbound address, or every outbound one, is taken.
            ConfigError: Something is no address.
        """
        for number, address in enumerate(self.inbound):
            self.inbound[number] = sockets.bind(inbound, address, "relay_inbound")
        taken = "none is configured"
        for address in self._candidates:
            try:
                self.outbound = sockets.bind(outbound, address, self._outbound_key)
            except AddressInUse as error:
                taken = str(error)
            else:
                return
        raise AddressInUse(f"Failed to bind to any outbound endpoints. ({taken})")


class _Loop(ServiceThread):
    """The thread of a forwarder, which owns both sockets.

    Attributes:
        control: The owner's end of the control.
        deadline: When it has to have ended, once it is stopping.
        complete: Whether no former subscriber is waited for any more.
    """

    def __init__(self, forwarder: Forwarder, context: zmq.Context[Socket]) -> None:
        super().__init__("fedmsg-forwarder")
        self.control = ProxyControl(context)
        self.subscribers = Subscribers(context)
        self.deadline = 0.0
        self.outcome: Outcome | None = None
        self.complete = False
        self._forwarder = forwarder
        self._context = context
        self._wait_until = 0.0
        self._expected = 0

    def run(self) -> None:
        """Forward messages until the control stops it."""
        forwarder, context = self._forwarder, self._context
        inbound, outbound = sockets.forwarder_pair(context, forwarder.config, forwarder.limit)
        self._control_end = end = LoopEnd(context)
        try:
            self._open(inbound, outbound)
            self.ready()
            self._forward_until_stopped(inbound, outbound, end)
            end.socket.close()
            self.outcome = self._drain(inbound, outbound)
        finally:
            if forwarder.keeper is not None:
                forwarder.keeper.close(max(0.0, self.deadline - time.monotonic()))
            for socket in (inbound, outbound, end.socket):
                socket.close(0)

    def _open(self, inbound: Socket, outbound: Socket) -> None:
        forwarder = self._forwarder
        self.subscribers.watch(outbound)
        if forwarder.guard is not None:
            forwarder.guard.open(self._context, inbound, outbound)
        forwarder.bind(inbound, outbound)
        if forwarder.keeper is not None:
            forwarder.keeper.open(forwarder.rejections)
        inbound.send(b"\x01")
        if forwarder.upstream is not None:
            forwarder.upstream.open(self._context, inbound, self.control.interrupt)
        self._expected = subscribers.remembered(forwarder.config, forwarder.outbound)
        self._wait_until = time.monotonic() + RETURN_TIMEOUT

    def remember_subscribers(self) -> None:
        """Write down how many subscribers there are, for the next start."""
        # While some are still on their way back, the number to remember is the old one.
        if self.complete:
            subscribers.remember(self._forwarder.config, self._forwarder.outbound, self.subscribers.count())

    def _forward_until_stopped(self, inbound: Socket, outbound: Socket, end: LoopEnd) -> None:
        def interrupted() -> bool:
            return bool(end.socket.poll(_CHECK_INTERVAL_MS)) and end.must_return()

        while not self.control.stopping:
            if self._await_subscribers(inbound, outbound, interrupted):
                if self._forwarder.keeper is not None:
                    keeping.forward(self._forwarder.keeper, inbound, outbound, end)
                elif self._forwarder.check is None:
                    zmq.proxy_steerable(inbound, outbound, None, end.socket)
                else:
                    self._forward_checked(inbound, outbound, end)
            if self._forwarder.upstream is not None:
                self._forwarder.upstream.attend(inbound)

    def _await_subscribers(self, inbound: Socket, outbound: Socket, interrupted: Callable[[], bool]) -> bool:
        """Wait for former subscribers; False when that was interrupted before they were back."""
        while not self.complete:
            now = time.monotonic()
            back = (
                self.subscribers.handshakes >= self._expected
                and now >= self.subscribers.last_handshake + _SUBSCRIPTION_DELAY
            )
            self.complete = back or not self._expected or now >= self._wait_until
            # To read an option makes a socket take in new connections and subscriptions.
            inbound.getsockopt(zmq.EVENTS)
            outbound.getsockopt(zmq.EVENTS)
            if not self.complete and interrupted():
                return False
        return True

    def _forward_checked(self, inbound: Socket, outbound: Socket, end: LoopEnd) -> None:
        poller = zmq.Poller()
        poller.register(inbound, zmq.POLLIN)
        poller.register(end.socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if end.socket in ready and end.must_return():
                return
            if inbound in ready:
                for _ in range(_BATCH):
                    if not self._pass_one(inbound, outbound):
                        break

    def _pass_one(self, inbound: Socket, outbound: Socket) -> bool:
        """Pass one message on, or reject it; False when there is none."""
        try:
            frames = inbound.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        counted, forwarder = self._control_end.counts, self._forwarder
        counted[0] += MESSAGE_INCREMENT
        counted[1] += sum(map(len, frames))
        if forwarder.check is not None:
            try:
                if len(frames) != 2:
                    raise MessageError(f"it has {len(frames)} frames instead of 2", "frames")
                frames[1] = forwarder.check(*frames)
            except MessageError as error:
                forwarder.rejections.add(", ".join(forwarder.inbound) or "the endpoints", error)
                return True
        counted[2] += MESSAGE_INCREMENT
        counted[3] += sum(map(len, frames))
        outbound.send_multipart(frames)
        return True

    def _drain(self, inbound: Socket, outbound: Socket) -> Outcome:
        """Withdraw the subscription, pass on what is still under way, close."""
        inbound.send(b"\x00")
        left = max(0.0, self.deadline - time.monotonic())
        if not self.complete and inbound.poll(QUIET_MS):
            # What is held is meant for subscribers that are not back yet, too.
            self._wait_until = min(self._wait_until, time.monotonic() + left / 2)
            self._await_subscribers(inbound, outbound, _pause)
        # A fifth of the time is left for subscribers that are behind.
        until = self.deadline - 0.2 * left
        drained, quiet, unkept = 0, False, 0
        if self._forwarder.keeper is not None:
            drained, quiet, unkept = keeping.drain(
                self._forwarder.keeper, inbound, outbound, self._control_end, until=until, quiet_ms=QUIET_MS
            )
        while self._forwarder.keeper is None and not quiet and time.monotonic() < until:
            if inbound.poll(QUIET_MS):
                while self._pass_one(inbound, outbound) and time.monotonic() < until:
                    drained += 1
            else:
                quiet = True
        inbound.close(0)
        behind = self.subscribers.flush(outbound, max(0.0, self.deadline - time.monotonic()))
        return Outcome(0, drained, still_arriving=not quiet and not unkept, behind=behind, unkept=unkept)


def _pause() -> bool:
    """Wait a few milliseconds; it interrupts nothing."""
    time.sleep(_CHECK_INTERVAL_MS / 1000)
    return False
