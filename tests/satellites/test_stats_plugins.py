# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plugins are made of, and the ones that are there from the start."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import fedmsg.meta
from fedmsg.exceptions import ConfigError
from fedmsg.hub.hooks import Origin
from fedmsg.statscache import configuration, utils
from fedmsg.statscache.plugins import (
    AsyncPlugin,
    BasePlugin,
    Future,
    Queue,
    ScalarModel,
    Schedule,
    asynchronous,
    asynchronous_plugin,
)
from fedmsg.statscache.shipped.active import ActiveUsers
from fedmsg.testing import wait_until
from tests.datagrepper_server import DatagrepperServer
from tests.datagrepper_server import message as envelope
from tests.hubs import install
from tests.satellites.numbers import Edits, Numbers, counting, message, schedule_of
from tests.unit import plugins

EPOCH = dt.datetime(2020, 1, 1)  # noqa: DTZ001 as the columns have it
ODD = dt.timedelta(days=1, hours=2, minutes=3, seconds=4)


# ---------------------------------------------------------------- schedule


def test_schedule_has_the_parts_of_its_interval() -> None:
    made = Schedule(ODD, EPOCH)
    assert (made.days, made.hours, made.minutes, made.seconds, str(made)) == (1, 2, 3, 4, "1d2h3m4s")
    assert [str(Schedule(one)) for one in (dt.timedelta(0), dt.timedelta(minutes=5))] == ["0s", "5m"]
    assert 0 < float(Schedule(ODD, dt.datetime.now() - ODD / 2)) < 2 * ODD.total_seconds()  # noqa: DTZ005


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (EPOCH, EPOCH),
        (EPOCH + ODD - dt.timedelta(microseconds=1), EPOCH),
        (EPOCH + ODD, EPOCH + ODD),
        (EPOCH - dt.timedelta(hours=1), EPOCH - ODD),
        (EPOCH.replace(tzinfo=dt.timezone(dt.timedelta(hours=5))), EPOCH - ODD),
    ],
    ids=["epoch", "just before", "boundary", "before the epoch", "with a zone"],
)
def test_schedule_has_times_around_now(now: dt.datetime, last: dt.datetime) -> None:
    made = Schedule(ODD, EPOCH)
    assert (made.last(now=now), made.next(now=now)) == (last, last + ODD)
    assert dt.timedelta(0) < made.time_to_fire(now=now) <= ODD


@pytest.mark.parametrize("arguments", [(5, EPOCH), (ODD, 5), (None, EPOCH), (ODD, "2020")], ids=repr)
def test_schedule_rejects_other_types(arguments: Any) -> None:
    with pytest.raises(TypeError):
        Schedule(*arguments)
    with pytest.raises(ValueError, match="positive"):
        Schedule(-ODD, EPOCH)


# ---------------------------------------------------------------- the base class


def test_plugin_has_an_ident() -> None:
    class Named(Edits):
        name = "My 'Big' (nice) Plug*in & ?,\"q_U"

    assert Named(Schedule(dt.timedelta(minutes=1)), {}).ident == "my-big-nice-plugin--q_u-1m"
    assert Named(None, {}).ident == "my-big-nice-plugin--q_u"


@pytest.mark.parametrize("attribute", ["name", "summary", "description"])
def test_plugin_without_a_description_is_rejected(attribute: str) -> None:
    lacking = type("Lacking", (Edits,), {attribute: None})
    with pytest.raises(ValueError, match=f"must define '{attribute}'"):
        lacking(None, {})


def test_plugin_without_a_model_gets_one(database_url: str) -> None:
    class Plain(BasePlugin):
        name, summary, description = "plain numbers", "s", "d"
        interval = dt.timedelta(days=1)

    with counting(database_url, Plain) as engine:
        plugin = engine.slots[0].plugin
        assert issubclass(plugin.model, ScalarModel)
        assert plugin.model.__tablename__ == "data_plain_numbers_1d"
        with sa.orm.Session(engine.engine) as session:
            assert plugin.latest(session) is None
            session.add_all([plugin.model(timestamp=EPOCH + n * ODD, scalar=n) for n in range(4)])
            assert plugin.latest(session) == EPOCH + 3 * ODD
            plugin.revert(EPOCH + 2 * ODD, session)
            assert plugin.latest(session) == EPOCH + ODD
        with pytest.raises(NotImplementedError):
            plugin.process({})
        with pytest.raises(NotImplementedError):
            plugin.update(None)


# ---------------------------------------------------------------- what comes later


def test_future_calls_those_who_wait() -> None:
    seen: list[Any] = []
    future = Future(on_success=[seen.append])
    future.on_failure(lambda error: seen.append("failed"))
    future.fire(3)
    future.on_success(seen.append)
    assert seen == [3, 3]
    with pytest.raises(Future.AlreadyResolvedError):
        future.fire(4)
    Future.failure(KeyError("x"), on_failure=[lambda error: seen.append(type(error))])
    source = Future()
    Future(source, on_success=[seen.append])
    source.fire("from the source")
    left = Future(on_failure=[lambda error: seen.append(type(error))])
    left.quit()
    assert seen[2:] == [KeyError, "from the source", Future.CancellationError]


def test_function_is_called_in_a_thread() -> None:
    seen: list[Any] = []

    @asynchronous
    def double(number: int) -> tuple[int, int]:
        return number * 2, threading.get_ident()

    double(4).on_success(seen.append)
    Future.compute(lambda: 1 / 0, on_failure=[lambda error: seen.append(type(error))])
    wait_until(lambda: len(seen) == 2)
    found = next(one for one in seen if isinstance(one, tuple))
    assert found[0] == 8
    assert found[1] != threading.get_ident()
    assert ZeroDivisionError in seen


def test_queue_has_limits_on_both_sides() -> None:
    seen: list[Any] = []
    queue = Queue(size=1, backlog=1)
    queue.dequeue().on_success(seen.append)
    with pytest.raises(Queue.UnderflowError):
        queue.dequeue()
    queue.enqueue(1)
    queue.enqueue(2)
    with pytest.raises(Queue.OverflowError):
        queue.enqueue(3)
    queue.dequeue().on_success(seen.append)
    assert seen == [1, 2]


def test_async_plugin_works_in_threads(database_url: str) -> None:
    done: list[Any] = []

    class Slow(AsyncPlugin):
        name, summary, description = "slow", "s", "d"
        workers = 2

        def fill(self, session: Any) -> Any:
            return ["left by the last run"]

        def process(self, message: Any) -> None:
            self.enqueue(message["msg"]["n"])

        def work(self, item: Any) -> None:
            done.append((item, threading.current_thread().name))
            if item == 1:
                raise ValueError("this is logged")

        def update(self, session: Any) -> None:
            pass

    with counting(database_url, Slow) as engine:
        engine.count([message(1), message(2)])
        wait_until(lambda: len(done) == 3)
        plugin = engine.slots[0].plugin
    assert {item for item, _ in done} == {"left by the last run", 1, 2}
    assert all(name.startswith("fedmsg-Slow-") for _, name in done)
    plugin.close()
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("fedmsg-Slow-")])


@pytest.mark.parametrize("is_stuck", [True, False], ids=["stuck", "control"])
def test_async_plugin_that_is_stuck_does_not_stop_the_hub(
    is_stuck: bool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asynchronous_plugin, "_WAITING_MAX", 5)
    monkeypatch.setattr(asynchronous_plugin, "_ENQUEUE_TIMEOUT_S", 0.2 if is_stuck else 60)
    goes_on, done = threading.Event(), []

    class Stuck(AsyncPlugin):
        name, summary, description = "stuck", "s", "d"
        workers = 1

        def process(self, message: Any) -> None:
            self.enqueue(message["msg"]["n"])

        def work(self, item: Any) -> None:
            goes_on.wait()
            done.append(item)

        def update(self, session: Any) -> None:
            pass

    with counting(database_url, Stuck, Edits) as engine:
        if not is_stuck:
            goes_on.set()
        engine.count([message(number) for number in range(50)])
        goes_on.set()
        wait_until(lambda: engine.slots[0].plugin.pending == 0)
        # What had no room is lost for this plugin, and counted; when work goes on, so does it.
        lost = engine.totals()["lost"]
        assert 43 <= lost <= 45 if is_stuck else lost == 0
        engine.count([message(60)])
        wait_until(lambda: len(done) == 51 - lost)
        assert done[-1] == 60
    with Numbers(database_url) as numbers:
        assert numbers.total("edits") == 51


# ---------------------------------------------------------------- which there are


def test_plugins_are_those_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = """
from tests.satellites.numbers import Edits
class Broken(Edits):
    name = None
class Volume(Edits):
    name = "volume"
    def _made_model(self):
        return type("V", (Edits(None, {}).model.__bases__[0],), {"__tablename__": "other_volume"})
many = (kind for kind in (Edits, Broken, Volume))
"""
    points = {"statscache.plugin": ["many = numbers_of_others:many", "gone = nowhere:Plugin"]}
    monkeypatch.syspath_prepend(str(install(tmp_path, "others", {"numbers_of_others.py": text}, points)))
    for _ in range(2):
        made = {one.ident: type(one).__module__ for one in utils.init_plugins({})}
        assert made["edits-1h"] == "tests.satellites.numbers"
        assert made["volume-1h"] == "numbers_of_others"
        assert made["volume-1d"] == "fedmsg.statscache.shipped.volume"
    assert [line for line in caplog.messages if "nowhere" in line]
    assert [line for line in caplog.messages if "Broken" in line and "must define 'name'" in line]


def test_datagrep_yields_all_of_a_time_page_by_page() -> None:
    messages = [envelope(number, 1_700_000_000 + number) for number in range(25)]
    fails = lambda handler, query, number: number == 1 and (handler.answer(503, {}) or True)  # noqa: E731
    start = dt.datetime.fromtimestamp(1_700_000_000, dt.timezone.utc)
    with DatagrepperServer(messages, fails) as server:
        found = list(utils.datagrep(start, start + dt.timedelta(seconds=19), True, 8, server.url))
    assert [len(some) for some in found] == [8, 8, 4]
    assert [one["msg_id"] for some in found for one in some] == [one["msg_id"] for one in messages[:20]]
    with pytest.raises(ValueError, match="quantum"):
        next(utils.datagrep(start, start, quantum=0))


def test_consumer_of_a_hub_is_found() -> None:
    class Hub:
        consumers: tuple[Any, ...] = ()

    with pytest.raises(ValueError, match=r"statscache\.consumer\.enabled"):
        utils.find_stats_consumer(Hub())


@pytest.mark.parametrize("value", ["soon", [], float("nan"), 1e300, True], ids=repr)
def test_epoch_that_is_no_time_is_rejected(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"statscache\.consumer\.epoch is .*; write"):
        configuration.epoch({"statscache.consumer.epoch": value})


@pytest.mark.parametrize("value", [0, "5", -1, float("nan"), float("inf"), dt.timedelta(0)], ids=repr)
def test_frequency_that_is_no_time_is_rejected(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"statscache\.producer\.frequency is .*; write"):
        configuration.frequency({"statscache.producer.frequency": value})
    assert configuration.frequency({"statscache.producer.frequency": dt.timedelta(seconds=2)}) == 2


# ---------------------------------------------------------------- the ones that are there


def users_of(envelope: Any) -> set[str]:
    """Return the users of a message of these tests."""
    return set(envelope["msg"]["users"])


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plugins.make("shop", usernames=lambda self, msg, **config: users_of(msg))
    monkeypatch.setattr(fedmsg.meta, "processors", [made])


def test_most_active_are_those_of_the_last_week(database_url: str, users: None) -> None:
    now = time.time()
    week, messages = 7 * 86400, []
    for number in range(300):
        when, origin = now - number * week / 150, Origin(stored=now)
        one = message(number, when, topic="org.fedoraproject.dev.shop.sold", origin=origin)
        one["body"]["msg"]["users"] = [f"user{number % 7}"] * (number < 290) + ["everybody"]
        messages.append(one)
    with counting(database_url, ActiveUsers) as engine, Numbers(database_url) as numbers:
        engine.count(messages)
        engine.refresh()
        start = (now // 3600 + 1) * 3600 - week
        wanted = Counter(
            user for one in messages if one["body"]["timestamp"] >= start for user in set(one["body"]["msg"]["users"])
        )
        assert {user: number for (_, user), number in numbers.read("stats_top_most_active_users").items()} == wanted
        assert {moment for moment, _ in numbers.read("stats_top_most_active_users")} == {start}
        assert min(moment for moment, _ in numbers.read("stats_most_active_users")) >= start
        assert engine.slots[0].ident == "most-active-users"
        assert schedule_of(ActiveUsers) is not None


def test_users_are_those_that_the_plugins_of_messages_know(database_url: str, users: None) -> None:
    messages = [message(number, topic="org.fedoraproject.dev.shop.sold") for number in range(12)]
    for number, one in enumerate(messages):
        one["body"]["msg"]["users"] = [f"user{number % 3}", "everybody"]
    with counting(database_url) as engine, Numbers(database_url) as numbers:
        engine.count(messages)
        found = {user: number for (_, user), number in numbers.read("stats_volume_by_user_1d").items()}
        assert found == {"user0": 4, "user1": 4, "user2": 4, "everybody": 12}
        assert numbers.total("stats_volume_by_package_1d") == 0
