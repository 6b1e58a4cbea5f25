# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.transport.zmq.news: a lock, and waiting without it."""

from __future__ import annotations

import threading

from fedmsg.transport.zmq.news import News


def test_what_is_told_after_expecting_is_heard() -> None:
    news = News()
    with news.lock:
        waiter = news.expect()
        news.tell()
    news.wait(waiter, 1000.0)


def test_all_who_wait_are_woken() -> None:
    news = News()
    waiting, woken = threading.Barrier(6), []

    def wait(number: int) -> None:
        with news.lock:
            waiter = news.expect()
        waiting.wait()
        news.wait(waiter, 1000.0)
        woken.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    waiting.wait()
    with news.lock:
        news.tell()
    for thread in threads:
        thread.join()
    assert sorted(woken) == [*range(5)]


def test_who_waited_in_vain_leaves_nothing_behind() -> None:
    news = News()
    for _ in range(3):
        with news.lock:
            waiter = news.expect()
        news.wait(waiter, 0.0)
    assert news._waiters == []
