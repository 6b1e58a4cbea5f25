# SPDX-License-Identifier: LGPL-2.1-or-later
"""What watches a stream: fedmsg-check --stream, and the metrics of a relay."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmsg.stream.log import Cursor, StreamLog
from fedmsg.testing import free_port, wait_until
from tests.stream_relays import StreamBus, filled, leave_name, running, sqlite_url


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with filled(sqlite_url(tmp_path)) as made:
        yield made


def test_check_compares_the_lag(bus: StreamBus) -> None:
    leave_name(bus, "shop", 2)
    leave_name(bus, "mail", 5)
    well = bus.run("fedmsg-check", "--stream", "--max-lag", "3")
    assert (well.returncode, well.stderr) == (0, "")
    title, _, rows = well.stdout.partition("\n")
    assert title == "All durable subscriptions are well!"
    assert {row["name"]: row["lag"] for row in json.loads(rows)} == {"shop": 3, "mail": 0}
    behind = bus.run("fedmsg-check", "--stream", "--max-lag", "2")
    assert (behind.returncode, behind.stdout) == (1, "")
    assert behind.stderr == '"shop" is 3 messages behind!\nError: Some durable subscriptions are too far behind!\n'
    named = bus.run("fedmsg-check", "--stream", "--max-lag", "0", "--durable", "mail")
    assert (named.returncode, named.stderr) == (0, "")
    missing = bus.run("fedmsg-check", "--stream", "--durable", "mail", "--durable", "x", "--max-lag", "9")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == '"x" is not there!\nError: Some durable subscriptions are missing!\n'
    alone = bus.run("fedmsg-check", "--stream")
    assert alone.returncode == 0
    assert alone.stdout.startswith("The relay answers.\n")


def test_check_of_a_relay_that_is_away_is_status_3(tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus:
        ended = bus.run("fedmsg-check", "--stream", "--max-lag", "3", "--timeout", "1")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("Error: tcp://127.0.0.1:")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--max-lag", "1"], ["--durable", "x"], ["--stream", "-c", "A"], ["--stream", "-p", "A"],
     ["--stream", "--max-lag", "-1"], ["--stream", "--max-lag", "x"]],
)  # fmt: skip
def test_check_of_a_stream_that_makes_no_sense_is_status_2(arguments: list[str], tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus:
        ended = bus.run("fedmsg-check", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("fedmsg_stream")}


def test_metrics_have_the_figures_of_the_stream(tmp_path: Path) -> None:
    port = free_port()
    with filled(sqlite_url(tmp_path), metrics_port=port) as bus:
        leave_name(bus, 'nächt"lich', 2)
        assert bus.run("fedmsg-stream", "prune", "--until", "1").returncode == 0
        wait_until(lambda: metrics(port).get("fedmsg_stream_first_position") == 2)
        size = sum(len(entry.topic) + len(entry.body) for entry in bus.entries())
        wait_until(lambda: 'fedmsg_stream_durable_lag{name="nächt\\"lich"}' in metrics(port))
        found = metrics(port)
    assert found['fedmsg_stream_durable_lag{name="nächt\\"lich"}'] == 3
    assert (found["fedmsg_stream_newest_position"], found["fedmsg_stream_messages"]) == (5, 4)
    assert (found["fedmsg_stream_bytes"], found["fedmsg_stream_durable"]) == (size, 1)


def test_metrics_of_many_durable_subscriptions_are_bounded(tmp_path: Path) -> None:
    url, port = sqlite_url(tmp_path), free_port()
    with filled(url):
        pass
    with StreamLog(url) as log:
        log.save_cursors([Cursor(f"n{number}", 5 * (number > 10), 1.0, "") for number in range(2000)])
    with running(StreamBus(url, metrics_port=port)):
        wait_until(lambda: metrics(port).get("fedmsg_stream_durable") == 2000)
        found = metrics(port)
    lags = [value for name, value in found.items() if name.startswith("fedmsg_stream_durable_lag")]
    assert len(lags) == 100
    assert sorted(lags, reverse=True)[:12] == [5] * 11 + [0]
