# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counting for years: memory does not grow with categories, nor what a message costs with the numbers there are."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from fedmsg.hub.hooks import Received
from fedmsg.statscache import ledger
from tests.satellites.numbers import NOON, Numbers, counting, message

_BATCH = 1000
_MIB = 2**20


def distinct(first: int, last: int) -> list[Received]:
    """Return messages that each have a category and a topic of their own."""
    return [message(number, NOON, topic=f"org.x.dev.category{number}.sold") for number in range(first, last)]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace what is in memory, with so few messages remembered that this is constant from the first thousands on."""
    monkeypatch.setattr(ledger, "REMEMBERED", _BATCH)
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.soak
def test_memory_does_not_grow_with_categories(sqlite_url: str, traced: None, full_size: bool) -> None:
    everything = 100_000 if full_size else 12_000
    with counting(sqlite_url) as engine:
        sizes = {}
        for first in range(0, everything, _BATCH):
            engine.count(distinct(first, first + _BATCH))
            gc.collect()
            sizes[first] = tracemalloc.get_traced_memory()[0]
        # As a control, what 1,000 messages take while they are there.
        kept = distinct(0, _BATCH)
        assert tracemalloc.get_traced_memory()[0] - sizes[first] > _MIB / 4
        del kept
    assert sizes[first] - sizes[3 * _BATCH] < _MIB / 4
    with Numbers(sqlite_url) as numbers:
        assert numbers.count("stats_volume_by_category_1h") == everything


def test_cost_of_a_message_does_not_grow_with_the_numbers(sqlite_url: str) -> None:
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def steps_of(work: Callable[[], object]) -> int:
        nonlocal steps
        steps = 0
        work()
        return steps

    with counting(sqlite_url) as engine:
        sa.event.listen(engine.engine, "checkout", lambda raw, *_: raw.set_progress_handler(step, 100))

        def scan() -> None:
            with engine.engine.connect() as connection:
                connection.execute(sa.text("SELECT sum(scalar) FROM stats_volume_by_category_1h"))

        batch = distinct(0, 500)
        first, first_scan = steps_of(lambda: engine.count(batch)), steps_of(scan)
        # Numbers of many hours.
        with engine.engine.begin() as connection:
            for table in ("stats_volume_by_category_1h", "stats_volume_by_category_1d", "stats_volume_by_topic_1d"):
                connection.execute(
                    sa.text(
                        f"WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 49999)"
                        f" INSERT INTO {table} (timestamp, category, scalar)"
                        f" SELECT datetime(n % 100 * 3600, 'unixepoch'), 'category-' || n, 1 FROM n"
                    )
                )
        later = steps_of(lambda: engine.count(distinct(500, 1000)))
        assert first > 0
        assert later < 1.5 * first
        # The control: what does grow is seen to.
        assert steps_of(scan) > 20 * first_scan
