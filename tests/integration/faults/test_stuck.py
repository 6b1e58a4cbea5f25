# SPDX-License-Identifier: LGPL-2.1-or-later
"""A subscriber that takes nothing: bounded memory, the others get everything, the end is in time."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.testing import Bus, free_address
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import Witness, freeze, memory, stuck_subscriber

# How many messages a stuck subscriber may hold in these tests, and what each of them carries.
LIMIT = 2000
FILLER = "x" * 4000


@pytest.mark.soak
def test_a_relay_with_stuck_subscribers(figures: Figures, full_size: bool) -> None:
    seconds, least = (600, 1_000_000) if full_size else (0, 20_000)
    # Without heartbeats, which would end such a connection after a while.
    settings = {"fedmsg.consumers.relay.high_water_mark": LIMIT, "zmq_heartbeat_ivl": 0, "stop_timeout": 1}
    with Bus(settings) as bus:
        relay = bus.start_relay()
        outbound = bus.config["endpoints"]["relay_outbound"][0]
        with (
            Witness(outbound) as witness,
            bus.tail("--json") as tail,
            stuck_subscriber(outbound),
            stuck_subscriber(outbound),
            bus.context() as context,
        ):
            witness.greet(bus)
            freeze(tail.popen.pid)
            before = memory(relay.popen.pid)
            end, sent, arrived = time.monotonic() + seconds, 0, 0
            while sent < least or time.monotonic() < end:
                # In portions, lest the witness becomes one that lags behind too much.
                for _ in range(LIMIT // 4):
                    context.publish("flood", {"n": sent, "filler": FILLER}, modname="test")
                    sent += 1
                witness.wait_for(LIMIT // 4, "flood")
                assert witness.numbers("flood") == [*range(arrived, sent)]
                arrived = sent
                del witness.frames[:]
            peak = memory(relay.popen.pid, "VmHWM")
            status = bus.stop_relay()
            tail.popen.send_signal(signal.SIGCONT)
            assert tail.stop() == 0
    # What the three may hold, and as much again for what is in the kernel's and ZeroMQ's hands.
    allowed = 2 * 3 * LIMIT * len(FILLER) // 1024
    assert sent * len(FILLER) // 1024 > allowed
    assert peak - before < allowed
    assert arrived == sent
    assert status == 8
    assert len(relay.err) == 1
    assert "with work left: 3 subscribers had not taken everything" in relay.err[0]
    figures(
        "relay with 3 stuck subscribers", sent=sent, arrived=arrived, lost=0, exits=0,
        memory_before=before, memory_after=peak, remarks=f"peak; {LIMIT} of 4 KB allowed for each; status 8",
    )  # fmt: skip


@pytest.mark.parametrize("linger", [0, 300])
def test_closing_a_publisher_that_has_a_stuck_subscriber(linger: int) -> None:
    address = free_address()
    context = FedMsgContext(name="me.here", endpoints={"me.here": [address]}, zmq_linger=linger, post_init_sleep=20)
    with stuck_subscriber(address):
        for _ in range(2000):
            context.publish("flood", {"filler": FILLER}, modname="test")
        closing = threading.Thread(target=context.destroy)
        closing.start()
        # It would go on for ever, were it not bounded.
        closing.join(20)
        assert not closing.is_alive()
    # The address is free again.
    with FedMsgContext(name="me.here", endpoints={"me.here": [address]}) as again:
        assert again.publisher is not None


def test_closing_a_publisher_whose_relay_is_stuck() -> None:
    with Bus({"zmq_linger": 300}) as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        relay = bus.start_relay()
        witness.greet(bus)
        context = bus.context()
        context.publish("flood", {"n": 0}, modname="test")
        witness.wait_for(1, "flood")
        freeze(relay.popen.pid)
        # More than the kernel takes on its own.
        for number in range(5000):
            context.publish("flood", {"n": number, "filler": FILLER}, modname="test")
        closing = threading.Thread(target=context.destroy)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()
        # What could not be sent in time is not lost without a word.
        assert context.lost > 0
        relay.popen.send_signal(signal.SIGCONT)
        assert bus.stop_relay() == 0
