# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.transport.zmq.monitor: the events of a socket."""

from __future__ import annotations

import os
import selectors
import socket as plain
import time
from collections.abc import Iterator

import pytest
import zmq

from fedmsg.testing import wait_until
from fedmsg.transport.zmq.monitor import (
    ACCEPTED,
    CONNECTED,
    DISCONNECTED,
    HANDSHAKE_FAILED,
    HANDSHAKE_SUCCEEDED,
    STOPPED,
    Event,
    Monitor,
)
from fedmsg.transport.zmq.sockets import Context, Socket


@pytest.fixture
def context() -> Iterator[Context]:
    with zmq.Context() as context:
        yield context


@pytest.fixture
def bound(context: Context) -> Iterator[Socket]:
    with context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        yield socket


def _address(socket: Socket) -> str:
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _until(monitor: Monitor, kind: int) -> list[Event]:
    """Read until an event of a kind has come."""
    found: list[Event] = []
    deadline = time.monotonic() + 10
    while not any(event.kind & kind for event in found):
        assert monitor.wait(max(0.0, deadline - time.monotonic())), found
        found += monitor.read()
    return found


def test_monitor_reports_connections_with_descriptor_and_address(context: Context, bound: Socket) -> None:
    with context.socket(zmq.SUB) as socket, Monitor(context, socket, CONNECTED | HANDSHAKE_SUCCEEDED) as monitor:
        assert monitor.read() == []
        socket.connect(_address(bound))
        events = _until(monitor, HANDSHAKE_SUCCEEDED)
        assert [event.kind for event in events] == [CONNECTED, HANDSHAKE_SUCCEEDED]
        assert {event.address for event in events} == {_address(bound)}
        with plain.socket(fileno=os.dup(events[0].value)) as connection:
            assert connection.getpeername()[1] == int(_address(bound).rpartition(":")[2])


def test_monitor_reports_a_handshake_that_fails(context: Context) -> None:
    with (
        plain.create_server(("127.0.0.1", 0)) as server,
        context.socket(zmq.SUB) as socket,
        Monitor(context, socket, HANDSHAKE_FAILED | DISCONNECTED) as monitor,
    ):
        socket.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"\xff" * 100)
            assert _until(monitor, HANDSHAKE_FAILED | DISCONNECTED)


def test_monitor_reports_the_end_of_its_socket_last(context: Context) -> None:
    socket = context.socket(zmq.PUB)
    with Monitor(context, socket, ACCEPTED) as monitor:
        socket.bind("tcp://127.0.0.1:*")
        with context.socket(zmq.SUB) as subscriber:
            subscriber.connect(_address(socket))
            assert not monitor.stopped
            _until(monitor, ACCEPTED)
            socket.close(0)
            assert _until(monitor, STOPPED)[-1].kind == STOPPED
        assert monitor.stopped


def test_monitor_reads_no_more_than_its_limit(context: Context, bound: Socket) -> None:
    with context.socket(zmq.SUB) as socket, Monitor(context, socket, CONNECTED | HANDSHAKE_SUCCEEDED) as monitor:
        socket.connect(_address(bound))
        kinds: list[int] = []
        while len(kinds) < 2:
            assert monitor.wait(10)
            found = monitor.read(1)
            assert len(found) <= 1
            kinds += [event.kind for event in found]
        assert kinds == [CONNECTED, HANDSHAKE_SUCCEEDED]


def test_monitor_wakes_a_selector(context: Context, bound: Socket) -> None:
    with (
        context.socket(zmq.SUB) as socket,
        Monitor(context, socket, CONNECTED) as monitor,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(monitor, selectors.EVENT_READ)
        socket.connect(_address(bound))
        assert selector.select(10)
        while not monitor.read():
            assert selector.select(10)


def test_monitor_goes_on_after_half_an_event_was_read(context: Context, bound: Socket) -> None:
    with context.socket(zmq.SUB) as socket, Monitor(context, socket, CONNECTED | HANDSHAKE_SUCCEEDED) as monitor:
        socket.connect(_address(bound))
        monitor.wait(10)
        monitor._reader.recv()  # as where a signal handler raises between two frames
        assert [event.kind for event in _until(monitor, HANDSHAKE_SUCCEEDED)] == [HANDSHAKE_SUCCEEDED]


def test_monitor_leaves_a_socket_that_it_is_closed_before_usable(context: Context, bound: Socket) -> None:
    with context.socket(zmq.SUB) as socket:
        monitor = Monitor(context, socket, CONNECTED | DISCONNECTED)
        monitor.close()
        monitor.close()
        assert monitor.read() == []
        socket.subscribe(b"")
        socket.connect(_address(bound))
        deadline = time.monotonic() + 10
        while not socket.poll(50):
            assert time.monotonic() < deadline
            bound.send(b"here")


def test_monitors_close_their_descriptors(context: Context) -> None:
    def open_and_close() -> None:
        with context.socket(zmq.SUB) as socket, Monitor(context, socket, CONNECTED):
            pass

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    open_and_close()
    before = count()
    for _ in range(50):
        open_and_close()
    wait_until(lambda: count() <= before)  # ZeroMQ's own thread closes them
