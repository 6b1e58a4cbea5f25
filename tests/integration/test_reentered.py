# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing from where a thread is in the middle of publishing: signal handlers and finalisers."""

from __future__ import annotations

import gc
import json
import signal
from collections.abc import Iterator
from types import FrameType

import pytest
import zmq

from fedmsg.core import FedMsgContext
from fedmsg.testing import free_address
from fedmsg.transport.zmq.forwarder import Forwarder

COUNT = 10_000


class Ear:
    """A plain subscriber that reads everything up to the last message."""

    def __init__(self, address: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.set_hwm(0)
        self.socket.subscribe(b"")
        self.socket.connect(address)

    def hear(self) -> list[object]:
        heard: list[object] = []
        while not heard or heard[-1] != "last":
            assert self.socket.poll(10_000), f"only {len(heard)} messages came"
            topic, body = self.socket.recv_multipart()
            envelope = json.loads(body)
            assert envelope["topic"].encode() == topic
            heard.append(envelope["msg"])
        return heard


@pytest.fixture(params=["bound", "connected"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[FedMsgContext, Ear]]:
    """A context and somebody who hears what it publishes."""
    address = free_address()
    with Forwarder({}, [free_address()], [free_address()], limit=200_000) as relay:
        ear = Ear(address if request.param == "bound" else relay.outbound)
        config = (
            {"name": "me.here", "endpoints": {"me.here": address}, "post_init_sleep": 10}
            if request.param == "bound"
            else {"active": True, "relay_inbound": relay.inbound}
        )
        with FedMsgContext(**config) as context:
            while not ear.socket.poll(10):
                context.publish(topic="t", modname="m", msg="hello")
            yield context, ear
        ear.socket.close(0)
        ear.context.term()


def test_a_signal_handler_publishes_too(both: tuple[FedMsgContext, Ear]) -> None:
    context, ear = both
    signals = 0

    def handler(_number: int, _frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        context.publish(topic="t", modname="m", msg=-signals)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0003)

    before = signal.signal(signal.SIGVTALRM, handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0003)
    try:
        for number in range(1, COUNT + 1):
            context.publish(topic="t", modname="m", msg=number)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    context.publish(topic="t", modname="m", msg="last")
    heard = [msg for msg in ear.hear() if isinstance(msg, int)]
    assert signals
    assert [msg for msg in heard if msg > 0] == list(range(1, COUNT + 1))
    assert [msg for msg in heard if msg < 0] == [-number for number in range(1, signals + 1)]


def test_a_finaliser_publishes_too(both: tuple[FedMsgContext, Ear]) -> None:
    context, ear = both
    ended = 0

    class Told:
        """Something that is missed: in a circle, so that only a collection ends it, anywhere."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal ended
            ended += 1
            context.publish(topic="t", modname="m", msg=-1)

    for number in range(1, COUNT + 1):
        Told()
        context.publish(topic="t", modname="m", msg={"n": number, "filler": [[] for _ in range(5)]})
    gc.collect()
    context.publish(topic="t", modname="m", msg="last")
    heard = ear.hear()
    assert ended == COUNT
    assert heard.count(-1) == COUNT
    assert [msg["n"] for msg in heard if isinstance(msg, dict)] == list(range(1, COUNT + 1))
