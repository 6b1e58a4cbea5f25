# SPDX-License-Identifier: LGPL-2.1-or-later
"""The power is cut at any moment: all that was confirmed is in what was on disk."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.faults.conftest import Figures
from tests.postgres import Cluster
from tests.power_cut import Action, files_after_cut, recorded, recording
from tests.stream_relays import StreamBus, number_of, running, sqlite_url, stored_in

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def published(bus: StreamBus, count: int, size: int) -> list[tuple[float, int]]:
    """Publish numbers with confirms; return when each was confirmed, and its position."""
    confirmed: list[tuple[float, int]] = []
    with bus.confirming(publish_window=20, timeout=60) as context:
        # One by one, and many at a time.
        for number in range(count // 10):
            context.publish(topic="t", modname="m", msg={"n": number, "filler": "x" * size})
            confirmed.append((time.time(), number + 1))
        rest = range(count // 10, count)
        found = context.publish_many(
            {"topic": "t", "modname": "m", "msg": {"n": number, "filler": "x" * size}} for number in rest
        )
        confirmed.extend((time.time(), position) for position in found)
    return confirmed


def moments(confirmed: list[tuple[float, int]], chance: random.Random, count: int) -> Iterator[float]:
    """Yield moments: right after confirms, and any."""
    for number in range(count):
        yield chance.choice(confirmed)[0] if number % 2 else chance.uniform(confirmed[0][0], confirmed[-1][0])


def check(url: str, confirmed: list[tuple[float, int]], moment: float) -> int:
    """Check that a store has what was confirmed until a moment; return how many messages it has."""
    stored = stored_in(url)
    assert [entry.position for entry in stored] == list(range(1, len(stored) + 1))
    assert [number_of(entry.body) for entry in stored] == list(range(len(stored)))
    assert len(stored) >= max((position for when, position in confirmed if when <= moment), default=0)
    return len(stored)


def syncs(actions: list[Action]) -> int:
    """Return how often something was synced."""
    return sum(action.is_sync for action in actions)


def note(figures: Figures, store: str, cuts: int, count: int, actions: list[Action]) -> None:
    """Add a row to the table of figures."""
    what, remarks = f"power cut at {cuts} moments, {store}", f"{syncs(actions)} syncs"
    figures(what, sent=count, arrived=count, lost=0, remarks=remarks)


def test_sqlite(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    # Enough for checkpoints, in which the file itself is written.
    count, cuts = (5000, 400) if full_size else (1500, 8)
    folder, before = tmp_path / "store", tmp_path / "before"
    folder.mkdir()
    with running(StreamBus(sqlite_url(folder))) as bus:
        assert bus.relay is not None
        with recording([bus.relay.popen.pid], tmp_path / "trace"):
            shutil.copytree(folder, before)
            confirmed = published(bus, count, 5000)
    actions = recorded(tmp_path / "trace", folder)
    assert syncs(actions) > count // 10
    assert {action.path.name for action in actions if action.is_sync} >= {"stream.db", "stream.db-wal"}
    chance = random.Random(1)
    for number, moment in enumerate(moments(confirmed, chance, cuts)):
        target = tmp_path / "after"
        files_after_cut(actions, before, target, moment, chance if number % 3 else None)
        check(sqlite_url(target), confirmed, moment)
        shutil.rmtree(target)
    figures(
        f"power cut at {cuts} moments, sqlite", sent=count, arrived=count, lost=0, remarks=f"{syncs(actions)} syncs"
    )


def test_a_store_that_is_not_synced_is_found_out(tmp_path: Path) -> None:
    """The control: without its syncs what was confirmed is not there."""
    folder, before = tmp_path / "store", tmp_path / "before"
    folder.mkdir()
    with running(StreamBus(sqlite_url(folder))) as bus:
        assert bus.relay is not None
        with recording([bus.relay.popen.pid], tmp_path / "trace"):
            shutil.copytree(folder, before)
            confirmed = published(bus, 50, 100)
    actions = [action for action in recorded(tmp_path / "trace", folder) if not action.is_sync]
    files_after_cut(actions, before, tmp_path / "after", confirmed[-1][0], None)
    with pytest.raises(AssertionError):
        check(sqlite_url(tmp_path / "after"), confirmed, confirmed[-1][0])


def test_postgresql(tmp_path: Path, figures: Figures, full_size: bool) -> None:
    count, cuts = (2000, 60) if full_size else (200, 2)
    with Cluster(durable=True) as cluster, running(StreamBus(cluster.create())) as bus:
        before = tmp_path / "before"
        with recording(cluster.processes(), tmp_path / "trace"):
            cluster.checkpoint()
            copied = time.time()
            shutil.copytree(cluster.data, before)
            confirmed = published(bus, count, 500)
        actions = [action for action in recorded(tmp_path / "trace", cluster.data) if action.begin > copied]
        assert any(action.is_sync and action.path.parts[0] == "pg_wal" for action in actions)
        chance = random.Random(1)
        for number, moment in enumerate(moments(confirmed, chance, cuts)):
            target = tmp_path / "after"
            files_after_cut(actions, before, target, moment, chance if number % 3 else None)
            with Cluster(durable=True, data=target) as again:
                check(again.url(bus.url.rpartition("/")[2]), confirmed, moment)
            shutil.rmtree(target, ignore_errors=True)
    figures(
        f"power cut at {cuts} moments, postgresql", sent=count, arrived=count, lost=0, remarks=f"{syncs(actions)} syncs"
    )
