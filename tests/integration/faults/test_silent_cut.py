# SPDX-License-Identifier: LGPL-2.1-or-later
"""A relay that stops answering without a word: heartbeats turn that into a reported loss."""

from __future__ import annotations

import re
import signal
import threading

import pytest

from fedmsg.exceptions import NotListening
from fedmsg.testing import Bus, Process, wait_until
from tests.integration.faults.ground import Witness, freeze

SETTINGS = {"zmq_heartbeat_ivl": 200, "timeout": 5, "zmq_reconnect_ivl": 20, "zmq_reconnect_ivl_max": 20}


def test_a_context(caplog: pytest.LogCaptureFixture) -> None:
    with Bus(SETTINGS) as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        relay = bus.start_relay()
        witness.greet(bus)
        with bus.context() as context:
            published: list[int] = []
            context.publish("cut", {"n": 0}, modname="test")
            witness.wait_for(1, "cut")
            freeze(relay.popen.pid)
            stop = threading.Event()

            def publish() -> None:
                while not stop.wait(0.005):
                    try:
                        context.publish("cut", {"n": len(published) + 1}, modname="test")
                    except NotListening:
                        return
                    published.append(len(published) + 1)

            publisher = threading.Thread(target=publish)
            publisher.start()
            wait_until(lambda: context.lost, what="the cut noticed")
            # What is published from now on waits for the relay.
            lost, sent = context.lost, len(published)
            relay.popen.send_signal(signal.SIGCONT)
            wait_until(lambda: len(published) > sent + 10, what="publishing goes on")
            stop.set()
            publisher.join()
            wait_until(lambda: published[-1] in witness.numbers("cut"))
        assert bus.stop_relay() == 0
    # All that was handed over in the last `timeout` seconds counts; how much the kernel had taken, nobody knows.
    assert sent - 1 <= lost <= sent + 1
    assert f"about {lost} messages may be lost: the connection to {bus.config['relay_inbound'][0]} broke" in caplog.text
    missing = set(published) - set(witness.numbers("cut"))
    assert len(missing) <= lost
    assert all(number <= sent + 1 for number in missing)


def test_a_logger() -> None:
    with Bus(SETTINGS) as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        relay = bus.start_relay()
        witness.greet(bus)
        with Process(["fedmsg-logger"], env=bus.environ, stdin=True) as logger:
            stdin = logger.popen.stdin
            assert stdin is not None
            stdin.write(b"first\n")
            stdin.flush()
            witness.wait_for(1, "log")
            freeze(relay.popen.pid)
            stdin.write(b"into the void\n" * 10)
            stdin.flush()
            logger.wait_for("may be lost")
            stdin.close()
            status = logger.wait()
        relay.popen.send_signal(signal.SIGCONT)
        assert bus.stop_relay() == 0
    assert status == 4
    told = re.search(r"about (\d+) messages may be lost", logger.err[-1])
    assert told is not None
    assert int(told[1]) >= 10
