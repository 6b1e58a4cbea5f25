# SPDX-License-Identifier: LGPL-2.1-or-later
"""A burst to subscribers that are slow: below the high water marks nothing is lost."""

from __future__ import annotations

import signal

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.testing import Bus, envelopes, free_address
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import freeze


@pytest.mark.parametrize("way", ["active", "bound"])
@pytest.mark.soak
def test_a_burst(way: str, figures: Figures, full_size: bool) -> None:
    # libzmq learns in portions of half a high water mark what has been taken, so a full 200,000 may be a few too many.
    count = 195_000 if full_size else 20_000
    address = free_address()
    settings = {"endpoints": {"relay_outbound": [free_address()], "me.here": [address]}, "post_init_sleep": 20}
    with Bus(settings) as bus:
        relay = bus.start_relay()
        with bus.tail("--json") as tail:
            how = {"active": True, "name": "relay_inbound"} if way == "active" else {"name": "me.here"}
            with FedMsgContext(**{**bus.config, **how, "zmq_linger": 60_000}) as context:
                context.publish("burst", {"n": 0}, modname="test")
                tail.wait_for('"n":0')
                freeze(tail.popen.pid)
                for number in range(1, count):
                    context.publish("burst", {"n": number, "filler": "x" * 200}, modname="test")
                tail.popen.send_signal(signal.SIGCONT)
                tail.wait_for(f'"n":{count - 1}}}', timeout=120)
                assert context.lost == 0
            assert tail.stop() == 0
        assert bus.stop_relay() == 0
    numbers = [body["msg"]["n"] for body in envelopes(tail.out) if body["topic"].endswith(".burst")]
    assert numbers == [*range(count)]
    assert tail.err == relay.err == []
    figures(f"burst at a tail that stands still, {way}", sent=count, arrived=len(numbers), lost=0, exits=0)
