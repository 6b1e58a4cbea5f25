# SPDX-License-Identifier: LGPL-2.1-or-later
"""The queue of a consumer: like queue.Queue, in batches, and with a limit that holds or drops."""

from __future__ import annotations

import queue
import signal
import threading
from types import FrameType
from typing import Any

import pytest

from fedmsg.hub.queue import MessageQueue
from fedmsg.testing import wait_until


def test_what_goes_in_comes_out_in_order() -> None:
    messages = MessageQueue(10)
    for number in range(3):
        messages.put(number)
    messages.put_nowait(3)
    assert (messages.qsize(), messages.empty(), messages.received) == (4, False, 4)
    assert [messages.get(), messages.get_nowait(), messages.get(timeout=1), messages.get(False)] == [0, 1, 2, 3]
    assert messages.empty()


def test_an_empty_one_says_so() -> None:
    messages = MessageQueue(10)
    for arguments in ({"block": False}, {"timeout": 0.01}):
        with pytest.raises(queue.Empty):
            messages.get(**arguments)
    with pytest.raises(queue.Empty):
        messages.get_nowait()


def test_a_full_one_says_so() -> None:
    messages = MessageQueue(2)
    states = []
    for number in (1, 2):
        messages.put(number)
        states.append(messages.full)
    assert states == [False, True]
    with pytest.raises(queue.Full):
        messages.put(3, timeout=0.01)
    with pytest.raises(queue.Full):
        messages.put_nowait(3)
    assert messages.qsize() == messages.received == 2


def test_get_waits_for_what_comes() -> None:
    messages, got = MessageQueue(10), queue.SimpleQueue[Any]()
    threads = [threading.Thread(target=lambda: got.put(messages.get())) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(messages._filled._waiters) == 5)
    messages.put_many(range(5))
    for thread in threads:
        thread.join(10)
    assert sorted(got.get() for _ in range(5)) == list(range(5))


def test_put_waits_for_room() -> None:
    messages = MessageQueue(1)
    messages.put(1)
    thread = threading.Thread(target=messages.put, args=(2,))
    thread.start()
    assert messages.get() == 1
    thread.join(10)
    assert messages.get() == 2


def test_batches() -> None:
    messages = MessageQueue(10)
    # Who fills it in batches never waits: it looks at `full` before.
    messages.put_many(range(25))
    assert messages.full
    assert messages.take(5) == [0, 1, 2, 3, 4]
    assert messages.take(100) == list(range(5, 25))
    assert messages.take(5, timeout=0.01) == []


def test_what_is_given_back_comes_first() -> None:
    messages = MessageQueue(10)
    messages.put_many(range(4))
    taken = messages.take(3)
    messages.give_back(taken[1:])
    assert messages.take(10) == [1, 2, 3]
    messages.put(9)
    messages.put_first([7, 8])
    assert messages.rest() == [7, 8, 9]
    assert messages.received == 5


def test_the_oldest_are_dropped_where_that_is_the_policy() -> None:
    messages = MessageQueue(3, drop=True)
    messages.put_many(range(2))
    messages.put(2)
    messages.put(3)
    messages.put_many(range(4, 10))
    assert not messages.full
    assert (messages.received, messages.dropped, messages.qsize(), messages.unfinished) == (10, 7, 3, 3)
    assert messages.take(10) == [7, 8, 9]


def test_join_waits_until_all_is_done() -> None:
    messages = MessageQueue(10)
    assert messages.join(0.01)
    messages.put_many([1, 2])
    assert not messages.join(0.01)
    assert messages.get() == 1
    messages.task_done()
    assert not messages.join(0.01)
    assert messages.get() == 2
    threading.Timer(0.05, messages.task_done).start()
    assert messages.join(10)
    with pytest.raises(ValueError, match="too many times"):
        messages.task_done()


def test_it_tells_when_there_is_room_again() -> None:
    told: list[str] = []
    messages = MessageQueue(4)
    messages.on_room = lambda: told.append("room")
    messages.put_many(range(10))
    messages.take(3)
    assert told == []
    messages.take(4)
    assert told == ["room"]
    messages.take(10)
    assert told == ["room"]
    # And when nothing is left to do.
    messages.task_done(10)
    assert told == ["room", "room"]


def test_a_wait_can_be_ended() -> None:
    messages, ended = MessageQueue(1), threading.Event()

    def wait() -> None:
        assert messages.take(1) == []
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: len(messages._filled._waiters) == 1)
    messages.wake()
    thread.join(10)
    assert ended.is_set()


def test_queue_goes_on_after_interrupts_of_a_thread_that_waits() -> None:
    messages, stop = MessageQueue(1), threading.Event()

    def take() -> None:
        while not stop.is_set():
            messages.task_done(len(messages.take(1, 0.01)))

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for hit in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.000001 * hit, 0.5)
                while True:
                    messages.put(hit)
                    messages.join()
            except KeyboardInterrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # An interrupt between two steps of a call loses at most what that call put in; no lock stays held.
    other = threading.Thread(target=messages.put, args=("last",), kwargs={"timeout": 10}, daemon=True)
    other.start()
    other.join(10)
    stop.set()
    taker.join(10)
    assert not other.is_alive()
    assert not taker.is_alive()
