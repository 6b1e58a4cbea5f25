# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.commands._waiting: items that wait until none has come for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from fedmsg.commands._waiting import Waiting

LONG = 3600.0


@pytest.fixture
def waiting() -> Iterator[Waiting[int]]:
    with Waiting[int](0.0, 0, 1000) as made:
        yield made


def test_waiting_keeps_the_order(waiting: Waiting[int]) -> None:
    for number in range(3):
        waiting.put(number)
    assert [waiting.take() for _ in range(3)] == [0, 1, 2]
    waiting.end()
    assert waiting.take() is None


def test_waiting_waits_until_none_has_come_for_the_delay() -> None:
    with Waiting[int](0.2, 0, 1000) as waiting:
        start = time.monotonic()
        waiting.put(1)
        assert waiting.take() == 1
        assert time.monotonic() - start >= 0.2


def test_waiting_takes_at_once_what_is_more_than_the_most() -> None:
    with Waiting[int](LONG, 2, 1000) as waiting:
        for number in range(3):
            waiting.put(number)
        assert [waiting.take() for _ in range(3)] == [0, 1, 2]
        waiting.put(3)
        waiting.end()
        assert (waiting.take(), waiting.take()) == (3, None)


def test_waiting_makes_the_one_who_brings_too_many_wait() -> None:
    with Waiting[int](LONG, 0, 10) as waiting:
        brought: list[int] = []

        def bring() -> None:
            for number in range(100):
                waiting.put(number)
                brought.append(number)
                assert len(waiting) <= 10
            waiting.end()

        thread = threading.Thread(target=bring)
        thread.start()
        taken = []
        while (item := waiting.take()) is not None:
            taken.append(item)
            assert len(brought) <= len(taken) + 10
        thread.join()
        assert taken == list(range(100))


def test_waiting_wakes_a_worker_at_the_end(waiting: Waiting[int]) -> None:
    taken: list[int | None] = []
    worker = threading.Thread(target=lambda: taken.append(waiting.take()))
    worker.start()
    waiting.end()
    worker.join(20)
    assert taken == [None]
    assert waiting.ends_within(LONG)


def test_waiting_hands_out_the_rest_once() -> None:
    with Waiting[int](LONG, 0, 1000) as waiting:
        assert not waiting.ends_within(0)
        waiting.put(1)
        waiting.put(2)
        waiting.end()
        assert waiting.take() == 1
        assert waiting.rest() == [2]
        assert waiting.rest() == []
        assert waiting.take() is None
