# SPDX-License-Identifier: LGPL-2.1-or-later
"""The runner of a consumer: acknowledgements in order, batches, the spool."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedmsg.exceptions import ConfigError
from fedmsg.hub import Consumer
from fedmsg.hub.consumer import runner_of
from fedmsg.hub.handling import MANY
from fedmsg.hub.runner import ConsumerRunner, RunOutcome
from fedmsg.testing import wait_until
from fedmsg.transport.base import Delivery
from tests.hubs import envelope


class Acked(Delivery):
    """A delivery whose source is acknowledged.

    Args:
        number: What it says.
        fate: Gets what becomes of it.
    """

    __slots__ = ("fate", "number")

    def __init__(self, number: Any, fate: list[Any]) -> None:
        made = envelope("shop", number)
        super().__init__("source", made["topic"].encode(), json.dumps(made).encode())
        self.number = number
        self.fate = fate

    def ack(self) -> None:
        """Note it."""
        self.fate.append(("ack", self.number))

    def nack(self, error: BaseException | None = None, *, requeue: bool = False) -> None:
        """Note it."""
        self.fate.append(("requeue" if requeue else "nack", self.number))


class Base(Consumer):
    """Fails on text, and waits at a number for its gate."""

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.gates: dict[int, threading.Event] = {}
        self.taken: list[Any] = []

    def consume(self, message: Any) -> None:
        """Keep it."""
        word = message["body"]["msg"]
        if isinstance(word, str):
            raise ValueError(word)
        if word in self.gates:
            self.gates[word].wait()
        self.taken.append(word)


class Storing(Base):
    """Takes many at a time."""

    def consume_many(self, messages: list[Any]) -> None:
        """Keep the list; fail for good when there is text in it."""
        words = [message["body"]["msg"] for message in messages]
        for message in messages:
            message["body"]["msg"] = "changed"
        if any(isinstance(word, str) for word in words):
            raise ValueError("all of them")
        self.taken.append(words)


Make = Callable[..., tuple[Any, ConsumerRunner]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Return what makes a consumer and its runner, which is stopped in the end."""
    made: list[ConsumerRunner] = []

    def make(kind: type[Consumer] = Base, folder: Path | None = None, **settings: Any) -> tuple[Any, ConsumerRunner]:
        consumer = kind(SimpleNamespace(config=settings))
        runner = runner_of(consumer)
        runner.load(str(folder) if folder else None, retry_dead_letters=False)
        made.append(runner)
        return consumer, runner

    yield make
    for runner in made:
        runner.stop(time.monotonic() + 5)


def test_runner_acknowledges_in_order_whichever_worker_is_first(make: Make) -> None:
    consumer, runner = make()
    consumer.gates[0] = threading.Event()
    fate: list[Any] = []
    runner.start(workers=4)
    runner.offer([Acked(number, fate) for number in range(20)])
    wait_until(lambda: len(consumer.taken) == 19)
    assert fate == []
    consumer.gates[0].set()
    wait_until(lambda: len(fate) == 20)
    assert fate == [("ack", number) for number in range(20)]


def test_runner_does_not_acknowledge_what_failed(make: Make, tmp_path: Path) -> None:
    fate: list[Any] = []
    _, runner = make()
    runner.start()
    runner.offer([Acked(1, fate), Acked("bad", fate), Acked(2, fate)])
    wait_until(lambda: len(fate) == 3)
    assert fate == [("ack", 1), ("nack", "bad"), ("ack", 2)]
    # As a dead letter it is safe.
    _, runner = make(dead_letter_directory=str(tmp_path))
    runner.start()
    runner.offer([Acked("bad", fate)])
    wait_until(lambda: len(fate) == 4)
    assert fate[3] == ("ack", "bad")


def test_runner_returns_what_it_did_not_handle_to_its_source(make: Make, tmp_path: Path) -> None:
    consumer, runner = make(folder=tmp_path)
    consumer.gates[0] = threading.Event()
    fate: list[Any] = []
    runner.start()
    runner.offer([Acked(number, fate) for number in range(3)])
    wait_until(lambda: runner.queue.qsize() == 2)
    outcome = runner.stop(time.monotonic() + 0.1)
    assert (outcome.left, outcome.lost, len(outcome.stuck)) == (3, 0, 1)
    assert fate == [("requeue", 0), ("requeue", 1), ("requeue", 2)]
    assert not list(tmp_path.rglob("*.jsonl"))
    consumer.gates[0].set()


def test_runner_reports_dropped_messages_to_their_source(make: Make) -> None:
    _, runner = make(consumer_queue_limit=2, consumer_queue_policy="drop")
    fate: list[Any] = []
    runner.offer([Acked(number, fate) for number in range(5)])
    assert fate == [("nack", 0), ("nack", 1), ("nack", 2)]
    runner.start()
    wait_until(lambda: len(fate) == 5)
    assert fate[3:] == [("ack", 3), ("ack", 4)]


# ---------------------------------------------------------------- many at a time


def test_consume_many_gets_batches_and_acknowledges_all(make: Make) -> None:
    consumer, runner = make(Storing)
    fate: list[Any] = []
    runner.offer([Acked(number, fate) for number in range(3000)])
    runner.start()
    wait_until(lambda: len(fate) == 3000)
    assert fate == [("ack", number) for number in range(3000)]
    numbers = [number for one in consumer.taken for number in (one if isinstance(one, list) else [one])]
    assert numbers == list(range(3000))
    assert len(consumer.taken) < 100
    assert consumer.totals()["handled"] == 3000


def test_batches_for_consume_many_grow_while_it_takes_long(make: Make) -> None:
    class Slow(Storing):
        def consume_many(self, messages: list[Any]) -> None:
            # As long as a commit on a busy disk: it does not depend on how many there are.
            threading.Event().wait(0.11)
            super().consume_many(messages)

    consumer, runner = make(Slow)
    runner.offer([Acked(number, []) for number in range(500)])
    runner.start()
    wait_until(lambda: consumer.totals()["handled"] == 500)
    assert max(len(one) for one in consumer.taken if isinstance(one, list)) > 50


def test_no_batch_for_consume_many_is_larger_than_its_limit(make: Make) -> None:
    consumer, runner = make(Storing)
    runner.offer([Acked(number, []) for number in range(3 * MANY)])
    runner.start()
    wait_until(lambda: consumer.totals()["handled"] == 3 * MANY)
    assert max(len(one) for one in consumer.taken if isinstance(one, list)) == MANY


def test_consume_many_that_raises_sends_the_batch_through_consume(make: Make) -> None:
    consumer, runner = make(Storing)
    fate: list[Any] = []
    # The first batches are small.
    runner.offer([Acked(number, fate) for number in [*range(20), "bad", *range(20, 40)]])
    runner.start()
    wait_until(lambda: len(fate) == 41)
    assert [number for kind, number in fate if kind == "nack"] == ["bad"]
    numbers = [number for one in consumer.taken for number in (one if isinstance(one, list) else [one])]
    assert numbers == list(range(40))
    assert (consumer.totals()["handled"], consumer.totals()["failed"]) == (40, 1)


# ---------------------------------------------------------------- what is believed of a file


@pytest.mark.parametrize(("mode", "is_believed"), [(0o640, True), (0o646, False)])
def test_spool_is_believed_only_if_others_can_not_write_it(
    make: Make, tmp_path: Path, mode: int, is_believed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Checked(Base):
        def validate(self, message: Any) -> None:
            raise RuntimeWarning("not valid")

    _, runner = make(Checked, tmp_path)
    runner.queue.put({"topic": "a", "body": envelope("shop", 1)})
    assert runner.stop(time.monotonic() + 1) == RunOutcome(1, 0, [])
    (path,) = tmp_path.rglob("*.jsonl")
    os.chmod(path, mode)
    consumer, runner = make(Checked, tmp_path)
    runner.start()
    wait_until(lambda: sum(consumer.totals()[kind] for kind in ("handled", "rejected")) == 1)
    assert consumer.taken == ([1] if is_believed else [])
    assert ("its messages are checked again" in caplog.text) is not is_believed


def test_spool_of_another_user_is_not_believed(make: Make, tmp_path: Path) -> None:
    _, runner = make(Base, tmp_path)
    runner.queue.put({"topic": "a", "body": {"no": "envelope"}})
    runner.stop(time.monotonic() + 1)
    (path,) = tmp_path.rglob("*.jsonl")
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:  # only root can make a file of another user
        os.chmod(path, 0o646)
    consumer, runner = make(Base, tmp_path)
    runner.start()
    wait_until(lambda: consumer.totals()["rejected"] == 1)
    assert consumer.taken == []


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_spool_is_read_from_a_regular_file_alone(make: Make, tmp_path: Path, kind: str) -> None:
    _, runner = make(Base, tmp_path)
    runner.queue.put({"topic": "a", "body": envelope("shop", 1)})
    runner.stop(time.monotonic() + 1)
    (path,) = tmp_path.rglob("*.jsonl")
    kept = path.rename(tmp_path / "kept")
    if kind == "link":
        path.symlink_to(kept)
    else:
        os.mkfifo(path)  # to open one waits for its writer
    with pytest.raises(ConfigError, match="can't be read"):
        make(Base, tmp_path)
    path.unlink()
    kept.rename(path)
    consumer, runner = make(Base, tmp_path)
    runner.start()
    wait_until(lambda: consumer.taken == [1])


def test_spool_removes_what_a_killed_process_left_half_written(make: Make, tmp_path: Path) -> None:
    _, runner = make(Base, tmp_path)
    runner.queue.put({"topic": "a", "body": envelope("shop", 1)})
    runner.stop(time.monotonic() + 1)
    (path,) = tmp_path.rglob("*.jsonl")
    partial = path.with_name(f".{path.name}.123.abc")
    partial.write_text('{"topic": ')
    consumer, runner = make(Base, tmp_path)
    assert not partial.exists()
    runner.start()
    wait_until(lambda: consumer.taken == [1] and not path.exists())
