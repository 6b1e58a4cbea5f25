# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passes messages from those who publish to those who subscribe: relay and gateway run on it.

The messages go through libzmq's own proxy loop, in a thread that holds no Python lock:
frames are neither read nor changed. Only with ``check`` each message is looked at, in
Python: refused messages stay behind, and others may get another body.

After a restart subscribers come back one by one. A forwarder that remembers how many there
were lets what arrives wait in its queue until they are back, for a second or so at most.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import zmq

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.config import settings
from fedmsg.exceptions import AddressInUse, FedmsgError, MessageError, TransportError
from fedmsg.transport.zmq import curve, sockets
from fedmsg.transport.zmq.attendance import Attendance
from fedmsg.transport.zmq.proxy_control import PER_MESSAGE, LoopEnd, Steering
from fedmsg.transport.zmq.sockets import Socket
from fedmsg.transport.zmq.subscribers import Stuck, Subscribers
from fedmsg.transport.zmq.upstream import Upstream

__all__ = ["Forwarder", "Outcome", "Statistics"]

log = logging.getLogger("fedmsg.transport")

#: Inbound that has been silent for so long, in ms, after the subscription was withdrawn, has nothing more in flight.
QUIET = 100
#: For so many seconds after the start former subscribers are waited for, at most.
RETURN_WITHIN = 1.5
_LOOK_EVERY = 10  # ms


class Statistics(NamedTuple):
    """What a forwarder has done since it started."""

    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    refused: int


class Outcome(NamedTuple):
    """How a forwarder ended.

    Attributes:
        passed_on: How many messages it passed on in its life.
        drained: How many of them after it was told to stop.
        still_arriving: Whether more was coming in when time was up.
        behind: How many subscribers had not taken everything when time was up.
    """

    passed_on: int
    drained: int
    still_arriving: bool
    behind: int

    @property
    def complete(self) -> bool:
        """Whether everything that was handed over arrived."""
        return not self.still_arriving and not self.behind


class Forwarder:
    """A thread between a socket to publish into and a socket to subscribe to.

    Args:
        config: The configuration, for the sockets' sockets.
        inbound: Addresses to bind for publishers; all of them.
        outbound: Addresses for subscribers; the first that is free is bound.
        limit: How many messages one stuck subscriber may hold.
        check: Looks at the two frames and gives the body that goes on, usually the same one; raises
            MessageError for what is to be left out.
        upstream: Endpoints to listen to, by connecting to them.
        outbound_key: Where ``outbound`` is configured, for errors.

    Attributes:
        inbound: The addresses that publishers connect to.
        outbound: The address that subscribers connect to.
        rejections: What ``check`` left out.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        inbound: list[str],
        outbound: list[str],
        *,
        limit: int,
        check: Callable[[bytes, bytes], bytes] | None = None,
        upstream: Upstream | None = None,
        outbound_key: str = "endpoints",
    ) -> None:
        self.inbound = list(inbound)
        self.outbound = ""
        self.rejections = RejectionLog(log)
        self._config = config
        self._candidates = list(outbound)
        self._limit = limit
        self._check = check
        self._upstream = upstream
        self._outbound_key = outbound_key
        # Who connects has nobody to let in there.
        self._gate = curve.Gate(config if upstream is None else {**config, "curve_publishers": None})
        self._steering: Steering | None = None
        self._subscribers: Subscribers | None = None
        self._attendance: Attendance | None = None
        self._complete = False
        self._thread = threading.Thread(target=self._run, name="fedmsg-forwarder", daemon=True)
        self._result: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._deadline = 0.0

    # ---------------------------------------------------------------- for its owner

    def start(self) -> Forwarder:
        """Bind the addresses and begin; returns when messages are being passed on.

        Raises:
            AddressInUse: An inbound address, or every outbound one, is taken.
            ConfigError: Something is no address.
        """
        self._context = zmq.Context(io_threads=settings.get(self._config, "io_threads"))
        self._steering = Steering(self._context)
        self._thread.start()
        problem = self._result.get()
        if isinstance(problem, BaseException):
            self._thread.join()
            self._close()
            raise problem
        return self

    @property
    def running(self) -> bool:
        """Whether messages are being passed on."""
        return self._thread.is_alive()

    def statistics(self) -> Statistics:
        """Ask the thread what it has done.

        Raises:
            TransportError: It is not running.
            FedmsgError: It does not answer.
        """
        if self._steering is None or not self.running:
            raise TransportError("the forwarder is not running")
        counts = self._steering.counts()
        messages = counts[0] // PER_MESSAGE, counts[2] // PER_MESSAGE
        return Statistics(messages[0], counts[1], messages[1], counts[3], self.rejections.counts.total())

    def look(self) -> int:
        """See how the subscribers are, and remember how many; to be called every second or so.

        Returns:
            How many there are.
        """
        if self._subscribers is None:
            return 0
        self._subscribers.look()
        count = self._subscribers.subscribed()
        # While some are still on their way back, the number to remember is the old one.
        if self._attendance is not None and self._complete and self.running:
            self._attendance.note(count)
        return count

    def stuck(self, least: float = 5.0) -> list[Stuck]:
        """Give the subscribers that have taken nothing of what waits for them, as far as `look` has seen.

        Args:
            least: For how many seconds at least.
        """
        return [] if self._subscribers is None else self._subscribers.stuck(least)

    def stop(self, timeout: float | None = None) -> Outcome:
        """Take no more, pass on what is there, and end.

        Args:
            timeout: Seconds for all of it; ``stop_timeout`` when not given.

        Returns:
            What became of the messages.

        Raises:
            FedmsgError: The thread does not end.
            Exception: The thread had ended with it before.
        """
        if self._steering is None:
            return Outcome(0, 0, still_arriving=False, behind=0)
        limit = float(settings.get(self._config, "stop_timeout") if timeout is None else timeout)
        self._deadline = time.monotonic() + limit
        passed_on = 0
        if self.running:
            self.look()
            with contextlib.suppress(FedmsgError):
                passed_on = self.statistics().messages_out
            self._steering.stop()
        try:
            outcome = self._result.get(timeout=limit + 1)
        except queue.Empty:
            raise FedmsgError("the forwarding loop does not answer, what it holds is lost") from None
        self._thread.join()
        self._close()
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Outcome)
        return outcome._replace(passed_on=passed_on + outcome.drained)

    def _close(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        if self._steering is not None:
            self._steering.close()
            self._steering = None
        self._context.term()

    def __enter__(self) -> Forwarder:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        if getattr(self, "_steering", None) is not None:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)

    # ---------------------------------------------------------------- in its thread

    def _run(self) -> None:
        try:
            inbound, outbound = sockets.forwarder_pair(self._context, self._config, self._limit)
            control = LoopEnd(self._context)
            self._subscribers = subscribers = Subscribers(self._context, outbound)
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._result.put(error)
            return
        try:
            self._gate.open(self._context, inbound, outbound)
            subscribers.mechanism = int(outbound.getsockopt(zmq.MECHANISM))
            self._bind(inbound, outbound)
            inbound.send(b"\x01")
            if self._upstream is not None:
                assert self._steering is not None
                self._upstream.open(self._context, inbound, self._steering.interrupt)
        except BaseException as error:  # noqa: BLE001 - the same
            for socket in (inbound, outbound, control.socket):
                socket.close(0)
            self._result.put(error)
            return
        self._result.put(None)
        try:
            self._forward_until_told(inbound, outbound, control)
            self._result.put(self._finish(inbound, outbound, subscribers))
        except BaseException as error:  # noqa: BLE001 - the same
            for socket in (inbound, outbound, control.socket):
                socket.close(0)
            self._result.put(error)

    def _bind(self, inbound: Socket, outbound: Socket) -> None:
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

    def _forward_until_told(self, inbound: Socket, outbound: Socket, control: LoopEnd) -> None:
        steering, self._control = self._steering, control
        assert steering is not None
        self._attendance = Attendance(self._config, self.outbound)
        self._expected, self._patience = self._attendance.expected(), time.monotonic() + RETURN_WITHIN

        def told_to_return() -> bool:
            return bool(control.socket.poll(_LOOK_EVERY)) and control.told_to_return()

        while not steering.stopping:
            if self._are_back(inbound, outbound, told_to_return):
                if self._check is None:
                    zmq.proxy_steerable(inbound, outbound, None, control.socket)
                else:
                    self._forward_checked(inbound, outbound, control)
            if self._upstream is not None:
                self._upstream.attend(inbound)
        control.socket.close()

    def _are_back(self, inbound: Socket, outbound: Socket, interrupted: Callable[[], bool]) -> bool:
        """Wait for former subscribers, looking every few milliseconds whether that has to be interrupted.

        Returns:
            Whether there is nobody to wait for any more.
        """
        assert self._subscribers is not None
        while not self._complete:
            if self._subscribers.subscribed() >= self._expected or time.monotonic() >= self._patience:
                self._complete = True
                if self._expected:
                    # ZeroMQ's thread has read the last subscription, and may be just about to hand it over.
                    self._pause()
            elif interrupted():
                return False
            # A look at a socket is what makes it take in who has connected, and subscribe or be subscribed to.
            inbound.getsockopt(zmq.EVENTS)
            outbound.getsockopt(zmq.EVENTS)
        return True

    @staticmethod
    def _pause() -> float:
        """Do nothing for a few milliseconds; what time it is then."""
        time.sleep(_LOOK_EVERY / 1000)
        return time.monotonic()

    def _forward_checked(self, inbound: Socket, outbound: Socket, control: LoopEnd) -> None:
        poller = zmq.Poller()
        poller.register(inbound, zmq.POLLIN)
        poller.register(control.socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if control.socket in ready and control.told_to_return():
                return
            if inbound in ready:
                for _ in range(1000):
                    if not self._pass_one(inbound, outbound):
                        break

    def _pass_one(self, inbound: Socket, outbound: Socket) -> bool:
        """Pass one message on, or refuse it; False when there is none."""
        try:
            frames = inbound.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        counted, size = self._control.counts, sum(map(len, frames))
        counted[0] += PER_MESSAGE
        counted[1] += size
        if self._check is not None:
            try:
                if len(frames) != 2:
                    raise MessageError(f"it has {len(frames)} frames instead of 2", "frames")
                frames[1] = self._check(*frames)
            except MessageError as error:
                self.rejections.add(", ".join(self.inbound) or "the endpoints", error)
                return True
        counted[2] += PER_MESSAGE
        counted[3] += sum(map(len, frames))
        outbound.send_multipart(frames)
        return True

    def _finish(self, inbound: Socket, outbound: Socket, subscribers: Subscribers) -> Outcome:
        """Withdraw the subscription, pass on what is still under way, close."""
        inbound.send(b"\x00")
        left = max(0.0, self._deadline - time.monotonic())
        if not self._complete and inbound.poll(QUIET):
            # What is held is meant for those who are not back yet, too.
            enough = time.monotonic() + left / 2
            self._are_back(inbound, outbound, lambda: self._pause() >= enough)
        # A fifth of the time is kept for subscribers that are behind.
        until = self._deadline - 0.2 * left
        drained, quiet = 0, False
        while not quiet and time.monotonic() < until:
            if inbound.poll(QUIET):
                while self._pass_one(inbound, outbound) and time.monotonic() < until:
                    drained += 1
            else:
                quiet = True
        inbound.close(0)
        behind = subscribers.flush(outbound, max(0.0, self._deadline - time.monotonic()))
        return Outcome(0, drained, still_arriving=not quiet, behind=behind)
