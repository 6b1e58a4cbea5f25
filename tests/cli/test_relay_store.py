# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-relay with a store, and fedmsg-logger and fedmsg-announce that wait for its confirm."""

from __future__ import annotations

import json
import signal
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg.stream import asking
from fedmsg.testing import Bus, Process, free_address, free_port, wait_until
from tests.stream_relays import StreamBus, running, sqlite_url, stored_in

FOREIGN = "tcp://192.0.2.1:2004"  # RFC 5737: nobody has it


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


def logs(url: str) -> list[str]:
    """Return the lines that were logged, as they are stored."""
    return [json.loads(entry.body)["msg"]["log"] for entry in stored_in(url)]


# ---------------------------------------------------------------- the relay


def test_relay_gets_store_and_ports_by_flags(tmp_path: Path) -> None:
    url, confirmed, stream = sqlite_url(tmp_path), free_address(), free_address()
    # What is configured does not count then.
    with Bus({"relay_store": "nonsense", "relay_confirmed": FOREIGN, "relay_stream": FOREIGN}) as bus:
        relay = bus.start_relay("--store", url, "--confirmed", confirmed, "--stream", stream)
        relay.wait_for(f"confirming at {confirmed}, with a stream at {stream}")
        with bus.context(publish_confirm=True, relay_confirmed=confirmed) as context:
            assert context.publish(topic="t", modname="m") == 1
        assert bus.stop_relay() == 0
    assert len(stored_in(url)) == 1


def test_relay_without_a_store_binds_no_further_port(tmp_path: Path) -> None:
    confirmed = free_address()
    with Bus({"relay_confirmed": confirmed}) as bus:
        relay = bus.start_relay()
        assert "stream" not in relay.wait_for("relaying from")
        relay.close()
        relay = bus.start_relay("--store", sqlite_url(tmp_path))
        relay.wait_for(f"confirming at {confirmed}")


def test_relay_binds_those_addresses_that_are_its_own(tmp_path: Path) -> None:
    mine = free_address()
    by_name = free_address().replace("127.0.0.1", "localhost")
    settings = {"relay_confirmed": [FOREIGN, mine], "relay_stream": [FOREIGN, by_name]}
    with running(StreamBus(sqlite_url(tmp_path), **settings)) as bus:
        assert bus.relay is not None
        line = bus.relay.wait_for("confirming at")
        assert f"confirming at {mine}, with a stream at tcp://127.0.0.1:" in line


@pytest.mark.parametrize("key", ["relay_confirmed", "relay_stream"])
def test_relay_without_an_address_of_its_own_is_status_6_and_one_line(key: str, tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path), **{key: [FOREIGN, "tcp://nowhere.invalid:1"]}) as bus:
        ended = bus.run("fedmsg-relay")
    assert ended.returncode == 6
    assert len(ended.stderr.splitlines()) == 1
    assert key in ended.stderr
    assert FOREIGN in ended.stderr


@pytest.mark.parametrize(
    ("url", "status"),
    [("nonsense", 5), ("mysql://u:secret@h/d", 5), ("sqlite:////nowhere/at/all/stream.db", 3),
     ("postgresql+psycopg://u:secret@127.0.0.1:1/d", 3)],
)  # fmt: skip
def test_relay_with_a_store_that_can_not_be_used_ends_with_one_line(url: str, status: int) -> None:
    with StreamBus(url) as bus:
        ended = bus.run("fedmsg-relay")
    assert ended.returncode == status, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "secret" not in ended.stderr


@pytest.mark.parametrize("key", ["relay_confirmed", "relay_stream"])
def test_relay_whose_further_port_is_taken_is_status_6(key: str, tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as holder:
        port = holder.bind_to_random_port("tcp://127.0.0.1")
        with StreamBus(sqlite_url(tmp_path), **{key: f"tcp://127.0.0.1:{port}"}) as bus:
            ended = bus.run("fedmsg-relay")
    assert ended.returncode == 6
    assert key in ended.stderr


def test_relay_reports_the_figures_of_its_stream(tmp_path: Path) -> None:
    port = free_port()
    with running(StreamBus(sqlite_url(tmp_path), metrics_port=port)) as bus:
        with bus.confirming() as context:
            for _ in range(3):
                context.publish(topic="t", modname="m")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if "stream" in line and not line.startswith("#"))
    values = {name.partition("{")[0].removesuffix("_total"): float(value) for name, value in found.items()}
    assert values["fedmsg_stream_newest_position"] == values["fedmsg_stream_stored"] == 3
    assert values["fedmsg_stream_confirmed"] == 3
    assert values["fedmsg_stream_store_away_seconds"] == 0


def test_relay_tells_its_figures_at_the_stream_port(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path), relay_retention_messages=1000)) as bus:
        with bus.confirming() as context:
            for _ in range(3):
                context.publish(topic="t", modname="m")
        found = asking.info(bus.config, bus.config["relay_stream"][0])
    assert (found["first"], found["newest"], found["messages"], found["stored"], found["confirmed"]) == (1, 3, 3, 3, 3)
    assert found["retention"] == {"age": 604800, "max_bytes": 0, "messages": 1000}
    assert 0 < found["per_second"] <= 3


def test_relay_report_has_a_part_for_the_stream(tmp_path: Path) -> None:
    report = f"ipc://{tmp_path}/monitor"
    settings = {"moksha.monitoring.socket": report}
    with (
        running(StreamBus(sqlite_url(tmp_path), **settings)) as bus,
        zmq.Context() as made,
        made.socket(zmq.SUB) as sub,
    ):
        sub.subscribe(b"")
        sub.connect(report)
        with bus.confirming() as context:
            context.publish(topic="t", modname="m")
        wait_until(lambda: json.loads(sub.recv())["consumers"][0]["stream"]["stored"] == 1)


@pytest.mark.parametrize(
    ("limit", "is_kept"),
    [
        ({"relay_retention_messages": 100}, lambda found: found["messages"] == 100),
        ({"relay_retention_bytes": 20_000}, lambda found: 19_000 < found["bytes"] <= 20_000),
        ({"relay_retention_age": 1}, lambda found: found["messages"] == 0),
    ],
    ids=["messages", "bytes", "age"],
)
def test_relay_removes_what_retention_does_not_keep(
    limit: dict[str, int], is_kept: Callable[[dict[str, Any]], bool], tmp_path: Path
) -> None:
    with running(StreamBus(sqlite_url(tmp_path), **limit)) as bus:
        with bus.confirming() as context:
            assert list(context.publish_many({"topic": "t", "modname": "m"} for _ in range(5000)))[-1] == 5000
        wait_until(lambda: is_kept(bus.figures()))
        entries, first = bus.entries(), bus.figures()["first"]
        assert [entry.position for entry in entries] == list(range(first, 5001))
        assert sum(len(entry.topic) + len(entry.body) for entry in entries) == bus.figures()["bytes"]


def test_relay_keeps_a_database_in_wal_mode(bus: StreamBus, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "stream.db")
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


# ---------------------------------------------------------------- fedmsg-logger, fedmsg-announce


def test_logger_waits_for_the_confirm(bus: StreamBus) -> None:
    ended = bus.run("fedmsg-logger", "--confirm", "--message", "on disk")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert logs(bus.url) == ["on disk"]


def test_logger_sends_lines_ahead_of_their_confirms(bus: StreamBus) -> None:
    ended = bus.run("fedmsg-logger", "--confirm", stdin="".join(f"{number}\n" for number in range(5000)))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert logs(bus.url) == [str(number) for number in range(5000)]


def test_logger_without_a_relay_is_status_3(tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path), timeout=0.3) as bus:
        ended = bus.run("fedmsg-logger", "--confirm", stdin="a\nb\n")
    assert ended.returncode == 3
    assert len(ended.stderr.splitlines()) == 1
    assert "0 were confirmed before it" in ended.stderr


def test_logger_that_is_not_answered_is_status_4(tmp_path: Path) -> None:
    with running(StreamBus(sqlite_url(tmp_path), timeout=0.5)) as bus:
        other = sqlite3.connect(tmp_path / "stream.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        ended = bus.run("fedmsg-logger", "--confirm", "--message", "perhaps")
        other.execute("ROLLBACK")
        other.close()
        assert ended.returncode == 4
        assert len(ended.stderr.splitlines()) == 1
        wait_until(lambda: logs(bus.url) == ["perhaps"])


def test_logger_confirms_the_lines_before_one_that_can_not_be_sent(bus: StreamBus) -> None:
    ended = bus.run("fedmsg-logger", "--confirm", "--json-input", stdin='{"log": "1"}\n{"log": "2"}\nnonsense\n')
    assert ended.returncode == 2
    assert "line 3" in ended.stderr
    assert logs(bus.url) == ["1", "2"]


def test_logger_is_rejected_with_the_reason_and_status_1(tmp_path: Path) -> None:
    with (
        running(StreamBus(sqlite_url(tmp_path), max_message_size=2000)) as bus,
        StreamBus(bus.url, relay_confirmed=bus.confirmed) as other,
    ):
        ended = other.run("fedmsg-logger", "--confirm", stdin="short\n" + "x" * 3000 + "\n")
        assert ended.returncode == 1
        assert "max_message_size" in ended.stderr
        assert "1 were confirmed before it" in ended.stderr
        assert logs(bus.url) == ["short"]


def test_logger_that_is_interrupted_says_what_is_confirmed(bus: StreamBus) -> None:
    with Process(["fedmsg-logger", "--confirm"], env=bus.environ, stdin=True) as logger:
        assert logger.popen.stdin is not None
        logger.popen.stdin.write(b"one\n")
        logger.popen.stdin.flush()
        wait_until(lambda: logs(bus.url) == ["one"])
        assert logger.stop(signal.SIGINT) in {0, 8, 130}


def test_announce_waits_for_the_confirm(bus: StreamBus) -> None:
    ended = bus.run("fedmsg-announce", "--confirm", "--link", "https://example.com", stdin="hear, hear\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    (entry,) = bus.entries()
    assert json.loads(entry.body)["msg"] == {"message": "hear, hear", "link": "https://example.com"}
