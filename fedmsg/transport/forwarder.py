# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passes messages from those who publish to those who subscribe: relay and gateway run on it.

The messages go through libzmq's own proxy loop, in a thread that holds no Python lock:
frames are neither read nor changed. Only with ``check`` each message is looked at, in
Python: refused messages stay behind, and others may get another body.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import struct
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import zmq

from fedmsg import _settings
from fedmsg.exceptions import AddressInUse, FedmsgError, MessageError, TransportError
from fedmsg.transport import curve, options
from fedmsg.transport.backlog import Subscribers
from fedmsg.transport.options import Socket
from fedmsg.transport.refusals import Refusals

__all__ = ["Forwarder", "Outcome", "Statistics"]

log = logging.getLogger("fedmsg.transport")

#: Inbound that has been silent for so long, in ms, after the subscription was withdrawn, has nothing more in flight.
QUIET = 100
_CONTROL_TIMEOUT = 1000


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
        config: The configuration, for the sockets' options.
        inbound: Addresses to bind for publishers; all of them.
        outbound: Addresses for subscribers; the first that is free is bound.
        limit: How many messages one stuck subscriber may hold.
        check: Looks at the two frames and gives the body that goes on, usually the same one; raises
            MessageError for what is to be left out.

    Attributes:
        inbound: The addresses that publishers connect to.
        outbound: The address that subscribers connect to.
        refusals: What ``check`` left out.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        inbound: list[str],
        outbound: list[str],
        *,
        limit: int,
        check: Callable[[bytes, bytes], bytes] | None = None,
    ) -> None:
        self.inbound = list(inbound)
        self.outbound = ""
        self.refusals = Refusals(log)
        self._config = config
        self._candidates = list(outbound)
        self._limit = limit
        self._check = check
        self._gate = curve.Gate(config)
        self._lock = threading.Lock()
        self._control: Socket | None = None
        self._thread = threading.Thread(target=self._run, name="fedmsg-forwarder", daemon=True)
        self._result: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._deadline = 0.0
        self._counted = [0, 0, 0, 0]

    # ---------------------------------------------------------------- for its owner

    def start(self) -> Forwarder:
        """Bind the addresses and begin; returns when messages are being passed on.

        Raises:
            AddressInUse: An inbound address, or every outbound one, is taken.
            ConfigError: Something is no address.
        """
        self._context = zmq.Context(io_threads=_settings.get(self._config, "io_threads"))
        self._control = self._context.socket(zmq.REQ)
        self._control.setsockopt(zmq.LINGER, 0)
        self._control.setsockopt(zmq.RCVTIMEO, _CONTROL_TIMEOUT)
        # A loop that is busy for longer than that gets the next question all the same.
        self._control.setsockopt(zmq.REQ_RELAXED, 1)
        self._control.setsockopt(zmq.REQ_CORRELATE, 1)
        self._control.bind("inproc://control")
        self._thread.start()
        problem = self._result.get()
        if isinstance(problem, BaseException):
            self._thread.join()
            self._close_control()
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
        frames = self._ask(b"STATISTICS")
        # libzmq counts frames, of which a message has two.
        values = [struct.unpack("=Q", frame)[0] for frame in frames]
        return Statistics(values[0] // 2, values[1], values[6] // 2, values[7], self.refusals.counts.total())

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
        if self._control is None:
            return Outcome(0, 0, still_arriving=False, behind=0)
        limit = float(_settings.get(self._config, "stop_timeout") if timeout is None else timeout)
        self._deadline = time.monotonic() + limit
        passed_on = 0
        if self.running:
            with contextlib.suppress(FedmsgError):
                passed_on = self.statistics().messages_out
            with contextlib.suppress(FedmsgError):
                self._ask(b"TERMINATE")
        try:
            outcome = self._result.get(timeout=limit + 1)
        except queue.Empty:
            raise FedmsgError("the forwarding loop does not answer, what it holds is lost") from None
        self._thread.join()
        self._close_control()
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Outcome)
        return outcome._replace(passed_on=passed_on + outcome.drained)

    def _ask(self, question: bytes) -> list[bytes]:
        with self._lock:
            if self._control is None or not self.running:
                raise TransportError("the forwarder is not running")
            try:
                self._control.send(question)
                return self._control.recv_multipart()
            except zmq.ZMQError as error:
                raise FedmsgError(f"the forwarding loop does not answer: {error.strerror}") from error

    def _close_control(self) -> None:
        with self._lock:
            if self._control is not None:
                self._control.close(0)
                self._control = None
        self._context.term()

    def __enter__(self) -> Forwarder:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        if getattr(self, "_control", None) is not None:
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)

    # ---------------------------------------------------------------- in its thread

    def _run(self) -> None:
        try:
            inbound, outbound = options.forwarder_pair(self._context, self._config, self._limit)
            control = self._context.socket(zmq.REP)
            control.setsockopt(zmq.LINGER, 100)
            control.connect("inproc://control")
            subscribers = Subscribers(self._context, outbound)
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._result.put(error)
            return
        try:
            self._gate.open(self._context, inbound, outbound)
            self._bind(inbound, outbound)
            inbound.send(b"\x01")
        except BaseException as error:  # noqa: BLE001 - the same
            for socket in (inbound, outbound, control):
                socket.close(0)
            self._result.put(error)
            return
        self._result.put(None)
        try:
            self._forward_until_told(inbound, outbound, control)
            self._result.put(self._finish(inbound, outbound, subscribers))
        except BaseException as error:  # noqa: BLE001 - the same
            for socket in (inbound, outbound, control):
                socket.close(0)
            self._result.put(error)

    def _bind(self, inbound: Socket, outbound: Socket) -> None:
        for number, address in enumerate(self.inbound):
            self.inbound[number] = options.bind(inbound, address, "relay_inbound")
        taken = "none is configured"
        for address in self._candidates:
            try:
                self.outbound = options.bind(outbound, address, "endpoints")
            except AddressInUse as error:
                taken = str(error)
            else:
                return
        raise AddressInUse(f"Failed to bind to any outbound endpoints. ({taken})")

    def _forward_until_told(self, inbound: Socket, outbound: Socket, control: Socket) -> None:
        if self._check is None:
            zmq.proxy_steerable(inbound, outbound, None, control)
        else:
            self._forward_checked(inbound, outbound, control)
        control.close()

    def _forward_checked(self, inbound: Socket, outbound: Socket, control: Socket) -> None:
        poller = zmq.Poller()
        poller.register(inbound, zmq.POLLIN)
        poller.register(control, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if control in ready:
                question = control.recv()
                if question == b"TERMINATE":
                    control.send(b"")
                    return
                counted = self._counted
                control.send_multipart([struct.pack("=Q", n) for n in (*counted[:2], 0, 0, 0, 0, *counted[2:])])
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
        counted, size = self._counted, sum(map(len, frames))
        counted[0] += 2
        counted[1] += size
        if self._check is not None:
            try:
                if len(frames) != 2:
                    raise MessageError(f"it has {len(frames)} frames instead of 2", "frames")
                frames[1] = self._check(*frames)
            except MessageError as error:
                self.refusals.add(", ".join(self.inbound), error)
                return True
        counted[2] += 2
        counted[3] += sum(map(len, frames))
        outbound.send_multipart(frames)
        return True

    def _finish(self, inbound: Socket, outbound: Socket, subscribers: Subscribers) -> Outcome:
        """Withdraw the subscription, pass on what is still under way, close."""
        inbound.send(b"\x00")
        # A fifth of the time is kept for subscribers that are behind.
        until = self._deadline - 0.2 * max(0.0, self._deadline - time.monotonic())
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
