# SPDX-License-Identifier: LGPL-2.1-or-later
"""The loop of a forwarder that keeps messages before it passes them on: kept is what any subscriber has seen.

How they are kept is not known here: a `Keeper` does it, in its own time. While it has no room the loop
reads nothing, so that messages wait in the queues of ZeroMQ and then at their publishers.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import zmq

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.transport.zmq.proxy_control import MESSAGE_INCREMENT, LoopEnd
from fedmsg.transport.zmq.sockets import Socket

__all__ = ["Drained", "Keeper", "drain", "forward"]

# Plain numbers: pyzmq looks an enum member up again for each call.
_POLLIN, _SNDMORE, _NOBLOCK = int(zmq.POLLIN), int(zmq.SNDMORE), int(zmq.NOBLOCK)


class Keeper(Protocol):
    """Keeps messages; belongs to the thread of the loop. It never waits."""

    def open(self, rejections: RejectionLog) -> None:
        """Open what it needs; the loop is about to begin.

        Args:
            rejections: Where rejected messages are counted.
        """

    def polled(self) -> list[Socket | int]:
        """Return the sockets and descriptors on which news for `advance` arrive."""

    @property
    def timeout_ms(self) -> int:
        """After so many milliseconds `advance` is to be called without any news."""

    @property
    def room(self) -> int:
        """How many messages from inbound it takes now."""

    def take(self, messages: Sequence[list[bytes]]) -> None:
        """Take messages that were read from inbound."""

    def advance(self, ready: Collection[Socket | int]) -> Sequence[tuple[bytes, bytes]]:
        """Do what there is to do; return what is kept now and has to be passed on.

        Args:
            ready: On which sockets and descriptors news have arrived.
        """

    def passed_on(self) -> None:
        """Note that what the last `advance` returned was passed on."""

    def finish(self) -> None:
        """Take no more from elsewhere than inbound; the loop is about to end."""

    @property
    def held(self) -> int:
        """How many messages it has that are not kept yet."""

    def close(self, timeout: float) -> None:
        """Close what was opened, in so many seconds."""


class Drained(NamedTuple):
    """How the end of the loop went.

    Attributes:
        passed_on: How many messages were passed on.
        quiet: Whether nothing more was coming in.
        held: How many messages from inbound could not be kept, and so are lost.
    """

    passed_on: int
    quiet: bool
    held: int


def forward(keeper: Keeper, inbound: Socket, outbound: Socket, end: LoopEnd) -> None:
    """Pass messages on until the control of the loop demands its end."""
    while True:
        room = keeper.room
        ready = _wait(keeper, inbound if room else None, keeper.timeout_ms, end)
        if end.socket in ready and end.must_return():
            return
        if room and inbound in ready:
            keeper.take(_read(inbound, room, end))
        _pass_on(keeper, ready, outbound, end)


def drain(keeper: Keeper, inbound: Socket, outbound: Socket, end: LoopEnd, *, until: float, quiet_ms: int) -> Drained:
    """Keep and pass on what is still under way, after the subscription was withdrawn.

    Args:
        keeper: What keeps the messages.
        inbound: Where they come from.
        outbound: Where they go to.
        end: What counts them.
        until: When this has to end, by the monotonic clock.
        quiet_ms: Inbound that is silent for so long has nothing more under way.
    """
    keeper.finish()
    before = end.counts[2]
    quiet = False
    silent_since = time.monotonic()
    while not quiet and time.monotonic() < until:
        room = keeper.room
        ready = _wait(keeper, inbound if room else None, min(quiet_ms, keeper.timeout_ms))
        if room and inbound in ready:
            keeper.take(_read(inbound, room, end))
            silent_since = time.monotonic()
        _pass_on(keeper, ready, outbound, end)
        # With no room nothing is known of inbound.
        is_silent = bool(room) and time.monotonic() - silent_since >= quiet_ms / 1000
        quiet = is_silent and not keeper.held
    return Drained((end.counts[2] - before) // MESSAGE_INCREMENT, quiet, keeper.held)


def _wait(keeper: Keeper, inbound: Socket | None, timeout_ms: int, end: LoopEnd | None = None) -> set[Socket | int]:
    wanted = keeper.polled()
    wanted += [one for one in (inbound, None if end is None else end.socket) if one is not None]
    return {one for one, _ in zmq.zmq_poll([(one, _POLLIN) for one in wanted], timeout_ms)}


def _read(inbound: Socket, limit: int, end: LoopEnd) -> list[list[bytes]]:
    messages: list[list[bytes]] = []
    try:
        while len(messages) < limit:
            messages.append(inbound.recv_multipart(_NOBLOCK))
    except zmq.Again:
        pass
    end.counts[0] += MESSAGE_INCREMENT * len(messages)
    end.counts[1] += sum(len(frame) for frames in messages for frame in frames)
    return messages


def _pass_on(keeper: Keeper, ready: Collection[Socket | int], outbound: Socket, end: LoopEnd) -> None:
    messages = keeper.advance(ready)
    for topic, body in messages:
        outbound.send(topic, _SNDMORE)
        outbound.send(body)
        end.counts[3] += len(topic) + len(body)
    end.counts[2] += MESSAGE_INCREMENT * len(messages)
    keeper.passed_on()
