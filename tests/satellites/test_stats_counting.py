# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counting: the numbers are those of a recount, whatever comes twice, late, broken or not at all."""

from __future__ import annotations

import datetime as dt
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmsg.hub.hooks import Origin
from fedmsg.statscache import ledger
from tests.satellites.numbers import NOON, Edits, HoldingEdits, Numbers, counting, message, of_stream, recount

#: Where what is counted can be read again; nothing asks it here.
HISTORY = {"statscache.datagrepper.endpoint": "http://127.0.0.1:9/raw"}


@pytest.fixture
def numbers(database_url: str) -> Iterator[Numbers]:
    with Numbers(database_url) as made:
        yield made


def test_counting_has_the_numbers_of_a_recount(database_url: str, numbers: Numbers) -> None:
    dice = random.Random(1)
    messages = [message(number, NOON + dice.uniform(-2e5, 2e5)) for number in range(500)]
    with counting(database_url) as engine:
        assert engine.count(messages[:300]) == 300
        assert engine.count(messages[200:]) == 200
        assert engine.count(messages + messages) == 0
    numbers.check(messages)


def test_counting_goes_on_after_a_restart(database_url: str, numbers: Numbers) -> None:
    for start in range(0, 100, 10):
        with counting(database_url) as engine:
            engine.count([message(number) for number in range(max(0, start - 5), start + 10)])
    numbers.check(message(number) for number in range(100))


def test_position_of_a_stream_is_stored_with_the_numbers(database_url: str, numbers: Numbers) -> None:
    with counting(database_url) as engine:
        engine.count(of_stream(range(1, 50)))
        assert engine.count(of_stream(range(1, 50), "another")) == 0
    with counting(database_url) as engine:
        assert {(slot.progress.stream, slot.progress.position) for slot in engine.slots} == {("another", 49)}
        assert engine.count(of_stream(range(20, 60), "another")) == 10
    numbers.check(of_stream(range(1, 60)))


def test_time_that_can_not_be_is_that_of_the_arrival(database_url: str, numbers: Numbers) -> None:
    stored = NOON + 7200
    odd: list[Any] = [[], "noon", float("inf"), True, -1, 1e300, NOON + 1e6, {}, 10**400]
    messages = [message(number, moment, origin=Origin(stored=stored)) for number, moment in enumerate(odd)]
    with counting(database_url) as engine:
        assert engine.count(messages) == len(odd)
    assert numbers.read("stats_volume_1h") == {stored: len(odd)}


@pytest.mark.parametrize("topic", ["a\0b" * 9, "org.x.dev." + "long" * 900 + ".sold", "org.x.dev.\ud800.sold", "short"])
def test_topic_that_no_database_takes_is_counted(topic: str, database_url: str, numbers: Numbers) -> None:
    with counting(database_url) as engine:
        engine.count([message(1, topic=topic), message(2)])
        assert engine.totals() == {"lost": 0}
    assert numbers.total("stats_volume_by_topic_1d") == numbers.total("stats_volume_by_category_1d") == 2


# ---------------------------------------------------------------- plugins of others


def test_plugin_of_others_counts_exactly(database_url: str, numbers: Numbers) -> None:
    messages = of_stream(range(1, 200))
    with counting(database_url, Edits) as engine:
        engine.count(messages[:120])
    with counting(database_url, Edits) as engine:
        engine.count(messages[60:])
    assert numbers.read("edits") == recount(messages, 3600, by_category=True)


def test_plugin_that_raises_loses_that_message_for_itself_alone(
    database_url: str, numbers: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    class Choosy(Edits):
        name = "choosy"
        bad = 5

        def _made_model(self) -> Any:
            return type("Choosy", (Edits(None, {}).model.__bases__[0],), {"__tablename__": "choosy"})

    messages = [message(number) for number in range(10)]
    with counting(database_url, Edits, Choosy) as engine:
        engine.count(messages)
        assert engine.totals() == {"lost": 1}
    assert (numbers.total("edits"), numbers.total("choosy")) == (10, 9)
    assert [line for line in caplog.messages if "choosy-1h failed in process()" in line]


def test_plugin_whose_update_raises_loses_what_it_raises_for(database_url: str, numbers: Numbers) -> None:
    class Fragile(Edits):
        def update(self, session: Any) -> None:
            if any(category == "shop2" for _, category in self.counts):
                self.counts.clear()
                session.execute(sa.text("SELECT * FROM nowhere"))
            super().update(session)

    with counting(database_url, Fragile) as engine:
        engine.count([message(number) for number in range(9)])
        assert engine.totals() == {"lost": 3}
    assert Counter(category for _, category in numbers.read("edits").elements()) == {"shop0": 3, "shop1": 3}


def test_plugin_can_not_end_the_transaction(database_url: str, numbers: Numbers) -> None:
    class Ending(Edits):
        def update(self, session: Any) -> None:
            super().update(session)
            session.commit()
            session.add(self.model(timestamp=None, category=None, scalar=None))
            with pytest.raises(sa.exc.IntegrityError):
                session.commit()
            session.rollback()
            assert numbers.total("edits") == 0
            session.close()

    with counting(database_url, Ending) as engine:
        engine.count([message(number) for number in range(9)])
        assert engine.totals() == {"lost": 0}
    assert numbers.total("edits") == 9


def test_plugin_that_holds_back_counts_again_what_it_had_in_memory(database_url: str, numbers: Numbers) -> None:
    messages = [message(number, NOON + 600 * number, origin=Origin(is_past=True)) for number in range(18)]
    epoch = {"statscache.consumer.epoch": NOON, **HISTORY}
    with counting(database_url, HoldingEdits, **epoch) as engine:
        for one in messages[:15]:
            engine.count([one])
    # The third hour was in memory.
    assert numbers.total("edits") == 12
    with counting(database_url, HoldingEdits, **epoch) as engine:
        (slot,) = engine.slots
        # Its newest hour is counted again, and what came after.
        assert slot.since == NOON + 3600
        engine.count(messages)
        engine.count([message(99, NOON + 4 * 3600)])
    assert numbers.read("edits") == recount(messages, 3600, by_category=True)


def test_plugin_that_holds_back_keeps_what_can_not_be_counted_again(database_url: str, numbers: Numbers) -> None:
    messages = [message(number, NOON + 600 * number) for number in range(15)]
    with counting(database_url, HoldingEdits) as engine:
        engine.count(messages)
    with counting(database_url, HoldingEdits) as engine:
        engine.count([message(99, NOON + 3 * 3600), message(100, NOON + 4 * 3600)])
    # What was in memory is lost, and no more than that.
    assert numbers.read("edits") == recount([*messages[:12], message(99, NOON + 3 * 3600)], 3600, by_category=True)


def test_plugin_can_not_end_the_transaction_of_its_start(database_url: str, numbers: Numbers) -> None:
    class Starting(Edits):
        def launch(self, session: Any) -> None:
            session.commit()
            session.execute(sa.text("SELECT 1"))
            session.rollback()

        def revert(self, when: dt.datetime, session: Any) -> None:
            super().revert(when, session)
            session.commit()
            session.close()

        def latest(self, session: Any) -> dt.datetime | None:
            session.rollback()
            return super().latest(session)

    class Broken(Starting):
        name = "broken"

        def launch(self, session: Any) -> None:
            super().launch(session)
            session.execute(self.model.__table__.delete())
            session.commit()
            raise ValueError("not today")

    with counting(database_url, Edits) as engine:
        engine.count([message(1)])
        with engine.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM statscache_progress"))
    # What it has written before it failed is undone.
    with counting(database_url, Broken) as engine:
        assert not engine.slots
    assert numbers.total("edits") == 1
    with counting(database_url, Starting) as engine:
        assert numbers.total("edits") == 0
        engine.count([message(2), message(3)])
    assert numbers.total("edits") == 2


def test_plugin_that_can_not_be_launched_is_left_out(database_url: str, numbers: Numbers) -> None:
    class Broken(Edits):
        name = "broken"

        def launch(self, session: Any) -> None:
            session.execute(sa.text("SELECT * FROM nowhere"))

    with counting(database_url, Broken, Edits) as engine:
        assert [slot.ident for slot in engine.slots] == ["edits-1h"]
        engine.count([message(1)])
    assert numbers.total("edits") == 1


def test_rows_of_another_program_are_gone_on_with(database_url: str, numbers: Numbers) -> None:
    hour = dt.datetime.fromtimestamp(NOON, dt.timezone.utc).replace(tzinfo=None)
    with counting(database_url, Edits) as engine, engine.engine.begin() as connection:
        table = engine.slots[0].plugin.model.__table__
        rows = [(hour - dt.timedelta(hours=1), 7), (hour, 3)]
        connection.execute(table.insert(), [{"timestamp": one, "category": "shop0", "scalar": n} for one, n in rows])
        connection.execute(sa.text("DELETE FROM statscache_progress"))
    with counting(database_url, Edits) as engine:
        assert engine.slots[0].since == NOON
        past = [message(number, NOON - 5 + number, origin=Origin(is_past=True)) for number in range(20)]
        engine.count(past)
    assert numbers.read("edits")[NOON - 3600, "shop0"] == 7
    assert sum(n for (moment, _), n in numbers.read("edits").items() if moment == NOON) == 15


def test_new_plugin_begins_at_the_epoch(database_url: str, numbers: Numbers) -> None:
    class Late(Edits):
        backlog_delta = dt.timedelta(days=1)

    with counting(database_url, **{"statscache.consumer.epoch": "2026-05-01"}) as engine:
        assert {slot.since for slot in engine.slots} == {NOON - 43200}
    with counting(database_url, Late, **{"statscache.consumer.epoch": dt.datetime(2026, 5, 1)}) as engine:  # noqa: DTZ001
        # No further back than it wants to.
        since = engine.slots[0].since
        assert since is not None
        assert since == pytest.approx(time.time() - 86400, abs=60)


@pytest.mark.parametrize(("ago", "count"), [(1800, 1), (-1, 2)], ids=["before the first start", "control"])
def test_without_an_epoch_what_was_before_the_first_start_is_not_missed(
    ago: float, count: int, database_url: str, numbers: Numbers
) -> None:
    now = time.time()
    with counting(database_url, Edits) as engine:
        assert engine.slots[0].since is None
        engine.count([message(0, now)])
    with counting(database_url, Edits) as engine:
        assert engine.slots[0].since is not None
        engine.count([message(7, now - ago, origin=Origin(is_past=True))])
    assert sum(numbers.read("edits").values()) == count


# ---------------------------------------------------------------- transactions


def test_two_programs_count_each_message_once(database_url: str, numbers: Numbers) -> None:
    messages = [message(number) for number in range(60)]
    with counting(database_url) as one, counting(database_url) as two:
        for start in range(0, 60, 20):
            one.count(messages[start : start + 20])
            two.count(messages[start : start + 20])
    numbers.check(messages)


def test_transaction_that_fails_changes_nothing(database_url: str, numbers: Numbers) -> None:
    class Failing(Edits):
        fails = True

        def update(self, session: Any) -> None:
            super().update(session)
            if type(self).fails:
                # What no savepoint holds up.
                raise KeyboardInterrupt

    messages = [message(number) for number in range(20)]
    with counting(database_url, Failing) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.count(messages[:10])
        Failing.fails = False
        engine.count(messages)
    assert numbers.read("edits") == recount(messages, 3600, by_category=True)


def test_ledger_is_bounded(database_url: str, numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "REMEMBERED", 50)
    epoch = {"statscache.consumer.epoch": NOON}
    with counting(database_url, **epoch) as engine:
        for start in range(0, 400, 20):
            engine.count([message(number) for number in range(start, start + 20)])
        assert numbers.count("statscache_counted") <= 4
    with counting(database_url, **epoch) as engine:
        # What may be counted and is not remembered is not asked for again.
        assert {slot.progress.pruned for slot in engine.slots} == {NOON + 319}
        assert {slot.since for slot in engine.slots} == {math.nextafter(NOON + 319, math.inf)}
    numbers.check(message(number) for number in range(400))


def test_second_look_counts_nothing_twice(database_url: str, numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "REMEMBERED", 50)
    past = [message(number, origin=Origin(is_past=True)) for number in range(200)]
    with counting(database_url, **{"statscache.consumer.epoch": NOON - 7200}) as engine:
        for start in range(0, 180, 20):
            engine.count(past[start : start + 20 : 2])
        engine.look_again(NOON)
        # Live ones take the place of those that are remembered while it looks.
        for start in range(180, 200, 10):
            engine.count([message(number) for number in range(start, start + 10)])
        engine.count([message(number, NOON - 4000, origin=Origin(is_past=True)) for number in (800, 801)])
        pruned = engine.slots[0].progress.pruned
        assert NOON < pruned < NOON + 180
        counted = past[:180:2] + past[180:]
        late = [one for one in past[1:180:2] if one["body"]["timestamp"] > pruned]
        assert engine.count(past) == len(late) > 0
        assert engine.count(past) == 0
    numbers.check(counted + late)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=12), min_size=1, max_size=8))
def test_any_order_has_the_numbers_of_a_recount(tmp_path_factory: pytest.TempPathFactory, rounds: Any) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('any') / 'numbers.db'}"
    seen = []
    for one in rounds:
        # Each round ends the program.
        with counting(url) as engine:
            for number, hour in one:
                seen.append(message(number * 4 + hour, NOON + 3600 * hour))
                engine.count(seen[-1:])
            engine.count(seen)
    with Numbers(url) as numbers:
        numbers.check(seen)
