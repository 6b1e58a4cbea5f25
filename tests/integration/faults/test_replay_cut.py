# SPDX-License-Identifier: LGPL-2.1-or-later
"""A listener that is cut off gets every message, in order and once, by asking for what it missed."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import wait_until
from tests.integration.faults.conftest import Figures
from tests.integration.faults.cut import AioScene, Scene, check_all, scene, signing_of
from tests.integration.faults.ground import until_more


@pytest.fixture(params=["unsigned", "signed"])
def signing(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Give the settings for plain messages, and for signed and checked ones."""
    return {} if request.param == "unsigned" else signing_of(tmp_path / "pki")


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_a_cut_listener(
    signing: dict[str, Any], database_url: str, tmp_path: Path, figures: Figures, full_size: bool
) -> None:
    cut_for = 10_000 if full_size else 1_000
    # What is silent for so long is given up, and what was under way to it with it. Shorter than the cut.
    ivl = 5000 if full_size else 300
    with scene(Scene, database_url, tmp_path, zmq_heartbeat_ivl=ivl, **signing) as made:
        made.cut()
        made.until_stored(cut_for)
        made.mend()
        until_more(made.got, cut_for)
        arrived = check_all(made.got, made.finish())
        assert made.counts["replayed"] > 0
        assert made.counts["lost"] == 0
        assert made.server.stop() == 0, made.server.report()
    figures(
        f"cut for {cut_for} messages, {'signed' if signing else 'unsigned'}, {database_url.partition(':')[0]}",
        sent=arrived, arrived=arrived, lost=0, exits=0, remarks=f"{made.counts['replayed']} replayed",
    )  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_a_cut_listener_in_a_loop(
    signing: dict[str, Any], sqlite_url: str, tmp_path: Path, figures: Figures, full_size: bool
) -> None:
    cut_for = 10_000 if full_size else 1_000
    ivl = 5000 if full_size else 300
    with scene(AioScene, sqlite_url, tmp_path, zmq_heartbeat_ivl=ivl, **signing) as made:
        made.cut()
        made.until_stored(cut_for)
        made.mend()
        until_more(made.got, cut_for)
        arrived = check_all(made.got, made.finish())
        assert made.counts["replayed"] > 0
        assert made.counts["lost"] == 0
    figures(
        f"aio cut for {cut_for} messages, {'signed' if signing else 'unsigned'}",
        sent=arrived, arrived=arrived, lost=0, exits=0, remarks=f"{made.counts['replayed']} replayed",
    )  # fmt: skip


@pytest.mark.soak
def test_the_replay_server_is_killed_in_the_middle(
    sqlite_url: str, tmp_path: Path, figures: Figures, full_size: bool
) -> None:
    kills = 20 if full_size else 1
    with scene(Scene, sqlite_url, tmp_path, zmq_heartbeat_ivl=300, timeout=30) as made:
        for _ in range(kills):
            made.links[0].cut()
            made.until_stored(1000)
            made.server.popen.send_signal(signal.SIGKILL)
            made.server.wait()
            # It asks a server that is not there, and again when it is back.
            made.counts["asked"] = 0
            made.links[0].mend()
            wait_until(lambda: made.counts["asked"])
            made.restart_server()
            made.until_stored(100)
        arrived = check_all(made.got, made.finish())
        assert made.counts["lost"] == 0
    figures(f"replay server killed and started {kills} times", sent=arrived, arrived=arrived, lost=0, exits=0)


@pytest.mark.soak
def test_without_a_replay_server_the_stream_goes_on(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scene(Scene, sqlite_url, tmp_path, zmq_heartbeat_ivl=300, timeout=1) as made:
        # It takes connections and never says a word.
        made.links[1].cut()
        made.links[0].cut()
        made.until_stored(1000)
        made.links[0].mend()
        wait_until(lambda: made.counts["lost"])
        until_more(made.got, 100)
        made.links[1].mend()
        made.finish()
    numbers = [message["seq_id"] for message in made.got]
    assert sorted(set(numbers)) == numbers
    assert made.counts["lost"] == numbers[-1] - numbers[0] + 1 - len(numbers)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == made.counts["failed"]
    assert "did not answer within" in lines[0]
