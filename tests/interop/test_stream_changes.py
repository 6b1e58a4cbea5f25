# SPDX-License-Identifier: LGPL-2.1-or-later
"""Relays with a store, and hubs, that stop, start and take the place of others while those of 1.1.7 go on."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from fedmsg.testing import Process, free_address, wait_until
from tests.interop.lane import open_lane
from tests.interop.sides import Side, Speaker, envelopes, write_config
from tests.interop.storing import CLASSES, consumed, plugin, storing, tailed, texts, wait_stored
from tests.interop.test_hub import start_hub
from tests.stream_relays import sqlite_url

#: Whose output is waited for, and what its lines have in them: a hub has two consumers.
Ear = tuple[Process, str]


def hear(text: str, *ears: Ear, meanwhile: Callable[[], object] | None = None) -> None:
    """Wait until all have heard a text."""
    for process, name in ears:
        process.wait_for(partial(has_both, name, text), meanwhile=meanwhile)


def has_both(one: str, other: str, line: str) -> bool:
    """Return whether two texts are in a line."""
    return one in line and other in line


def converse(speaker: Speaker, name: str, *ears: Ear) -> None:
    """Greet until all are connected, and have all hear a round of messages."""
    hear(f"greeting {name}", *ears, meanwhile=lambda: speaker.say(f"greeting {name}"))
    speaker.say(*round_of(name))
    hear(f"end {name}", *ears)


def round_of(name: str) -> list[str]:
    """Return a round of messages."""
    return [*(f"{number} {name}" for number in range(20)), f"end {name}"]


def said_by(tail: Process, topic: str) -> list[str]:
    """Return what a tail has heard messages say, without the greetings."""
    return said(tailed(tail, topic))


def said(bodies: list[str]) -> list[str]:
    """Return what messages say, without the greetings."""
    messages = (json.loads(body)["msg"] for body in bodies)
    return [msg for msg in messages if not msg.startswith("greeting")]


def test_publisher_and_listeners_go_on_when_the_relay_is_stopped_and_started(
    sides: dict[str, Side], database_url: str, tmp_path: Path
) -> None:
    peer = sides["peer"]
    with (
        open_lane(sides["ours"], tmp_path / "bus", **storing(database_url)) as lane,
        peer.tail(lane.folder) as tail,
        start_hub(peer, lane, [plugin(tmp_path / "plugin")], {}) as hub,
        peer.library(lane.folder, "again") as speaker,
    ):
        for number in range(3):
            if number:
                assert lane.replace_relay(sides["ours"]) == 0
            converse(speaker, str(number), (tail, ""), (hub, '"Plain"'))
        speaker.finish()
        wanted = [line for number in range(3) for line in round_of(str(number))]
        assert said(texts(lane, speaker.topic)) == wanted
        assert said_by(tail, speaker.topic) == wanted
        assert said(consumed(hub, "Plain", speaker.topic)) == wanted


def test_a_bus_becomes_ours_one_process_at_a_time(sides: dict[str, Side], tmp_path: Path) -> None:
    folder = plugin(tmp_path / "plugin")
    with ExitStack() as stack:
        lane = stack.enter_context(open_lane(sides["peer"], tmp_path / "bus", **storing(sqlite_url(tmp_path))))
        starts: dict[str, Callable[[Side], Process]] = {
            "tail": lambda side: side.tail(lane.folder),
            "hub": lambda side: start_hub(side, lane, [folder], {}),
        }
        running = {name: stack.enter_context(start(sides["peer"])) for name, start in starts.items()}
        speaker = stack.enter_context(sides["peer"].library(lane.folder, "moving"))
        rounds: list[str] = []
        for change in ("nothing", "relay", "tail", "hub", "publisher"):
            if change == "relay":
                lane.replace_relay(sides["ours"])
            elif change == "publisher":
                speaker.finish()
                speaker = stack.enter_context(sides["ours"].library(lane.folder, "moving"))
            elif change in running:
                running[change].stop()
                running[change] = stack.enter_context(starts[change](sides["ours"]))
                del rounds[:]
            tail, hub = running.values()
            converse(speaker, change, (tail, ""), *((hub, f'"{name}"') for name in CLASSES))
            rounds.append(change)
            heard = said_by(tail, speaker.topic)
            assert heard[-21:] == said(consumed(hub, "Plain", speaker.topic))[-21:] == round_of(change)
        kept = [line for change in ("relay", "tail", "hub", "publisher") for line in round_of(change)]
        assert said(texts(lane, speaker.topic)) == kept
        assert said_by(tail, speaker.topic) == kept[21:]
        for name in CLASSES:
            assert said(consumed(hub, name, speaker.topic)) == kept[42:]


def test_a_durable_consumer_gets_what_a_publisher_of_1_1_7_said_meanwhile(
    sides: dict[str, Side], tmp_path: Path
) -> None:
    folder, heard = plugin(tmp_path / "plugin"), []
    with (
        open_lane(sides["ours"], tmp_path / "bus", **storing(sqlite_url(tmp_path))) as lane,
        sides["peer"].library(lane.folder, "durable") as speaker,
    ):
        # After an orderly stop nothing comes again; after the kill some may.
        for number, ending in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
            with start_hub(sides["ours"], lane, [folder], {}) as hub:
                converse(speaker, f"here {number}", (hub, '"Durable"'))
                assert hub.stop(ending) == (-ending if ending == signal.SIGKILL else 0)
                heard += said(consumed(hub, "Durable", speaker.topic))
            assert number > 1 or len(set(heard)) == len(heard)
            speaker.say(*round_of(f"away {number}"))
            wait_stored(lane, speaker.topic, f"end away {number}")
        speaker.finish()
        kept = said(texts(lane, speaker.topic))
        assert kept == [line for n in range(3) for where in ("here", "away") for line in round_of(f"{where} {n}")]
        assert [*dict.fromkeys(heard)] == kept[:-21]


def test_two_relays_that_name_each_other_serve_listeners_of_1_1_7(sides: dict[str, Side], tmp_path: Path) -> None:
    peer, places = sides["peer"], {name: free_address() for name in "ab"}
    with ExitStack() as stack:
        a, b = lanes = [
            stack.enter_context(open_lane(sides["ours"], tmp_path / name, **storing(
                sqlite_url(tmp_path, f"{name}.db"), relay_confirmed=[places[name]], relay_upstream=[places[other]]
            )))
            for name, other in ("ab", "ba")
        ]  # fmt: skip
        streams = [lane.config["relay_stream"][0] for lane in lanes]
        outbound = {"relay_outbound": [lane.outbound for lane in lanes]}
        write_config(tmp_path / "both", {**a.config, "relay_stream": streams, "endpoints": outbound})
        tails = [stack.enter_context(peer.tail(lane.folder)) for lane in lanes]
        twice, once = (stack.enter_context(sides[name].tail(tmp_path / "both")) for name in ("peer", "ours"))
        wait_until(
            lambda: 2 in copies(twice).values(), meanwhile=lambda: a.greeter.publish("hello", "hello", "interop")
        )
        speakers = [stack.enter_context(peer.library(lane.folder, f"at.{number}")) for number, lane in enumerate(lanes)]
        everyone = [(tail, "") for tail in (*tails, twice, once)]
        for number, speaker in enumerate(speakers):
            mark = f"greeting {number}"
            hear(mark, *everyone, meanwhile=partial(speaker.say, mark))
        for number, speaker in enumerate(speakers):
            speaker.say(*round_of(str(number)))
        for number, speaker in enumerate(speakers):
            hear(f"end {number}", *everyone)
            for lane in lanes:
                assert said(texts(lane, speaker.topic)) == round_of(str(number))
            for tail in (*tails, once):
                assert said_by(tail, speaker.topic) == round_of(str(number))
            wait_doubled(twice, speaker.topic, f"end {number}")
            assert Counter(said_by(twice, speaker.topic)) == dict.fromkeys(round_of(str(number)), 2)
        # The other one goes on alone.
        assert a.relay.stop() == 0
        speakers[1].say("alone")
        hear("alone", *everyone[1:])
        assert said(texts(b, speakers[1].topic)) == [*round_of("1"), "alone"]


def wait_doubled(tail: Process, topic: str, text: str) -> None:
    """Wait until a tail has heard a message twice."""
    wait_until(lambda: said_by(tail, topic).count(text) == 2)


def copies(tail: Process) -> Counter[str]:
    """Return how often a tail has heard each message."""
    return Counter(envelope["msg_id"] for envelope in envelopes(tail))
