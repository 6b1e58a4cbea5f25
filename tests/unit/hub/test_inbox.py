# SPDX-License-Identifier: LGPL-2.1-or-later
"""The queue of a consumer: like queue.Queue, in batches, and with a limit that holds or drops."""

from __future__ import annotations

import queue
import signal
import threading
from types import FrameType
from typing import Any

import pytest

from fedmsg.hub.queue import Inbox
from fedmsg.testing import wait_until


def test_what_goes_in_comes_out_in_order() -> None:
    inbox = Inbox(10)
    for number in range(3):
        inbox.put(number)
    inbox.put_nowait(3)
    assert (inbox.qsize(), inbox.empty(), inbox.received) == (4, False, 4)
    assert [inbox.get(), inbox.get_nowait(), inbox.get(timeout=1), inbox.get(False)] == [0, 1, 2, 3]
    assert inbox.empty()


def test_an_empty_one_says_so() -> None:
    inbox = Inbox(10)
    for arguments in ({"block": False}, {"timeout": 0.01}):
        with pytest.raises(queue.Empty):
            inbox.get(**arguments)
    with pytest.raises(queue.Empty):
        inbox.get_nowait()


def test_a_full_one_says_so() -> None:
    inbox = Inbox(2)
    states = []
    for number in (1, 2):
        inbox.put(number)
        states.append(inbox.full)
    assert states == [False, True]
    with pytest.raises(queue.Full):
        inbox.put(3, timeout=0.01)
    with pytest.raises(queue.Full):
        inbox.put_nowait(3)
    assert inbox.qsize() == inbox.received == 2


def test_get_waits_for_what_comes() -> None:
    inbox, got = Inbox(10), queue.SimpleQueue[Any]()
    threads = [threading.Thread(target=lambda: got.put(inbox.get())) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(inbox._filled._waiters) == 5)
    inbox.put_many(range(5))
    for thread in threads:
        thread.join(10)
    assert sorted(got.get() for _ in range(5)) == list(range(5))


def test_put_waits_for_room() -> None:
    inbox = Inbox(1)
    inbox.put(1)
    thread = threading.Thread(target=inbox.put, args=(2,))
    thread.start()
    assert inbox.get() == 1
    thread.join(10)
    assert inbox.get() == 2


def test_batches() -> None:
    inbox = Inbox(10)
    # Who fills it in batches never waits: it looks at `full` before.
    inbox.put_many(range(25))
    assert inbox.full
    assert inbox.take(5) == [0, 1, 2, 3, 4]
    assert inbox.take(100) == list(range(5, 25))
    assert inbox.take(5, timeout=0.01) == []


def test_what_is_given_back_comes_first() -> None:
    inbox = Inbox(10)
    inbox.put_many(range(4))
    taken = inbox.take(3)
    inbox.give_back(taken[1:])
    assert inbox.take(10) == [1, 2, 3]
    inbox.put(9)
    inbox.put_first([7, 8])
    assert inbox.rest() == [7, 8, 9]
    assert inbox.received == 5


def test_the_oldest_are_dropped_where_that_is_the_policy() -> None:
    inbox = Inbox(3, drop=True)
    inbox.put_many(range(2))
    inbox.put(2)
    inbox.put(3)
    inbox.put_many(range(4, 10))
    assert not inbox.full
    assert (inbox.received, inbox.dropped, inbox.qsize(), inbox.unfinished) == (10, 7, 3, 3)
    assert inbox.take(10) == [7, 8, 9]


def test_join_waits_until_all_is_done() -> None:
    inbox = Inbox(10)
    assert inbox.join(0.01)
    inbox.put_many([1, 2])
    assert not inbox.join(0.01)
    assert inbox.get() == 1
    inbox.task_done()
    assert not inbox.join(0.01)
    assert inbox.get() == 2
    threading.Timer(0.05, inbox.task_done).start()
    assert inbox.join(10)
    with pytest.raises(ValueError, match="too many times"):
        inbox.task_done()


def test_it_tells_when_there_is_room_again() -> None:
    told: list[str] = []
    inbox = Inbox(4)
    inbox.on_room = lambda: told.append("room")
    inbox.put_many(range(10))
    inbox.take(3)
    assert told == []
    inbox.take(4)
    assert told == ["room"]
    inbox.take(10)
    assert told == ["room"]
    # And when nothing is left to do.
    inbox.task_done(10)
    assert told == ["room", "room"]


def test_a_wait_can_be_ended() -> None:
    inbox, ended = Inbox(1), threading.Event()

    def wait() -> None:
        assert inbox.take(1) == []
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: len(inbox._filled._waiters) == 1)
    inbox.wake()
    thread.join(10)
    assert ended.is_set()


def test_inbox_goes_on_after_interrupts_of_a_thread_that_waits() -> None:
    inbox, stop = Inbox(1), threading.Event()

    def take() -> None:
        while not stop.is_set():
            inbox.task_done(len(inbox.take(1, 0.01)))

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
                    inbox.put(hit)
                    inbox.join()
            except KeyboardInterrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # An interrupt between two steps of a call loses at most what that call put in; no lock stays held.
    other = threading.Thread(target=inbox.put, args=("last",), kwargs={"timeout": 10}, daemon=True)
    other.start()
    other.join(10)
    stop.set()
    taker.join(10)
    assert not other.is_alive()
    assert not taker.is_alive()
