# SPDX-License-Identifier: LGPL-2.1-or-later
"""Relays that name each other: nothing goes in circles, each has everything, and one of them may fail."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from fedmsg.testing import Bus, envelopes, free_address, wait_until
from tests.stream_relays import StreamBus, publish, running, sqlite_url, upstream, wait_for_numbers


def mesh(folder: Path, names: Sequence[str], upstreams: dict[str, str]) -> dict[str, StreamBus]:
    """Return relays that hand on to each other: the names of the others, for each."""
    places = {name: free_address() for name in names}
    return {
        name: StreamBus(
            sqlite_url(folder, f"{name}.db"),
            relay_confirmed=[places[name]],
            relay_upstream=[places[other] for other in upstreams[name]],
        )
        for name in names
    }


def assert_whole(bus: StreamBus, streams: dict[int, range]) -> None:
    """Check that a relay has all numbers once, those of each origin in order."""
    numbers = bus.numbers()
    assert len(numbers) == sum(map(len, streams.values()))
    for wanted in streams.values():
        assert [number for number in numbers if number in wanted] == list(wanted)


def test_two_relays_that_name_each_other_both_end_up_with_everything(tmp_path: Path) -> None:
    buses = mesh(tmp_path, "ab", {"a": "b", "b": "a"})
    a, b = buses.values()
    with running(a), running(b):
        publish(a, range(500))
        publish(b, range(1000, 1500))
        for bus in (a, b):
            wait_for_numbers(bus, 1000)
        wait_until(lambda: not upstream(a)["lag"] and not upstream(b)["lag"])
        for bus in (a, b):
            # What has come from there does not go back.
            assert bus.figures()["duplicates"] == 0
            assert (upstream(bus)["handed_on"], upstream(bus)["skipped"]) == (500, 500)
        b.kill_relay()
        publish(a, range(500, 600))
        a.kill_relay()
        b.start_relay()
        publish(b, range(1500, 1600))
        a.start_relay()
        for bus in (a, b):
            wait_for_numbers(bus, 1200)
        wait_until(lambda: not upstream(a)["lag"] and not upstream(b)["lag"])
        for bus in (a, b):
            assert_whole(bus, {0: range(600), 1: range(1000, 1600)})


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_relays_in_a_ring_all_end_up_with_everything(tmp_path: Path, full_size: bool) -> None:
    chance = random.Random(3)
    buses = mesh(tmp_path, "abc", {"a": "b", "b": "c", "c": "a"})
    with ExitStack() as stack:
        for bus in buses.values():
            stack.enter_context(running(bus))
        published = dict.fromkeys(buses, 0)
        for _ in range(100 if full_size else 2):
            victim = buses[chance.choice("abc")]
            victim.kill_relay()
            for number, (name, bus) in enumerate(buses.items()):
                if bus is not victim:
                    first = number * 1_000_000 + published[name]
                    publish(bus, range(first, first + 100))
                    published[name] += 100
            victim.start_relay()
        total = sum(published.values())
        for bus in buses.values():
            wait_for_numbers(bus, total)
        wait_until(lambda: not any(upstream(bus)["lag"] for bus in buses.values()))
        ranges = {
            number: range(number * 1_000_000, number * 1_000_000 + published[name]) for number, name in enumerate(buses)
        }
        for bus in buses.values():
            assert_whole(bus, ranges)


def test_publishing_and_reading_go_on_when_one_of_two_relays_is_gone(tmp_path: Path) -> None:
    # Both have the same list, in which they find themselves.
    buses = mesh(tmp_path, "ab", {"a": "ab", "b": "ab"})
    a, b = buses.values()
    with running(a), running(b):
        relays = [a.confirmed, b.confirmed]
        streams = [bus.config["relay_stream"][0] for bus in (a, b)]
        places = {name: bus.config["endpoints"]["relay_outbound"] for name, bus in buses.items()}
        listening = {"relay_stream": streams, "relay_inbound": a.config["relay_inbound"], "endpoints": places}
        with (
            Bus(listening) as both,
            a.confirming(relay_confirmed=relays, relay_stream=streams, timeout=2) as context,
            both.tail("--json") as tail,
            context.subscribe(after=0) as messages,
        ):
            read = (message[3]["msg"]["n"] for message in messages if "n" in message[3]["msg"])
            for number in range(10):
                context.publish(topic="t", modname="m", msg={"n": number})
            assert [next(read) for _ in range(10)] == list(range(10))
            wait_until(lambda: len(b.numbers()) == 10)
            a.kill_relay()
            for number in range(10, 20):
                # It raises when this takes longer than 2 seconds.
                context.publish(topic="t", modname="m", msg={"n": number})
            # The same for reading: each of them returns None after as long.
            later = [messages.read(2) for _ in range(10)]
            assert [message and message[3]["msg"]["n"] for message in later] == list(range(10, 20))
            # Those of the first relay were passed on by both of them, and each of them in order.
            tail.wait_for('"n":19')
            heard = [envelope["msg"] for envelope in envelopes(tail.out)]
            assert [msg["n"] for msg in heard if "n" in msg] == list(range(20))
        a.start_relay()
        wait_until(lambda: len(a.numbers()) >= 20)
        assert a.numbers() == b.numbers() == list(range(20))


def test_relay_does_not_hand_on_to_itself(tmp_path: Path) -> None:
    mine = free_address()
    with running(StreamBus(sqlite_url(tmp_path), relay_confirmed=[mine], relay_upstream=[mine])) as bus:
        assert bus.relay is not None
        bus.relay.wait_for(f"relay_upstream: {mine} leads to this relay itself, and is not used")
        publish(bus, range(10))
        assert bus.numbers() == list(range(10))
        assert (bus.figures()["duplicates"], upstream(bus)["used"], upstream(bus)["lag"]) == (0, False, 0)


def test_relay_binds_what_is_its_own_in_the_lists_of_two_relays(tmp_path: Path) -> None:
    # An address that is kept for documentation, which no machine has.
    other = "tcp://192.0.2.1:9"
    mine = [free_address() for _ in range(3)]
    shared = {"relay_confirmed": [other, mine[0]], "relay_stream": [other, mine[1]], "relay_upstream": [other, mine[0]]}
    with running(StreamBus(sqlite_url(tmp_path), **shared, endpoints={"relay_outbound": [other, mine[2]]})) as bus:
        assert bus.relay is not None
        bus.relay.wait_for(f"relay_upstream: {mine[0]} leads to this relay itself, and is not used")
        publish(bus, [1], relay_confirmed=mine[0])
        assert bus.relay.wait_for("to tcp://").split(" to ")[1].split(",")[0] == mine[2]
