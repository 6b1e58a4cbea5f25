# SPDX-License-Identifier: LGPL-2.1-or-later
"""Durable consumers in real hubs that are killed, take over from each other, and outlive their relay."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import wait_until
from tests.hubs import HubProcess
from tests.integration.test_hub_durable import cursor, publish, wait_for_cursor
from tests.stream_relays import Flow, StreamBus, running, sqlite_url

CONSUMERS = r'''
import json
import os
import time

from fedmsg.consumers import FedmsgConsumer


class Keeper(FedmsgConsumer):
    """Writes down what it gets, each on a line of its own, whatever a kill has left before it."""

    config_key = "keeper.enabled"
    topic = "org.fedoraproject.dev.m.t"
    durable = True

    def __init__(self, hub):
        super().__init__(hub)
        self.file = os.open("kept", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def consume(self, message):
        body = message["body"]
        time.sleep(self.hub.config.get("keeper.delay", 0))
        os.write(self.file, ("\n" + json.dumps([body["msg"]["n"], body["msg_id"]])).encode())


class Storer(Keeper):
    """Takes many at a time."""

    config_key = "storer.enabled"

    def consume_many(self, messages):
        for message in messages:
            self.consume(message)
'''


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


def hub_process(bus: StreamBus, folder: Path, *arguments: str, consumer: Any = "Keeper", **settings: Any) -> HubProcess:
    """Start a hub with a consumer, which writes into the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "keeping.py").write_text(CONSUMERS)
    return HubProcess(folder, {**bus.config, **settings}, "--with-consumers", f"keeping.py:{consumer}", *arguments)


def kept(folder: Path) -> list[tuple[int, str]]:
    """Return numbers and ids of what a consumer has written down; without what is cut off, by a kill or for now."""
    path = folder / "kept"
    lines = path.read_text().split("\n") if path.exists() else []
    return [(number, msg_id) for number, msg_id in (json.loads(line) for line in lines if line.endswith("]"))]


def wait_for_kept(folder: Path, number: int, timeout: float = 60) -> None:
    """Wait until the consumer has got the message with this number."""
    wait_until(
        lambda: any(one == number for one, _ in kept(folder)[-2000:]), timeout, what=lambda: f"{kept(folder)[-5:]}"
    )


def once(found: Sequence[tuple[int, str]]) -> list[int]:
    """Return numbers in the order of their first delivery, each message once by its id."""
    return [number for number, _ in dict.fromkeys(found)]


# ---------------------------------------------------------------- kills


def kill_again_and_again(bus: StreamBus, folder: Path, rounds: int, **settings: Any) -> None:
    """Kill a hub at random moments under load; all that was confirmed has to arrive, in order."""
    dice = random.Random(rounds)
    with Flow(bus, timeout=20) as flow:
        flow.wait_for(1)
        for number in range(rounds):
            with hub_process(bus, folder, "--first", **settings).wait_ready() as hub:
                # It may be killed before it has done anything, too.
                goal = len(kept(folder)) + dice.randrange(1000) * (number > 0)
                wait_until(lambda: len(kept(folder)) >= goal)  # noqa: B023 - called in this round
                hub.popen.kill()
                hub.wait()
        flow.wait_for(50)
    with hub_process(bus, folder, "--first", **settings).wait_ready() as hub:
        wait_for_kept(folder, max(flow.confirmed))
        wait_until(lambda: cursor(bus, settings["consumer"]) == len(bus.entries()))
        assert hub.stop() == 0
    found = kept(folder)
    assert once(found) == bus.numbers()
    assert set(flow.confirmed) <= set(once(found))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("consumer", ["Keeper", "Storer"])
def test_hub_killed_again_and_again_handles_everything_in_order(tmp_path: Path, consumer: str, full_size: bool) -> None:
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        kill_again_and_again(bus, tmp_path / "hub", 100 if full_size else 2, consumer=consumer)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_hub_killed_again_and_again_handles_everything_with_postgresql(
    tmp_path: Path, postgresql_url: str, full_size: bool
) -> None:
    with running(StreamBus(postgresql_url)) as bus:
        kill_again_and_again(bus, tmp_path / "hub", 100 if full_size else 2, consumer="Keeper")


def test_message_in_work_when_the_hub_is_killed_comes_again(bus: StreamBus, tmp_path: Path) -> None:
    publish(bus, range(10))
    folder = tmp_path / "hub"
    with hub_process(bus, folder, "--first", **{"keeper.delay": 0.1}) as hub:
        wait_for_kept(folder, 3)
        hub.popen.kill()
        hub.wait()
    before = kept(folder)
    # Those that were handled are acknowledged a moment later, at the latest.
    assert (cursor(bus, "Keeper") or 0) <= len(before)
    with hub_process(bus, folder) as hub:
        wait_for_kept(folder, 9)
        wait_for_cursor(bus, 10, "Keeper")
        assert hub.stop() == 0
    assert once(kept(folder)) == list(range(10))
    assert len(kept(folder)) - 10 <= 3


def test_hub_that_is_stopped_in_good_order_gets_no_message_twice(bus: StreamBus, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    with Flow(bus) as flow:
        flow.wait_for(1)
        for number in range(3):
            with hub_process(bus, folder, "--first", **{"keeper.delay": 0.001}).wait_ready() as hub:
                seen = len(kept(folder))
                wait_until(lambda: len(kept(folder)) > seen + 50)  # noqa: B023 - called in this round
                assert hub.stop() == 0, number
                assert cursor(bus, "Keeper") == len(kept(folder))
    found = kept(folder)
    assert [number for number, _ in found] == list(range(len(found)))


# ---------------------------------------------------------------- relays and other hubs


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_hub_goes_on_when_its_relay_is_killed_and_started(bus: StreamBus, tmp_path: Path, full_size: bool) -> None:
    folder = tmp_path / "hub"
    with hub_process(bus, folder, "--first").wait_ready() as hub, Flow(bus, timeout=20) as flow:
        for _ in range(50 if full_size else 2):
            flow.wait_for(200)
            bus.kill_relay()
            bus.start_relay()
        flow.wait_for(200)
        seen = max(flow.confirmed)
        wait_for_kept(folder, seen)
        assert hub.stop() == 0
    found = kept(folder)
    # The hub has never ended, so that nothing comes twice.
    assert [number for number, _ in found] == list(range(len(found)))
    assert set(flow.confirmed) >= set(range(seen))


def test_second_hub_of_a_name_waits_and_takes_over(bus: StreamBus, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with hub_process(bus, one, "--first").wait_ready() as first:
        wait_until(lambda: cursor(bus, "Keeper") is not None)
        with hub_process(bus, two).wait_ready() as second:
            second.wait_for("has the name Keeper: waiting", stream="out")
            (line,) = (line for line in second.out if "has the name" in line)
            assert "another reader, at 127.0.0.1" in line
            publish(bus, range(20))
            wait_for_kept(one, 19)
            wait_for_cursor(bus, 20, "Keeper")
            assert kept(two) == []
            first.popen.kill()
            publish(bus, range(20, 40))
            wait_for_kept(two, 39, 2)
            assert [number for number, _ in kept(two)] == list(range(20, 40))
            assert second.stop() == 0


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (("--first",), [0, 1, 2, 3, 4]),
        (("--after", "3"), [3, 4]),
        (("--since", "1h"), [0, 1, 2, 3, 4]),
        ((), []),
    ],
)
def test_flags_say_where_a_new_name_begins(
    bus: StreamBus, tmp_path: Path, arguments: tuple[str, ...], numbers: list[int]
) -> None:
    publish(bus, range(5))
    folder = tmp_path / "hub"
    with hub_process(bus, folder, *arguments).wait_ready() as hub:
        wait_until(lambda: cursor(bus, "Keeper") is not None)
        publish(bus, [5])
        wait_for_kept(folder, 5)
        assert hub.stop() == 0
    assert [number for number, _ in kept(folder)] == [*numbers, 5]
    # Where the name is known, they say nothing.
    publish(bus, [6])
    with hub_process(bus, folder, "--first").wait_ready() as hub:
        wait_for_kept(folder, 6)
        assert hub.stop() == 0
    assert [number for number, _ in kept(folder)] == [*numbers, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "words"),
    [
        ((), {"keeper.enabled.durable": 5}, 5, "keeper.enabled.durable is 5: it is no name"),
        ((), {"relay_stream": []}, 5, "relay_stream has no address, and Keeper is durable"),
        (("--first", "--since", "2h"), {}, 2, "--since and --first: only one of them"),
        (("--since", "yesterday"), {}, 2, "since='yesterday'"),
        (("--first",), {"keeper.enabled.durable": False}, 2, "none of this hub is durable"),
        (("--after", "99"), {}, 1, "the newest position of the stream is 0"),
    ],
)
def test_hub_that_can_not_read_the_stream_ends_with_a_line_and_a_status(
    bus: StreamBus, arguments: tuple[str, ...], settings: dict[str, Any], status: int, words: str
) -> None:
    with hub_process(bus, Path(bus.url.removeprefix("sqlite:///")).parent / "hub", *arguments, **settings) as hub:
        assert hub.wait() == status
        assert words in hub.err[-1]
        assert not any(line.startswith("Traceback") for line in [*hub.out, *hub.err])


def test_hub_for_whose_name_the_relay_has_no_room_ends(tmp_path: Path) -> None:
    with (
        running(StreamBus(sqlite_url(tmp_path), relay_durable_max=1)) as bus,
        hub_process(bus, tmp_path / "one").wait_ready(),
    ):
        wait_until(lambda: cursor(bus, "Keeper") is not None)
        with hub_process(bus, tmp_path / "two", **{"keeper.enabled.durable": "other"}) as hub:
            assert hub.wait() == 70
            assert any("Keeper can't read as other, so the hub ends" in line for line in hub.out)
