# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of messages when a hub stops, when its queues are full, and when nobody can handle them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg._util.service import Waker
from fedmsg.hub import Consumer, Hub, PollingProducer, ZMQMessage
from fedmsg.hub.consumer import runner_of
from fedmsg.testing import wait_until
from tests.hubs import Feed, Taker, envelope, taker


@pytest.fixture
def feed() -> Iterator[Feed]:
    with Feed() as made:
        yield made


class Gate:
    """Holds consumers in `consume` until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = threading.Event()

    def consumer(self, **members: Any) -> type[Taker]:
        """Make a class of consumers that wait here with each message."""

        def consume(taken: Taker, message: Any) -> None:
            self.inside.set()
            self.open.wait(30)
            Taker.consume(taken, message)

        return taker(consume=consume, **members)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


def files(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Give what was written into a folder: for each file the messages in it."""
    return {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.rglob("*")
        if path.is_file()
    }


def said(rows: list[dict[str, Any]]) -> list[Any]:
    """Give what messages in a file say."""
    return [json.loads(row["body"])["msg"] for row in rows]


# ---------------------------------------------------------------- stopping


def test_what_waits_is_handled_when_there_is_time(feed: Feed, gate: Gate) -> None:
    hub = Hub({**feed.config, "stop_timeout": 30}, [gate.consumer()], [])
    with hub:
        feed.wait()
        for number in range(100):
            feed.send("shop", number)
        wait_until(lambda: hub.consumers[0].incoming.received == 100)
        threading.Timer(0.05, gate.open.set).start()
        outcome = hub.stop()
    assert (outcome.left, outcome.kept, outcome.stuck) == ({}, True, [])
    assert hub.consumers[0].said == list(range(100))


def test_the_one_in_hand_is_finished_and_the_rest_kept(feed: Feed, tmp_path: Path) -> None:
    def consume(self: Taker, message: Any) -> None:
        # Work of some length.
        threading.Event().wait(0.05)
        self.taken.append(message)

    kind = taker(consume=consume, name="Slow")
    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 1}
    with Hub(settings, [kind], []) as hub:
        feed.wait()
        for number in range(50):
            feed.send("shop", number)
        wait_until(lambda: hub.consumers[0].incoming.received == 50 and hub.consumers[0].taken)
        outcome = hub.stop()
        handled = hub.consumers[0].said
    assert handled == list(range(len(handled)))
    assert outcome.stuck == []
    (rows,) = files(tmp_path).values()
    # Not one is missing, and not one there twice.
    assert handled + said(rows) == list(range(50))
    assert outcome.left == {"Slow": 50 - len(handled)}
    assert outcome.kept


def test_a_stop_that_was_interrupted_is_finished_by_the_next(feed: Feed, gate: Gate, tmp_path: Path) -> None:
    interrupts = [KeyboardInterrupt]

    def stop(_self: Taker) -> None:
        if interrupts:
            raise interrupts.pop()

    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 2}
    hub = Hub(settings, [gate.consumer(stop=stop, name="Kept")], []).start()
    feed.wait()
    for number in range(5):
        feed.send("shop", number)
    wait_until(lambda: gate.inside.is_set() and hub.consumers[0].incoming.received == 5)
    with pytest.raises(KeyboardInterrupt):
        hub.stop()
    (rows,) = files(tmp_path).values()
    assert said(rows) == [0, 1, 2, 3, 4]
    start = time.monotonic()
    outcome = hub.stop()
    # It does not wait for the first call, which has ended; and what that has kept is still there.
    assert time.monotonic() - start < 4
    assert (outcome.left, outcome.kept) == ({"Kept": 5}, True)
    assert files(tmp_path) == {next(iter(files(tmp_path))): rows}
    assert hub.stop() is outcome


def test_the_rest_is_handled_first_next_time(feed: Feed, gate: Gate, tmp_path: Path) -> None:
    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 0.1}
    with Hub(settings, [gate.consumer()], []) as hub:
        feed.wait()
        for number in range(20):
            feed.send("shop", number)
        wait_until(lambda: hub.consumers[0].incoming.received == 20 and gate.inside.is_set())
        outcome = hub.stop()
    # The one in hand is named, and comes again: nobody knows how far it was.
    assert outcome.left == {"Made": 20}
    (line,) = outcome.stuck
    assert line.startswith("Made has worked for ")
    feed.wait_until_gone()
    gate.open.set()
    with Hub({**settings, "stop_timeout": 5}, [taker()], []) as hub:
        feed.wait()
        feed.send("shop", "new")
        wait_until(lambda: len(hub.consumers[0].taken) == 21)
        assert hub.consumers[0].said == [*range(20), "new"]
        wait_until(lambda: files(tmp_path) == {})


def test_the_stuck_one_is_named_with_its_message(feed: Feed, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    with Hub({**feed.config, "stop_timeout": 0.2}, [gate.consumer(name="Stuck"), taker()], []) as hub:
        feed.wait()
        first = feed.send("shop", 1)
        feed.send("shop", 2)
        wait_until(lambda: hub.consumers[0].incoming.received == 2 and len(hub.consumers[1].taken) == 2)
        wait_until(gate.inside.is_set)
        outcome = hub.stop()
    assert (outcome.left, outcome.kept) == ({"Stuck": 2}, False)
    (line,) = outcome.stuck
    assert line.startswith("Stuck has worked for ")
    assert line.endswith(f"on the message {first['msg_id']}")
    assert line in caplog.text


def test_a_late_return_takes_nothing_away_that_was_kept(feed: Feed, gate: Gate, tmp_path: Path) -> None:
    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 0.1}
    for number in range(2):
        gate.inside.clear()
        with Hub(settings, [gate.consumer(name="Late")], []) as hub:
            feed.wait()
            if number == 0:
                feed.send("shop", 1)
            wait_until(gate.inside.is_set)
            hub.stop()
        feed.wait_until_gone()
        (rows,) = files(tmp_path).values()
        assert said(rows) == [1]
    gate.open.set()
    wait_until(lambda: hub.consumers[0].taken)
    wait_until(lambda: not any(thread.name.startswith("fedmsg-Late") for thread in threading.enumerate()))
    assert len(files(tmp_path)) == 1


def test_one_whose_message_fails_is_not_tried_without_end_while_it_stops(
    feed: Feed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def consume(self: Taker, message: Any) -> None:
        if message["body"]["msg"] == "bad":
            raise ValueError("not now")
        self.taken.append(message)

    settings = {"consume_retries": 1000, "consume_retry_delay": 50.0, "state_directory": str(tmp_path)}
    with Hub({**feed.config, **settings}, [taker(consume=consume)], []) as hub:
        feed.wait()
        for word in ("good", "bad", "good", "bad", "good"):
            feed.send("shop", word)
        wait_until(lambda: hub.consumers[0].incoming.received == 5 and "not now" in caplog.text)
        outcome = hub.stop()
    # Each of the two was tried once, the others were handled, and these are kept.
    assert caplog.text.count("failed in consume()") == 2
    assert hub.consumers[0].said == ["good"] * 3
    assert outcome.left == {"Made": 2}
    (rows,) = files(tmp_path).values()
    assert said(rows) == ["bad", "bad"]


def test_what_was_put_in_by_hand_is_kept_too(feed: Feed, gate: Gate, tmp_path: Path) -> None:
    odd = {"topic": "by.hand", "body": "no envelope"}
    whole = {"topic": "by.hand", "body": {"topic": "by.hand", "msg": 1, "headers": {"a": "b"}}}
    text = json.dumps(whole["body"])
    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 0.1}
    with Hub(settings, [gate.consumer(), gate.consumer(name="Text", jsonify=False)], []) as hub:
        for message in (odd, whole):
            hub.consumers[0].incoming.put(message)
        hub.consumers[1].incoming.put(ZMQMessage("by.hand", text))
        hub.stop()
    gate.open.set()
    with Hub({**settings, "stop_timeout": 5}, [taker(), taker(name="Text", jsonify=False)], []) as hub:
        wait_until(lambda: len(hub.consumers[0].taken) == 2 and hub.consumers[1].taken)
        assert hub.consumers[0].taken == [odd, whole]
        assert [(one.topic, one.body) for one in hub.consumers[1].taken] == [("by.hand", text)]


def test_what_can_not_be_written_down_is_counted_as_lost(
    feed: Feed, gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 0.1}
    with Hub(settings, [gate.consumer()], []) as hub:
        hub.consumers[0].incoming.put({"topic": "by.hand", "body": threading.Lock()})
        hub.consumers[0].incoming.put({"topic": "by.hand", "body": {}})
        outcome = hub.stop()
    assert (outcome.left, outcome.kept) == ({"Made": 2}, False)
    assert "can't be kept" in caplog.text
    assert [len(rows) for rows in files(tmp_path).values()] == [1]


def test_a_state_directory_that_is_none(
    feed: Feed, gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    settings = {**feed.config, "state_directory": str(tmp_path / "file"), "stop_timeout": 0.1}
    with Hub(settings, [gate.consumer()], []) as hub:
        hub.consumers[0].incoming.put({"topic": "by.hand", "body": {}})
        outcome = hub.stop()
    assert (outcome.left, outcome.kept) == ({"Made": 1}, False)
    assert "state_directory: what Made had not handled can't be kept" in caplog.text


def test_the_directory_may_come_from_the_service_manager(
    feed: Feed, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    with Hub({**feed.config, "stop_timeout": 0.1}, [gate.consumer()], []) as hub:
        hub.consumers[0].incoming.put({"topic": "by.hand", "body": {}})
        assert hub.stop().kept
    assert len(files(tmp_path / "one")) == 1


def test_a_file_that_is_cut_off_gives_what_is_whole(
    feed: Feed, tmp_path: Path, caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 0.1}
    with Hub(settings, [gate.consumer()], []) as hub:
        for number in range(3):
            hub.consumers[0].incoming.put({"topic": "by.hand", "body": number})
        hub.stop()
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_text(path.read_text()[:-20] + '\n[]\n{"topic": 1, "body": null}\n')
    with Hub({**settings, "stop_timeout": 5}, [taker()], []) as hub:
        wait_until(lambda: len(hub.consumers[0].taken) == 2)
    assert caplog.text.count("is not a message and is skipped") == 3


def test_stop_is_called_last_and_may_fail(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    def stop(self: Taker) -> None:
        self.taken.append("stopped")
        raise SystemExit("no")

    class Ticker(PollingProducer):
        polls = 0

        def poll(self) -> None:
            type(self).polls += 1

        def stop(self) -> None:
            raise ValueError("no")

    with Hub(feed.config, [taker(stop=stop)], [Ticker]) as hub:
        feed.wait()
        feed.send("shop", 1)
        wait_until(lambda: hub.consumers[0].incoming.received == 1 and Ticker.polls)
        outcome = hub.stop()
    assert outcome.stuck == []
    assert hub.consumers[0].taken[-1] == "stopped"
    assert len(hub.consumers[0].taken) == 2
    assert caplog.text.count("failed in stop()") == 2


def test_a_callback_that_hangs_is_named(feed: Feed, gate: Gate) -> None:
    def hanging(message: Any) -> None:
        gate.inside.set()
        gate.open.wait(30)

    with Hub({**feed.config, "stop_timeout": 0.5}, [taker()], []) as hub:
        hub.subscribe("", hanging)
        feed.wait()
        feed.send("shop", 1)
        wait_until(lambda: gate.inside.is_set() and hub.consumers[0].taken)
        outcome = hub.stop()
        gate.open.set()
        wait_until(lambda: not hub.running)
    (line,) = outcome.stuck
    assert "hanging" in line


def test_a_poll_that_hangs_is_named(feed: Feed, gate: Gate) -> None:
    class Hanging(PollingProducer):
        def poll(self) -> None:
            gate.inside.set()
            gate.open.wait(30)

    with Hub({**feed.config, "stop_timeout": 0.3}, [], [Hanging]) as hub:
        wait_until(gate.inside.is_set)
        outcome = hub.stop()
    assert outcome.stuck == ["Hanging is still in its poll()"]
    gate.open.set()


def test_what_failed_to_start_is_stopped(feed: Feed) -> None:
    ended = []

    def stop(self: Taker) -> None:
        ended.append("consumer")

    def prepare() -> None:
        raise OSError("not today")

    hub = Hub(feed.config, [taker(stop=stop)], [])
    runner_of(hub.consumers[0]).on_start.append(prepare)
    with pytest.raises(OSError, match="not today"):
        hub.start()
    assert ended == ["consumer"]
    assert not hub.running


# ---------------------------------------------------------------- full queues


def test_a_full_queue_holds_up_receiving_and_nothing_is_lost(feed: Feed, gate: Gate) -> None:
    total = 20_000
    with Hub({**feed.config, "consumer_queue_limit": 100}, [gate.consumer(), taker()], []) as hub:
        feed.wait()
        for number in range(total):
            feed.send("shop", number)
        slow, fast = hub.consumers
        wait_until(lambda: slow.incoming.full)
        # What was received at once is over the limit, and no more than that.
        assert slow.incoming.qsize() <= 100 + 1000
        gate.open.set()
        wait_until(lambda: len(slow.taken) == len(fast.taken) == total)
        assert slow.said == fast.said == list(range(total))
        assert slow.totals()["dropped"] == 0


def test_where_that_is_the_policy_the_oldest_are_dropped_and_counted(feed: Feed, gate: Gate) -> None:
    total = 5000
    settings = {**feed.config, "consumer_queue_limit": 100, "consumer_queue_policy": "drop"}
    with Hub(settings, [gate.consumer(), taker(queue_limit=10_000)], []) as hub:
        feed.wait()
        slow, fast = hub.consumers
        feed.send("shop", 0)
        wait_until(gate.inside.is_set)
        for number in range(1, total):
            feed.send("shop", number)
        wait_until(lambda: len(fast.taken) == total)
        assert slow.incoming.qsize() == 100
        gate.open.set()
        assert slow.incoming.join(20)
        totals = slow.totals()
    assert slow.said == [0, *range(total - 100, total)]
    assert totals == {
        "received": total, "dropped": total - 101, "waiting": 0, "handled": 101, "failed": 0, "rejected": 0,
        "retried": 0, "dead": 0,
    }  # fmt: skip


def test_each_consumer_may_have_a_queue_of_its_own(feed: Feed) -> None:
    kinds = [taker(), taker(queue_limit=7), taker(queue_policy="drop", queue_limit=8)]
    with Hub({**feed.config, "consumer_queue_limit": 50}, kinds, []) as hub:
        assert [consumer.incoming.limit for consumer in hub.consumers] == [50, 7, 8]


# ---------------------------------------------------------------- retries and dead letters


class Fragile(Consumer):
    """Fails as often as the message says."""

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.tries: list[Any] = []

    def consume(self, message: Any) -> None:
        """Fail, or not."""
        text = message["body"]["msg"]
        self.tries.append(text["name"])
        # What this try does to the message, the next one does not see.
        assert "spoilt" not in text
        text["spoilt"] = True
        if self.tries.count(text["name"]) <= text["fails"]:
            raise ValueError(f"no {text['name']}")


def test_a_message_that_fails_is_tried_again(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    with Hub({**feed.config, "consume_retries": 3, "consume_retry_delay": 0.001}, [Fragile], []) as hub:
        feed.wait()
        for name, fails in (("a", 0), ("b", 2), ("c", 9), ("d", 3)):
            feed.send("shop", {"name": name, "fails": fails})
        (consumer,) = hub.consumers
        wait_until(lambda: consumer.totals()["handled"] == 3 and consumer.totals()["failed"] == 1)
        # In order: the next is handled when the one before is done with.
        assert consumer.tries == [*"a", *"bbb", *"cccc", *"dddd"]
        assert consumer.totals()["retried"] == 2 + 3 + 3
    assert caplog.text.count("ValueError: no") == 2 + 4 + 3


def test_the_wait_doubles(feed: Feed) -> None:
    waits: list[float] = []

    class StopWaker(Waker):
        def poll(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    hub = Hub({**feed.config, "consume_retries": 9, "consume_retry_delay": 0.5}, [Fragile], [])
    (consumer,) = hub.consumers
    handler = runner_of(consumer).handler
    with StopWaker() as waker:
        handler.start(waker)
        handler.handle({"topic": "t", "body": {"msg": {"name": "x", "fails": 99}}})
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_those_that_fail_for_good_are_kept_and_tried_again_when_told_to(feed: Feed, tmp_path: Path) -> None:
    settings = {**feed.config, "dead_letter_directory": str(tmp_path), "consume_retries": 1, "consume_retry_delay": 0}
    with Hub(settings, [Fragile], []) as hub:
        feed.wait()
        sent = [feed.send("shop", {"name": name, "fails": fails}) for name, fails in (("a", 9), ("b", 0), ("c", 3))]
        wait_until(lambda: sum(hub.consumers[0].totals()[kind] for kind in ("handled", "failed")) == 3)
        assert hub.consumers[0].totals()["dead"] == 2
    ((name, rows),) = files(tmp_path).items()
    assert name == f"{Fragile.__module__}.Fragile.jsonl"
    assert [json.loads(row["body"]) for row in rows] == [sent[0], sent[2]]
    assert [(row["reason"], row["tries"]) for row in rows] == [("ValueError: no a", 2), ("ValueError: no c", 2)]

    # Without being told it leaves them alone.
    with Hub(settings, [Fragile], []) as hub:
        pass
    assert len(files(tmp_path)[name]) == 2

    with Hub(settings, [Fragile], [], retry_dead_letters=True) as hub:
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 2)
    # These fail again, and are there again, once.
    assert [row["reason"] for row in files(tmp_path)[name]] == ["ValueError: no a", "ValueError: no c"]

    with Hub({**settings, "consume_retries": 3}, [Fragile], [], retry_dead_letters=True) as hub:
        wait_until(lambda: sum(hub.consumers[0].totals()[kind] for kind in ("handled", "dead")) == 2)
        assert hub.consumers[0].totals()["handled"] == 1
    assert said(files(tmp_path)[name]) == [{"name": "a", "fails": 9}]
    assert list(files(tmp_path)) == [name]


def test_those_that_there_was_no_time_for_stay_dead_letters(feed: Feed, gate: Gate, tmp_path: Path) -> None:
    def fail(self: Taker, message: Any) -> None:
        raise ValueError("no")

    settings = {
        **feed.config,
        "dead_letter_directory": str(tmp_path / "dead"),
        "state_directory": str(tmp_path / "state"),
        "stop_timeout": 0.2,
    }
    with Hub(settings, [taker(consume=fail)], []) as hub:
        feed.wait()
        for number in range(5):
            feed.send("shop", number)
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 5)
    feed.wait_until_gone()
    with Hub(settings, [gate.consumer()], [], retry_dead_letters=True) as hub:
        wait_until(gate.inside.is_set)
        assert hub.stop().left == {"Made": 5}
    assert [said(rows) for rows in files(tmp_path / "dead").values()] == [list(range(5))]
    assert files(tmp_path / "state") == {}
    gate.open.set()
    with Hub({**settings, "stop_timeout": 5}, [taker()], [], retry_dead_letters=True) as hub:
        wait_until(lambda: len(hub.consumers[0].taken) == 5)
        assert hub.consumers[0].said == list(range(5))
    assert files(tmp_path / "dead") == {}


def test_half_a_line_of_a_crash_costs_no_other_message(
    feed: Feed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**feed.config, "dead_letter_directory": str(tmp_path)}
    with Hub(settings, [Fragile], []) as hub:
        feed.wait()
        feed.send("shop", {"name": "a", "fails": 9})
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 1)
        (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
        with path.open("a") as file:
            file.write(path.read_text()[:40])
        feed.send("shop", {"name": "b", "fails": 9})
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 2)
    with Hub(settings, [Fragile], [], retry_dead_letters=True) as hub:
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 2)
        assert hub.consumers[0].tries == ["a", "b"]
    assert caplog.text.count("is not a message and is skipped") == 1


def test_a_dead_letter_that_can_not_be_written_is_said_to_be_lost(
    feed: Feed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    settings = {**feed.config, "dead_letter_directory": str(tmp_path / "file")}
    with Hub(settings, [Fragile], []) as hub:
        feed.wait()
        feed.send("shop", {"name": "a", "fails": 9})
        wait_until(lambda: hub.consumers[0].totals()["failed"] == 1)
        assert hub.consumers[0].totals()["dead"] == 0
    assert "is lost" in caplog.text


def test_messages_of_many_threads_all_get_there(feed: Feed, tmp_path: Path) -> None:
    settings = {"dead_letter_directory": str(tmp_path), "moksha.workers_per_consumer": 8}

    def fail(self: Taker, message: Any) -> None:
        raise ValueError("no")

    with Hub({**feed.config, **settings}, [taker(consume=fail)], []) as hub:
        feed.wait()
        feed.publish(*(envelope("shop", number) for number in range(200)))
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 200)
    (rows,) = files(tmp_path).values()
    assert sorted(said(rows)) == list(range(200))


def test_a_hub_logs_what_it_begins_with(
    feed: Feed, gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = {**feed.config, "state_directory": str(tmp_path), "stop_timeout": 0.1}
    with Hub(settings, [gate.consumer()], []) as hub:
        hub.consumers[0].incoming.put({"topic": "by.hand", "body": {}})
        hub.stop()
    with Hub(settings, [taker()], []):
        pass
    assert "Made first handles 1 messages spooled by the last run" in caplog.text
