# SPDX-License-Identifier: LGPL-2.1-or-later
"""A port that clients of the stream connect to: its socket, and who may connect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import zmq

from fedmsg._util.service import Closeable
from fedmsg.config import settings
from fedmsg.exceptions import FedmsgError
from fedmsg.stream import protocol
from fedmsg.transport.zmq import contexts, curve, sockets

__all__ = ["Full", "Gone", "Incoming", "Port"]

# Plain numbers: pyzmq looks an enum member up again for each call.
_POLLIN, _SNDMORE, _NOBLOCK = int(zmq.POLLIN), int(zmq.SNDMORE), int(zmq.NOBLOCK)


class Gone(Exception):
    """The client has gone."""


class Full(Exception):
    """The client does not read, and too many messages wait for it."""


class Incoming(NamedTuple):
    """A message of a client: who sent it, its frames, and the first one as ZeroMQ has it."""

    identity: bytes
    frames: list[bytes]
    first: zmq.Frame

    @property
    def peer(self) -> str:
        """From which IP address it came; empty where that is not known."""
        try:
            return str(self.first.get("Peer-Address"))
        except zmq.ZMQError:
            return ""


class Port(Closeable):
    """The socket of a port, with a ZeroMQ context of its own; for the thread that opens it.

    Args:
        config: The configuration, for the options of the socket.
        addresses: The addresses to bind, all of them.
        key: Where they are configured, for errors.
        admit: The setting with the folder of the keys that may connect, ``curve_subscribers`` or
            ``curve_publishers``; where it is not set, the port is open to all.
        make: Makes the socket.

    Attributes:
        addresses: What was bound.

    Raises:
        AddressInUse: An address is taken.
        ConfigError: Something is no address, or can't be bound.
        RefusedAtStart: The keys for CURVE can't be read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        addresses: Sequence[str],
        *,
        key: str,
        admit: str,
        make: Callable[[sockets.Context, Mapping[str, Any]], sockets.Socket] = sockets.stream_port,
    ) -> None:
        self._closed = True  # until there is something to close
        other = {"curve_subscribers": "curve_publishers", "curve_publishers": "curve_subscribers"}[admit]
        guarded = curve.guard_settings({**config, other: None})
        self._context = zmq.Context(io_threads=settings.get(config, "io_threads"))
        self._context.set(zmq.MAX_SOCKETS, 16)
        self._guard = curve.Guard(guarded) if guarded is not None else None
        self.socket = make(self._context, config)
        self._closed = False
        try:
            if self._guard is not None:
                self._guard.open(self._context, self.socket, self.socket)
            self.addresses = [sockets.bind(self.socket, address, key) for address in addresses]
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that reports news once: `receive` until there is nothing before waiting for it."""
        return int(self.socket.FD)

    def receive(self) -> Incoming | None:
        """Return one message; None when there is none. Frames that are far too many are dropped."""
        try:
            first = frame = self.socket.recv(_NOBLOCK, copy=False)
        except zmq.Again:
            return None
        identity = frame.bytes
        frames: list[bytes] = []
        while frame.more:
            try:
                frame = self.socket.recv(_NOBLOCK, copy=False)
            except zmq.Again:
                # Its connection has ended in the middle of it.
                return Incoming(identity, [], first)
            if len(frames) <= protocol.FRAMES_MAX:
                frames.append(frame.bytes)
        return Incoming(identity, frames, first)

    @property
    def has_more(self) -> bool:
        """Whether there is a message now; to find out by `receive` that there is none costs more."""
        return bool(int(self.socket.getsockopt(zmq.EVENTS)) & _POLLIN)

    def send(self, identity: bytes, frames: Sequence[bytes], *, track: bool = False) -> zmq.MessageTracker | None:
        """Send a message to a client, without waiting.

        Args:
            identity: The client.
            frames: The message.
            track: Whether to return what shows when the last frame has left this process.

        Raises:
            Gone: The client has gone.
            Full: Too many messages wait for it.
        """
        for attempt in (1, 2):
            try:
                self.socket.send(identity, _SNDMORE | _NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno == zmq.EHOSTUNREACH:
                    raise Gone from None
                if error.errno != zmq.EAGAIN:
                    raise
                if attempt == 2:
                    raise Full from None
                # ZeroMQ may not have noticed yet that there is room again; this makes it look.
                self.socket.getsockopt(zmq.EVENTS)
            else:
                break
        # After the first frame ZeroMQ takes the rest, whatever happens.
        for frame in frames[:-1]:
            self.socket.send(frame, _SNDMORE)
        if not track:
            self.socket.send(frames[-1])
            return None
        last = zmq.Frame(frames[-1], track=True, copy_threshold=0)
        self.socket.send(last, copy=False)
        tracker = last.tracker
        return tracker if isinstance(tracker, zmq.MessageTracker) else None

    def check(self) -> None:
        """Check that clients can connect.

        Raises:
            FedmsgError: The guard has ended, and so no client can.
        """
        if self._guard is not None and not self._guard.alive:
            raise FedmsgError(f"stopped, because the CURVE guard has ended: {self._guard.failure!r}")

    def _close(self) -> None:
        self.socket.close(0)
        if self._guard is not None:
            self._guard.close()
        contexts.terminate(self._context)
