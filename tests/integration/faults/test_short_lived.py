# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start, publish, exit: it either arrives or is reported, and nobody hangs."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import NotListening
from fedmsg.testing import Bus, Process, envelopes, free_address, wait_until
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import Witness


@pytest.mark.soak
def test_every_short_lived_publisher_delivers(figures: Figures, full_size: bool) -> None:
    runs = 1000 if full_size else 10
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        bus.start_relay()
        witness.greet(bus)
        ends = [bus.run("fedmsg-logger", "--message", f"number {number}") for number in range(runs)]
        witness.wait_for(runs, "log")
        assert bus.stop_relay() == 0
    assert [(end.returncode, end.stdout, end.stderr) for end in ends] == [(0, "", "")] * runs
    assert [body["msg"]["log"] for body in witness.bodies("log")] == [f"number {number}" for number in range(runs)]
    figures("runs of fedmsg-logger --message", sent=runs, arrived=len(witness.bodies("log")), lost=0, exits=0)


@pytest.mark.soak
def test_piped_lines_all_arrive_in_order(figures: Figures, full_size: bool) -> None:
    lines = 1_000_000 if full_size else 20_000
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        bus.start_relay()
        witness.greet(bus)
        text = "".join(f"{number}\n" for number in range(lines))
        ended = bus.run("fedmsg-logger", stdin=text, timeout=600)
        witness.wait_for(lines, "log")
        assert bus.stop_relay() == 0
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [body["msg"]["log"] for body in witness.bodies("log")] == [str(number) for number in range(lines)]
    figures("lines piped into fedmsg-logger", sent=lines, arrived=len(witness.bodies("log")), lost=0, exits=0)


@pytest.mark.parametrize("stdin", ["", "a line\n" * 1000], ids=["message", "piped"])
def test_without_a_relay_it_is_one_line_and_status_3(stdin: str) -> None:
    inbound = free_address()
    with Bus({"relay_inbound": [inbound]}) as bus:
        message = [] if stdin else ["--message", "to nobody"]
        ended = bus.run("fedmsg-logger", "--timeout", "1", *message, stdin=stdin, timeout=20)
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert f"nothing listens at {inbound} within 1 s" in ended.stderr
    assert ended.stdout == ""


def test_after_a_timeout_publish_fails_at_once_until_the_relay_is_back() -> None:
    with Bus() as bus, bus.context(timeout=3) as context:
        with pytest.raises(
            NotListening, match=r"^nothing listens at .* within 3 s, the message was not sent: start fedmsg-relay"
        ):
            context.publish("update", {"n": 0}, modname="test")
        for _ in range(1000):
            # Now it does not say how long it waited, since it did not.
            with pytest.raises(NotListening, match=r"^nothing listens at [^ ]+, the message was not sent"):
                context.publish("update", {"n": 0}, modname="test")
        with Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
            bus.start_relay()
            witness.greet(bus)
            wait_until(lambda: listened_to(context), what="the relay found again")
            # From here on it is patient as before: what is published without a relay waits for one.
            assert bus.stop_relay() == 0
            held = threading.Thread(target=context.publish, args=("update", {"n": 1}, "test"))
            held.start()
            bus.start_relay()
            held.join()
            witness.wait_for(1, "update")
        assert witness.numbers("update") == [1]
        assert context.lost == 0


def listened_to(context: FedMsgContext) -> bool:
    """Publish something; says whether somebody listens."""
    try:
        context.publish("attempt", modname="test")
    except NotListening:
        return False
    return True


ONE_MESSAGE = """
import sys, fedmsg
name, address, number = sys.argv[1:]
fedmsg.init(name=name, endpoints={name: [address]})
fedmsg.publish(topic="once", modname="test", msg={"n": int(number)})
fedmsg.destroy()
"""


@pytest.mark.soak
def test_bound_publishers_that_publish_once_are_heard_by_all_listeners(figures: Figures, full_size: bool) -> None:
    runs, together = (100, 8) if full_size else (1, 8)
    endpoints = {f"short.lived.{number}": [free_address()] for number in range(together)}

    def heard(listener: Process, topic: str) -> int:
        return sum(envelope["topic"].endswith(topic) for envelope in envelopes(listener.out))

    with (
        Bus({"endpoints": endpoints}) as bus,
        Process(["fedmsg-tail", "--json"], env=bus.environ) as tail,
        Process(["fedmsg-tail", "--json"], env=bus.environ) as other,
    ):
        listeners = (tail, other)
        with FedMsgContext(**bus.config, name="short.lived.0") as context:
            wait_until(
                lambda: all(heard(listener, ".hello") for listener in listeners),
                meanwhile=lambda: context.publish("hello", modname="test"),
            )
        for run in range(runs):
            with ExitStack() as stack:
                processes = [
                    stack.enter_context(
                        Process([sys.executable, "-c", ONE_MESSAGE, name, address, str(run)], env=bus.environ)
                    )
                    for name, (address,) in endpoints.items()
                ]
                assert [process.wait() for process in processes] == [0] * together
        wait_until(lambda: all(heard(listener, ".once") == runs * together for listener in listeners), 5)
        arrived = sum(heard(listener, ".once") for listener in listeners)
    figures(
        f"{together} processes that publish once, {runs} times, before two tails",
        sent=2 * runs * together, arrived=arrived, lost=2 * runs * together - arrived, exits=0,
    )  # fmt: skip
