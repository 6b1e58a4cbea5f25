# SPDX-License-Identifier: LGPL-2.1-or-later
"""What applications rely on without thinking of it: nobody waits at init, sockets are shared, old losses are none."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest
import zmq

import fedmsg
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import NotListening
from fedmsg.testing import Bus, Process, free_address, wait_until

FOR_EVER = 10_000


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"name": "me.here", "endpoints": {"me.here": [free_address()]}, "post_init_sleep": 0}


def is_taken(address: str) -> bool:
    """Say whether somebody has bound an address on every interface."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        try:
            socket.bind(address.replace("127.0.0.1", "*"))
        except zmq.ZMQError as error:
            return error.errno == zmq.EADDRINUSE
    return False


@pytest.mark.parametrize("more", [{"post_init_sleep": FOR_EVER}, {"active": True, "name": None, "timeout": FOR_EVER}])
def test_opening_and_closing_wait_for_nobody(settings: dict[str, Any], more: dict[str, Any]) -> None:
    # Nobody listens; a wait here would be ended by the time limit for tests.
    with FedMsgContext(**{**settings, "relay_inbound": free_address(), **more}) as context:
        assert context.publisher is not None


def test_contexts_share_the_socket_until_the_last_is_closed(settings: dict[str, Any]) -> None:
    address = settings["endpoints"]["me.here"][0]
    first, second = FedMsgContext(**settings), FedMsgContext(**settings)
    assert first.publisher is second.publisher
    first.destroy()
    assert second.publisher is not None
    second.publish("update", modname="test")
    assert is_taken(address)
    second.destroy()
    assert not is_taken(address)


def test_contexts_count_their_own_messages(settings: dict[str, Any]) -> None:
    with FedMsgContext(**settings) as first, FedMsgContext(**settings) as second:
        first.publish("update", modname="test")
        first.publish("update", modname="test")
        second.publish("update", modname="test")
        assert (first._i, second._i) == (2, 1)


def is_sent(context: FedMsgContext) -> bool:
    """Try to publish, and say whether a relay listened."""
    try:
        context.publish("update", modname="test")
    except NotListening:
        return False
    return True


@pytest.mark.parametrize(("age", "lost"), [(0.0, 1), (0.5, 0)])
def test_only_what_was_handed_over_lately_counts_as_lost(
    age: float, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    # A time-out of 0.2 s means that what is older has surely arrived.
    with Bus() as bus, bus.context(timeout=0.2 if age else 20) as context:
        relay = bus.start_relay()
        wait_until(lambda: is_sent(context))
        sent = time.monotonic()
        wait_until(lambda: time.monotonic() - sent > age)
        relay.popen.kill()
        outlet = context._session.publisher
        assert outlet is not None
        wait_until(lambda: not outlet.sockets[0].connections)
        assert context.lost == lost
        assert ("may be lost" in caplog.text) is bool(lost)


# ------------------------------------------------------------------ the module functions


class StandIn:
    """What tests of other projects put in the place of this thread's context."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def publish(self, *arguments: Any) -> None:
        self.calls.append(arguments)

    def destroy(self) -> None:
        self.calls.append(("destroyed",))


def test_the_context_of_the_thread_is_looked_up_at_each_call() -> None:
    local, stand_in = fedmsg.__dict__["__local"], StandIn()
    setattr(local, "__context", stand_in)
    fedmsg.publish("update", {"a": 1}, "test")
    fedmsg.destroy()
    assert stand_in.calls == [("update", {"a": 1}, "test", None), ("destroyed",)]
    assert getattr(local, "__context") is None


def test_listening_is_to_the_endpoints_alone() -> None:
    """What publishers hand to a relay is not heard past the relay."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as inbound, context.socket(zmq.XPUB) as outbound:
        for socket in (inbound, outbound):
            socket.bind("tcp://127.0.0.1:*")
        addresses = [socket.getsockopt_string(zmq.LAST_ENDPOINT) for socket in (inbound, outbound)]
        endpoints = {"relay_outbound": [addresses[1]]}
        with FedMsgContext(mute=True, relay_inbound=[addresses[0]], endpoints=endpoints) as listening:
            messages = listening.tail_messages()
            thread = threading.Thread(target=lambda: next(iter(messages)))
            thread.start()
            assert outbound.poll(10_000)
            assert outbound.recv() == b"\x01"
            assert inbound.poll(0) == 0
            outbound.send_multipart([b"t", b'{"topic": "t", "msg": {}}'])
            thread.join(10)
            messages.close()  # type: ignore[attr-defined] # a generator, told as an iterator


LISTENING_CHILD = """
import os, sys, fedmsg
fedmsg.init(mute=True)
for _ in zip(range(1), fedmsg.tail_messages()):
    print("the parent heard it", flush=True)
messages = fedmsg.tail_messages()
if os.fork() == 0:
    for _ in zip(range(1), messages):
        print("the child heard it", flush=True)
    fedmsg.destroy()
    os._exit(0)
os.wait()
for _ in zip(range(1), fedmsg.tail_messages()):
    print("the parent still hears", flush=True)
"""


def test_a_child_listens_by_sockets_of_its_own() -> None:
    with Bus() as bus:
        bus.start_relay()
        with (
            Process(
                [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LISTENING_CHILD], env=bus.environ
            ) as both,
            bus.context() as context,
        ):
            for text in ("the parent heard it", "the child heard it", "the parent still hears"):
                both.wait_for(text, meanwhile=lambda: context.publish("update", modname="test"))
            assert (both.wait(), both.err) == (0, [])
