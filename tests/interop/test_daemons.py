# SPDX-License-Identifier: LGPL-2.1-or-later
"""What fedmsg-trigger and fedmsg-collectd of both sides make of the same messages, and fedmsg-dg-replay."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process
from tests.datagrepper_server import DatagrepperServer, message
from tests.hubs import Feed
from tests.interop.lane import open_lane, send
from tests.interop.sides import NAMES, Side, envelopes, write_config

CONFIG = {
    "environment": "dev",
    "sign_messages": False,
    "validate_signatures": False,
    "zmq_enabled": True,
    "relay_inbound": [],
}
TOPIC = "org.fedoraproject.dev.logger.log"


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    """Give a publisher, and the folder "bus" with a configuration for it."""
    with Feed() as found:
        write_config(tmp_path / "bus", {**found.config, **CONFIG})
        yield found


def test_a_trigger_is_handed_the_same(sides: dict[str, Side], feed: Feed, tmp_path: Path) -> None:
    sent = [message(number, 1_700_000_000, TOPIC, msg={"text": "é\\u2603", "n": 1e22}) for number in range(3)]
    handed: dict[str, list[str]] = {}
    for name in NAMES:
        command = ("fedmsg-trigger", "--command", 'echo "<$(cat)>"; exit 3', "--include", "logger")
        with sides[name].start(tmp_path / "bus", *command) as trigger:
            trigger.wait_for("<{", meanwhile=lambda: feed.publish(message(-1, 1, TOPIC)))
            feed.publish(message(-1, 1, "org.fedoraproject.dev.other"), *sent)
            trigger.wait_for('"i":2')
            trigger.wait_for("Command returned error code 3")
        lines = [line for line in trigger.out if line.startswith("<")]
        assert not any("dev.other" in line for line in lines)
        handed[name] = lines[-3:]
    assert handed["ours"] == handed["peer"]
    assert [json.loads(line[1:-1]) for line in handed["ours"]] == sent


def without_a_command(process: Process) -> int:
    status = process.wait()
    assert any("You must provide a --command to run." in line for line in process.out)
    return status


def test_a_trigger_without_a_command(sides: dict[str, Side], feed: Feed, tmp_path: Path) -> None:
    for name in NAMES:
        with sides[name].start(tmp_path / "bus", "fedmsg-trigger") as trigger:
            assert without_a_command(trigger) == 1


def test_collectd_reads_the_same_lines(sides: dict[str, Side], feed: Feed, tmp_path: Path) -> None:
    shapes: dict[str, set[str]] = {}
    for name in NAMES:
        with sides[name].start(tmp_path / "bus", "fedmsg-collectd", "--collectd-interval", "1") as process:
            counted = re.compile(r"PUTVAL .*-logger interval=1 \d+:[1-9]\d*")
            process.wait_for(counted.fullmatch, meanwhile=lambda: feed.publish(message(1, 1, TOPIC)))
            process.wait_for("unhandled")
        lines = [line for line in process.out if line.startswith("PUTVAL")]
        shapes[name] = {re.sub(r"\d+:\d+$", "<time>:<count>", line) for line in lines}
    assert shapes["ours"] == shapes["peer"]
    assert len(shapes["ours"]) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_message_of_the_past(sides: dict[str, Side], tmp_path: Path, name: str) -> None:
    ours = sides["ours"]
    old = message(7, 1_600_000_000, "org.fedoraproject.prod.bodhi.update.comment", msg={"text": "again"})
    with (
        DatagrepperServer([old]) as server,
        open_lane(ours, tmp_path / "lane") as lane,
        ours.tail(lane.folder) as tail,
    ):
        lane.greet(tail)
        said: list[Any] = []

        def replay(msg_id: str = "2026-7") -> None:
            arguments = ("--msg-id", msg_id, "--datagrepper-url", server.url)
            said.append(sides[name].run(lane.folder, "fedmsg-dg-replay", *arguments))

        send(sides[name], replay, tail, "bodhi.update.comment")
        assert (said[0].returncode, said[0].stdout) == (0, "Retrieving '2026-7'\nBroadcasting '2026-7'\nOK.\n")
        replay("2026-8")
        missing = "Retrieving '2026-8'\ndatagrepper request of '2026-8' failed. Status: 404\n"
        assert (said[-1].returncode, said[-1].stdout) == (2, missing)
        ended = sides[name].run(lane.folder, "fedmsg-dg-replay")
        assert (ended.returncode, ended.stdout) == (1, "--msg-id is required\n")
    heard = [envelope for envelope in envelopes(tail) if "bodhi" in envelope["topic"]]
    assert {envelope["topic"] for envelope in heard} == {"org.fedoraproject.dev.bodhi.update.comment"}
    assert all(envelope["msg"] == old["msg"] and envelope["msg_id"] != "2026-7" for envelope in heard)
